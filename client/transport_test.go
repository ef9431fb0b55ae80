package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

// step is what comes of one attempt.
type step struct {
	err        error
	status     int
	body       string
	kind       string // content type; JSON if empty
	retryAfter string
}

var (
	lost    = step{err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}}
	refused = step{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	gateway = step{status: http.StatusBadGateway, kind: "text/html", body: "<h1>Bad Gateway</h1>"}
	busy    = step{status: http.StatusServiceUnavailable, body: `{"code":"INTERNAL_SERVER_ERROR","message":"Busy."}`}
	slow    = step{status: http.StatusTooManyRequests, body: `{"code":"TOO_MANY_REQUESTS","message":"Slow down."}`, retryAfter: "3"}
	broken  = step{status: http.StatusInternalServerError, body: `{"code":"INTERNAL_SERVER_ERROR","message":"Broken."}`}
	missing = step{status: http.StatusNotFound, body: `{"code":"NOT_FOUND","message":"None."}`}
	changed = step{status: http.StatusPreconditionFailed, body: `{"code":"PRECONDITION_FAILED","message":"Changed."}`}
	cut     = step{status: http.StatusOK, body: "\x00cut"}
	good    = step{status: http.StatusOK, body: teamJSON}
	gone    = step{status: http.StatusOK, body: `{"id":"key000000000001"}`}
)

// scripted is a server that plays steps; the last one is repeated.
type scripted struct {
	steps    []step
	attempts int
	names    map[string]bool // of the changes
	bodies   map[string]bool
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	now := s.steps[min(s.attempts, len(s.steps)-1)]
	s.attempts++
	if s.names == nil {
		s.names, s.bodies = map[string]bool{}, map[string]bool{}
	}
	s.names[r.Header.Get("Idempotency-Key")] = true
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		s.bodies[string(body)] = true
	}
	if now.err != nil {
		return nil, now.err
	}
	header := http.Header{"Content-Type": {"application/json"}, "Purser-Request-Id": {"r1"}}
	if now.kind != "" {
		header.Set("Content-Type", now.kind)
	}
	if now.retryAfter != "" {
		header.Set("Retry-After", now.retryAfter)
	}
	var body io.Reader = strings.NewReader(now.body)
	if now.body == cut.body {
		body = io.MultiReader(strings.NewReader(`{"id":`), errorReader{})
	}
	return &http.Response{StatusCode: now.status, Header: header, Body: io.NopCloser(body), Request: r}, nil
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func play(t *testing.T, steps ...step) (*client.Client, *scripted) {
	t.Helper()
	s := &scripted{steps: steps}
	c, err := client.New(client.Config{URL: "http://purser.test", APIKey: purser.NewSecret(key), HTTPClient: &http.Client{Transport: s}})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func get(ctx context.Context, c *client.Client) error { _, err := c.GetTeam(ctx, team.ID); return err }

func create(ctx context.Context, c *client.Client) error {
	_, err := c.CreateTeam(ctx, purser.TeamDraft{Name: "Vision", Namespace: "vision"})
	return err
}

func update(ctx context.Context, c *client.Client) error {
	_, err := c.UpdateTeam(ctx, team.ID, purser.TeamDraft{Name: "Vision", Namespace: "vision"})
	return err
}

func change(ctx context.Context, c *client.Client) error {
	_, _, err := c.UpdateProvider(ctx, provider.ID, draft, client.IfMatch(`"1"`))
	return err
}

func revoke(ctx context.Context, c *client.Client) error { return c.RevokeKey(ctx, apiKey.ID) }

func TestRetries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		call     func(context.Context, *client.Client) error
		steps    []step
		attempts int
		// least and most bound the time it takes.
		least, most time.Duration
		message     string // "" for success
	}{
		{"a busy server is asked again", get, []step{busy, busy, good}, 3, 0, 600 * time.Millisecond, ""},
		{"a lost connection is made again", get, []step{lost, good}, 2, 0, 200 * time.Millisecond, ""},
		{"an answer that is cut short is asked for again", get, []step{cut, good}, 2, 0, 200 * time.Millisecond, ""},
		{"a refused connection is made again", update, []step{refused, good}, 2, 0, 200 * time.Millisecond, ""},
		{"a proxy without a server is asked again", update, []step{gateway, good}, 2, 0, 200 * time.Millisecond, ""},
		{"a creation is repeated under its name", create, []step{lost, busy, good}, 3, 0, 600 * time.Millisecond, ""},
		{"the server's wish to wait is obeyed", get, []step{slow, slow, good}, 3, 6 * time.Second, 6600 * time.Millisecond, ""},
		{"attempts are counted", get, []step{busy}, 4, 0, 1400 * time.Millisecond, "Busy."},
		{"a fault of the server is not tried twice", get, []step{broken, good}, 1, 0, 0, "Broken."},
		{"what is not there is not asked for twice", get, []step{missing, good}, 1, 0, 0, "None."},
		{
			"a long wait is left to the caller", get,
			[]step{{status: http.StatusTooManyRequests, body: slow.body, retryAfter: "31"}, good},
			1, 0, 0, "Slow down.",
		},
		{
			"a wrong certificate does not get better", get,
			[]step{{err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}},
			1, 0, 0,
			"The server at http://purser.test cannot be reached: tls: failed to verify certificate: x509: certificate signed by unknown authority.",
		},
		{
			"nobody listens", get,
			[]step{refused},
			4, 0, 1400 * time.Millisecond,
			"The server at http://purser.test cannot be reached: dial: connection refused.",
		},

		{
			"a change under a condition that was lost is in doubt", change,
			[]step{lost, changed},
			2, 0, 200 * time.Millisecond,
			"The provider has changed, perhaps by this very request: the answer to its first attempt was lost. Read it again.",
		},
		{"a change under a condition that fails has not happened", change, []step{changed}, 1, 0, 0, "Changed."},
		{"a deletion whose answer was lost has happened", revoke, []step{lost, missing}, 2, 0, 200 * time.Millisecond, ""},
		{"a deletion that a proxy lost has happened", revoke, []step{gateway, busy, missing}, 3, 0, 600 * time.Millisecond, ""},
		{"a deletion that was refused has not", revoke, []step{busy, missing}, 2, 0, 200 * time.Millisecond, "None."},
		{"a deletion that was never sent has not", revoke, []step{refused, missing}, 2, 0, 200 * time.Millisecond, "None."},
		{"a deletion is repeated", revoke, []step{lost, gone}, 2, 0, 200 * time.Millisecond, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c, server := play(t, test.steps...)
				begin := time.Now()
				err := test.call(t.Context(), c)
				if took := time.Since(begin); took < test.least || took > test.most {
					t.Errorf("it took %v, want %v to %v", took, test.least, test.most)
				}
				if server.attempts != test.attempts {
					t.Errorf("%d attempts, want %d", server.attempts, test.attempts)
				}
				if len(server.names) != 1 || len(server.bodies) > 1 {
					t.Errorf("the attempts differ: names %v, bodies %v", server.names, server.bodies)
				}
				checkMessage(t, err, test.message)
			})
		})
	}
}

