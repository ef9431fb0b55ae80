package client

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser"
)

const (
	// firstBackoff and maxBackoff bound the pause before a call is sent again.
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// maxRetryAfter is the longest pause a server may ask for; for longer ones it
	// is up to the caller whether to wait.
	maxRetryAfter = 30 * time.Second
	// maxAnswer is far above the largest answer there is (2200 hours of history, 1 MB).
	maxAnswer = 16 << 20
)

// transport sends the requests of the generated client. It hands back only
// answers that are Purser's and say that the call succeeded; everything else
// is an *Error.
type transport struct {
	http      *http.Client
	server    string
	key       purser.Secret
	userAgent string
	attempts  int
}

// Do sends a request, and again if that helps and does no harm.
func (t *transport) Do(r *http.Request) (*http.Response, error) {
	r.Header.Del("Authorization")
	if !t.key.IsZero() {
		r.Header.Set("Authorization", "Bearer "+t.key.Expose())
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", t.userAgent)

	repeated := false
	for attempt := 1; ; attempt++ {
		resp, failed := t.once(r)
		if failed == nil {
			return resp, nil
		}
		failed.repeated = repeated
		pause, again := backoff(failed, attempt)
		if attempt >= t.attempts || !again || !repeatable(r) {
			return nil, failed
		}
		repeated = repeated || !failed.answered
		if err := t.rewind(r, pause); err != nil {
			return nil, err
		}
	}
}

// rewind waits and makes r ready to be sent again.
func (t *transport) rewind(r *http.Request, pause time.Duration) error {
	select {
	case <-time.After(pause):
	case <-r.Context().Done():
		return givenUp(r.Context())
	}
	if r.GetBody == nil {
		return nil
	}
	body, err := r.GetBody()
	r.Body = body
	return err
}

// repeatable reports whether sending r twice does what sending it once does.
// POST is made so by a name for the change (Idempotency-Key).
func repeatable(r *http.Request) bool {
	return r.Method != http.MethodPost || r.Header.Get("Idempotency-Key") != ""
}

// backoff returns how long to wait before the next attempt; false if there
// should be none. The jitter is full, so that clients who failed together do not
// come back together.
func backoff(e *Error, attempt int) (time.Duration, bool) {
	if !e.temporary || e.RetryAfter > maxRetryAfter {
		return 0, false
	}
	limit := min(maxBackoff, firstBackoff<<(attempt-1))
	return e.RetryAfter + mathrand.N(limit), true //nolint:gosec // nobody gains from guessing it
}

// once sends r and reads the whole answer, so that a connection that breaks in
// the middle of one is noticed while the call can still be repeated.
func (t *transport) once(r *http.Request) (*http.Response, *Error) {
	resp, err := t.http.Do(r)
	if err != nil {
		return nil, t.unreachable(r, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, t.unreachable(r, err)
	case len(body) > maxAnswer:
		return nil, t.foreign(resp, "is longer than any of Purser's.")
	case resp.StatusCode >= 300:
		return nil, t.refused(resp, body)
	case !isJSON(resp):
		return nil, t.foreign(resp, "is not Purser's, for it is not JSON; does this URL lead to Purser?")
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// unreachable is the failure of a request without a complete answer.
func (t *transport) unreachable(r *http.Request, err error) *Error {
	if r.Context().Err() != nil {
		return givenUp(r.Context())
	}
	var (
		wrapped *url.Error
		dial    *net.OpError
		cert    *tls.CertificateVerificationError
	)
	if errors.As(err, &wrapped) {
		err = wrapped.Err // the address is in the message already
	}
	refused := errors.As(err, &dial) && dial.Op == "dial"
	return &Error{
		Message:   fmt.Sprintf("The server at %s cannot be reached: %v.", t.server, err),
		Err:       err,
		temporary: !errors.As(err, &cert),
		answered:  refused, // nothing was sent
	}
}

// foreign is the failure of a call that something else answered.
func (t *transport) foreign(resp *http.Response, what string) *Error {
	return &Error{
		Status:  resp.StatusCode,
		Message: "The answer of " + t.server + " " + what,
	}
}

// refused is the failure that an answer with an error status tells of.
func (t *transport) refused(resp *http.Response, body []byte) *Error {
	e := &Error{
		Status:     resp.StatusCode,
		RequestID:  resp.Header.Get("Purser-Request-Id"),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
		temporary:  passes(resp.StatusCode),
	}
	var told struct {
		Code    string            `json:"code"`
		Message string            `json:"message"`
		Details map[string]string `json:"details"`
	}
	if isJSON(resp) && json.Unmarshal(body, &told) == nil && told.Code != "" && told.Message != "" {
		e.Code, e.Message, e.Details, e.answered = told.Code, told.Message, told.Details, true
		return e
	}
	if target, err := resp.Location(); err == nil {
		e.Message = fmt.Sprintf("The server at %s points to %s://%s instead of answering; if that is where Purser is, use its URL.",
			t.server, target.Scheme, target.Host)
		return e
	}
	e.Message = fmt.Sprintf("The server at %s answered %d %s, and not in Purser's way; a proxy or another program answered in its place.",
		t.server, resp.StatusCode, http.StatusText(resp.StatusCode))
	return e
}

// passes reports whether what a status tells of may pass by itself. 502 and 504
// are a proxy's way to say that it could not reach the server.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func isJSON(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind == "application/json"
}

// retryAfter reads both forms of the header: seconds and a date (RFC 9110,
// section 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		return time.Duration(min(max(0, seconds), math.MaxInt32)) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, at.Sub(now))
}

// newChange names a change, so that the server knows a repetition for one.
func newChange() string { return rand.Text() }
