package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/purserhq/purser"
)

// Limits of the listeners. Go's own defaults are none, which lets a client that
// never finishes anything hold a connection for ever.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	maxConnections    = 12_000
	drainTimeout      = 25 * time.Second
)

func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &purser.Error{
			Kind: purser.KindUnavailable, Op: "serve.listen", Err: err,
			Message: fmt.Sprintf("cannot listen on %s; is another server running there? Choose another address with %s (port 0 picks a free one)", address, flag),
		}
	}
	return l, nil
}

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients' faults
	}
}

// serveUntil serves until ctx ends, then finishes the requests that are being
// answered.
func serveUntil(ctx context.Context, server *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- ignoreClosed(server.Serve(l)) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(err, server.Close(), <-done)
	}
	return <-done
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