func checkMessage(t *testing.T, err error, message string) {
	t.Helper()
	var e *client.Error
	switch {
	case message == "" && err != nil:
		t.Errorf("failed: %v", err)
	case message != "" && !errors.As(err, &e):
		t.Errorf("the error is %T, %v", err, err)
	case message != "" && e.Message != message:
		t.Errorf("the message is %q, want %q", e.Message, message)
	}
}

func TestRetryObeysItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, server := play(t, slow)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := get(ctx, c)
		if !errors.Is(err, context.DeadlineExceeded) || server.attempts != 1 {
			t.Errorf("%d attempts, then %v", server.attempts, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, server := play(t, step{err: context.Canceled})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := get(ctx, c); !errors.Is(err, context.Canceled) || server.attempts > 1 {
			t.Errorf("%d attempts, then %v", server.attempts, err)
		}
	})
}

func TestAttemptsCanBeForbidden(t *testing.T) {
	t.Parallel()
	server := &scripted{steps: []step{busy, good}}
	c, err := client.New(client.Config{URL: "http://purser.test", HTTPClient: &http.Client{Transport: server}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context(), c); err == nil || server.attempts != 1 {
		t.Errorf("%d attempts, then %v", server.attempts, err)
	}
}

func TestErrorSaysWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	c, _ := play(t, step{
		status: http.StatusBadRequest,
		body:   `{"code":"BAD_REQUEST","message":"name: is required","details":{"/name":"is required"}}`,
	})
	err := create(t.Context(), c)
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e.Status != http.StatusBadRequest || e.Code != "BAD_REQUEST" || e.RequestID != "r1" || e.Temporary() {
		t.Errorf("got %+v", e)
	}
	if diff := cmp.Diff(map[string]string{"/name": "is required"}, e.Details); diff != "" {
		t.Error(diff)
	}
}

