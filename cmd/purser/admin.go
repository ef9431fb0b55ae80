package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// readiness tells whether the server should get requests. It does not depend on
// any bucket: a store that is down is its team's trouble, not the server's.
type readiness struct {
	draining atomic.Bool
	database func(context.Context) error
}

// check returns what is in the way, by name; nil values are fine.
func (r *readiness) check(ctx context.Context) map[string]error {
	var draining error
	if r.draining.Load() {
		draining = fmt.Errorf("shutting down")
	}
	var database error
	if err := r.database(ctx); err != nil {
		// What a database says of itself is for the log, not for whoever asks here.
		database = fmt.Errorf("does not answer")
	}
	return map[string]error{"serving": draining, "database": database}
}

// newAdminHandler serves what operators and their machines look at, on a
// listener of its own: it must answer when the other one is swamped, and it
// needs no key because it says nothing about teams.
func newAdminHandler(ready *readiness, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		answerReady(w, r.URL.Query().Has("verbose"), ready.check(ctx))
	})
	return mux
}

func answerReady(w http.ResponseWriter, verbose bool, checks map[string]error) {
	status, report := http.StatusOK, ""
	for _, name := range []string{"serving", "database"} {
		result := "ok"
		if err := checks[name]; err != nil {
			status, result = http.StatusServiceUnavailable, err.Error()
		}
		report += name + ": " + result + "\n"
	}
	w.WriteHeader(status)
	switch {
	case verbose:
		_, _ = io.WriteString(w, report)
	case status == http.StatusOK:
		_, _ = io.WriteString(w, "ok\n")
	default:
		_, _ = io.WriteString(w, "not ready; see /readyz?verbose\n")
	}
}
