package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-faster/jx"
	"github.com/ogen-go/ogen/ogenerrors"

	"github.com/purserhq/purser"
)

// Kinds of failure that exist only at the edge, beside those of the domain.
const (
	kindParse       purser.Kind = "httpapi.parse"        // the body is not JSON
	kindMethod      purser.Kind = "httpapi.method"       // the path has no such method
	kindTooLarge    purser.Kind = "httpapi.too_large"    // the body is too long
	kindUnsupported purser.Kind = "httpapi.content_type" // the body is no JSON by its own account
	kindTimeout     purser.Kind = "httpapi.timeout"      // the request did not arrive in time
)

// answer is how a kind of failure looks on the wire.
type answer struct {
	status int
	code   string
	// message is for failures that bring none.
	message string
	// retryAfter is for failures that pass by themselves and do not say when.
	retryAfter time.Duration
}

// answers is the one table from kinds of failure to the wire. Clients of the
// hosted API know these codes and no others (docs/clients.md, quirk 3).
var answers = map[purser.Kind]answer{
	purser.KindInvalid:            {status: http.StatusBadRequest, code: "BAD_REQUEST", message: "The request is not valid."},
	purser.KindUnauthenticated:    {status: http.StatusUnauthorized, code: "UNAUTHORIZED"},
	purser.KindPermissionDenied:   {status: http.StatusForbidden, code: "FORBIDDEN", message: "Your API key does not allow this."},
	purser.KindNotFound:           {status: http.StatusNotFound, code: "NOT_FOUND", message: "There is no such thing in your team."},
	purser.KindConflict:           {status: http.StatusConflict, code: "CONFLICT", message: "This contradicts what is stored."},
	purser.KindPreconditionFailed: {status: http.StatusPreconditionFailed, code: "PRECONDITION_FAILED", message: "It has changed since you read it; read it again and decide anew."},
	purser.KindTooMany:            {status: http.StatusTooManyRequests, code: "TOO_MANY_REQUESTS", message: "Too many requests; try again later.", retryAfter: time.Second},
	purser.KindUnavailable:        {status: http.StatusServiceUnavailable, code: "INTERNAL_SERVER_ERROR", message: "The server cannot do this right now; try again later.", retryAfter: 5 * time.Second},
	purser.KindCanceled:           {status: 499, code: "CLIENT_CLOSED_REQUEST", message: "The request was given up before it was answered."},
	purser.KindInternal:           {status: http.StatusInternalServerError, code: "INTERNAL_SERVER_ERROR"},

	kindParse:       {status: http.StatusBadRequest, code: "PARSE_ERROR"},
	kindMethod:      {status: http.StatusMethodNotAllowed, code: "METHOD_NOT_SUPPORTED"},
	kindTooLarge:    {status: http.StatusRequestEntityTooLarge, code: "PAYLOAD_TOO_LARGE"},
	kindUnsupported: {status: http.StatusUnsupportedMediaType, code: "BAD_REQUEST"},
	kindTimeout:     {status: http.StatusRequestTimeout, code: "TIMEOUT"},
}

// Failures of the edge that are always the same.
var (
	errNoRoute = &purser.Error{
		Kind: purser.KindNotFound, Op: "httpapi.route",
		Message: "There is no such path; GET " + Prefix + "/openapi.json lists those there are.",
	}
	errMethod = &purser.Error{
		Kind: kindMethod, Op: "httpapi.route",
		Message: "This path does not support this method; the Allow header lists those it does.",
	}
	errUnauthenticated = &purser.Error{Kind: purser.KindUnauthenticated, Op: "httpapi.authenticate"}
	errTooLarge        = &purser.Error{
		Kind: kindTooLarge, Op: "httpapi.body",
		Message: fmt.Sprintf("The body must be at most %d bytes.", maxBody),
	}
	errContentType = &purser.Error{
		Kind: kindUnsupported, Op: "httpapi.body",
		Message: "The body must be JSON in UTF-8; send it with Content-Type: application/json.",
	}
	errTimeout = &purser.Error{
		Kind: kindTimeout, Op: "httpapi.body",
		Message: "The body did not arrive in time; send the request again.",
	}
	errContract = &purser.Error{
		Kind: purser.KindInvalid, Op: "httpapi.decode",
		Message: "The request does not fit the description of the API; see " + Prefix + "/openapi.json.",
	}
)