func TestErrorKeepsLongWaits(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for header, want := range map[string]time.Duration{"3600": time.Hour, at: time.Hour, "-1": 0, "soon": 0, "99999999999": 1<<31*time.Second - time.Second} {
		server := &scripted{steps: []step{{status: http.StatusTooManyRequests, body: slow.body, retryAfter: header}}}
		c, err := client.New(client.Config{URL: "http://purser.test", HTTPClient: &http.Client{Transport: server}, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		var e *client.Error
		if err := get(t.Context(), c); !errors.As(err, &e) {
			t.Fatal(err)
		}
		if difference := want - e.RetryAfter; difference < 0 || difference > 2*time.Second {
			t.Errorf("Retry-After %q: got %v, want %v", header, e.RetryAfter, want)
		}
	}
}

func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		step    step
		message string
	}{
		{"a page", step{status: 200, kind: "text/html", body: "<html>"}, "The answer of http://purser.test is not Purser's, for it is not JSON; does this URL lead to Purser?"},
		{"nothing", step{status: 204, kind: "-"}, "The answer of http://purser.test is not Purser's, for it is not JSON; does this URL lead to Purser?"},
		{"other JSON", step{status: 200, body: `{"hello":"psr_key"}`}, "The server's answer does not fit the description of the API; client and server are probably of different versions."},
		{"half of JSON", step{status: 200, body: `{"id":"psr_key`}, "The server's answer does not fit the description of the API; client and server are probably of different versions."},
		{"an absurd cost", step{status: 200, body: strings.Replace(scanJSON, "0.000005", "5e-6", 1)}, "The server's answer does not fit the description of the API; client and server are probably of different versions."},
		{"an absurd amount", step{status: 200, body: strings.Replace(teamJSON, "1099511627776", "-1", 1)}, "The server's answer does not fit the description of the API; client and server are probably of different versions."},
		{"very much", step{status: 200, body: strings.Repeat(" ", 17<<20)}, "The answer of http://purser.test is longer than any of Purser's."},
		{"a proxy's refusal", step{status: 403, kind: "text/html", body: "<h1>secret detail</h1>"}, "The server at http://purser.test answered 403 Forbidden, and not in Purser's way; a proxy or another program answered in its place."},
		{"JSON of another program's", step{status: 400, body: `{"error":"psr_key"}`}, "The server at http://purser.test answered 400 Bad Request, and not in Purser's way; a proxy or another program answered in its place."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _ := play(t, test.step)
			checkMessage(t, get(t.Context(), c), test.message)
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the stranger was asked, with key %q", r.Header.Get("Authorization"))
	}))
	defer stranger.Close()
	c := connect(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, stranger.URL+"/v1/teams?x=1", http.StatusTemporaryRedirect)
	})
	checkMessage(t, get(t.Context(), c), "The server at "+c.URL()+" points to "+stranger.URL+" instead of answering; if that is where Purser is, use its URL.")
}

func TestWithoutKeyNoneIsSent(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, sent := r.Header["Authorization"]; sent {
			t.Errorf("sent %q", got)
		}
		answer(w, http.StatusUnauthorized, `{"code":"UNAUTHORIZED","message":"A key is needed."}`)
	}))
	defer server.Close()
	c, err := client.New(client.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t.Context(), c); !client.IsDenied(err) || client.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestWaitScan(t *testing.T) {
	t.Parallel()
	running := step{status: 200, body: strings.Replace(treeScanJSON, "queued", "running", 1)}
	synctest.Test(t, func(t *testing.T) {
		c, _ := play(t, step{status: 200, body: treeScanJSON}, running, busy, running, step{status: 200, body: scanJSON})
		var states []purser.ScanState
		got, err := c.WaitScan(t.Context(), scan.ID, func(s purser.Scan) { states = append(states, s.State) })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(scan, got); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]purser.ScanState{"queued", "running", "running", "done"}, states); diff != "" {
			t.Error(diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, server := play(t, running)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.WaitScan(ctx, scan.ID, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if server.attempts < 30 || server.attempts > 50 {
			t.Errorf("looked %d times in a minute", server.attempts)
		}
	})
}