// unauthenticatedMessage is for all keys that do not count: whoever guesses
// keys must not learn from the answer how far off a guess is.
const unauthenticatedMessage = "A valid API key is needed; send it as Authorization: Bearer KEY."

// classify returns err as the domain describes failures. What is not an
// *purser.Error is internal: its text is never shown.
func classify(ctx context.Context, err error) *purser.Error {
	var (
		known  *purser.Error
		params *ogenerrors.DecodeParamsError
		body   *ogenerrors.DecodeRequestError
		key    *ogenerrors.SecurityError
	)
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &purser.Error{Kind: purser.KindCanceled, Op: "httpapi", Err: err}
	case errors.As(err, &known):
		return known
	case errors.As(err, &params), errors.As(err, &body):
		// The contract was checked before ogen decoded, so this is a disagreement
		// between the two. The error is not kept: it may hold the body.
		return errContract
	case errors.As(err, &key):
		return errUnauthenticated
	case errors.Is(err, context.DeadlineExceeded):
		return &purser.Error{Kind: purser.KindUnavailable, Op: "httpapi", Err: err}
	}
	return &purser.Error{Kind: purser.KindInternal, Op: "httpapi", Err: err}
}

// fail answers err by the table and logs it, once.
func (s *Server) fail(x *exchange, c *call, err error) {
	e := classify(c, err)
	a, listed := answers[e.Kind]
	if !listed {
		a = answers[purser.KindInternal]
	}
	s.logError(c, e, a.status)

	x.reset()
	header := x.Header()
	message := e.Message
	switch {
	case a.status == http.StatusUnauthorized:
		header["Www-Authenticate"] = bearer
		message = unauthenticatedMessage
	case a.status == http.StatusInternalServerError:
		message = "Something went wrong on our side; if it happens again, report it with the request id " + c.id + "."
	case a.status == http.StatusRequestEntityTooLarge, a.status == http.StatusRequestTimeout:
		header.Set("Connection", "close") // what is left of the body is nobody's business
	case message == "":
		message = a.message
	}
	if wait := cmp.Or(e.RetryAfter, a.retryAfter); a.retryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	header["Content-Type"] = contentTypeJSON
	x.WriteHeader(a.status)
	details := e.Details
	if c.strictClient {
		details = nil // it takes any field it does not know for a crash (docs/clients.md, quirk 2)
	}
	x.writeError(a.code, message, details)
}

// writeError writes the body of an error, with details in a fixed order.
func (x *exchange) writeError(code, message string, details purser.Faults) {
	var e jx.Encoder
	e.ObjStart()
	e.FieldStart("code")
	e.Str(code)
	e.FieldStart("message")
	e.Str(message)
	if len(details) > 0 {
		e.FieldStart("details")
		e.ObjStart()
		for _, pointer := range slices.Sorted(maps.Keys(details)) {
			e.FieldStart(pointer)
			e.Str(details[pointer])
		}
		e.ObjEnd()
	}
	e.ObjEnd()
	x.body = append(x.body, e.Bytes()...)
}

// logError writes the one line an error gets: failures of ours at error, the
// callers' own at debug.
func (s *Server) logError(c *call, e *purser.Error, status int) {
	level := slog.LevelDebug
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	if !s.log.Enabled(c, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id),
		slog.String("route", c.route()),
		slog.Int("status", status),
		slog.String("op", e.Op),
		slog.String("error", e.Error()),
	}
	var p *panicError
	if errors.As(e, &p) {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	s.log.LogAttrs(c, level, "request failed", attrs...)
}

// panicError is a panic that was caught, on its way to the log.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }
