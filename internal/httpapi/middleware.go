package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
)

// Header values that never change are shared by all answers: net/http only
// reads them.
var (
	noStore         = []string{"no-store"}
	noSniff         = []string{"nosniff"}
	bearer          = []string{"Bearer"}
	contentTypeJSON = []string{"application/json; charset=utf-8"}
)

// requestIDHeader is on every answer. What clients send under this name is
// ignored: an id of their choice in our log would be theirs to forge.
const requestIDHeader = "Purser-Request-Id"

// strictClient is the x-client whose quirks are lived with (docs/clients.md).
const strictClient = "paperspace-cli"

// call is one request on its road. It is the context that handlers get, so that
// what the road knows is one step away from them.
type call struct {
	context.Context
	id           string
	op           *operation // nil when the route is unknown
	strictClient bool
	wantsCSV     bool           // where there is a choice
	principal    auth.Principal // zero when there is none
	after        purser.Position
	// err is what ogen or a handler reported; it is answered when they are done.
	err error
	// values backs the headers that differ from answer to answer.
	values [2]string
}

type callKey struct{}

// Value finds the call itself, and otherwise what its parent context carries.
func (c *call) Value(key any) any {
	if _, own := key.(callKey); own {
		return c
	}
	return c.Context.Value(key)
}

// callFrom returns the call that ctx descends from.
func callFrom(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// route names what was asked for, for logs and metrics.
func (c *call) route() string {
	if c.op == nil {
		return NoOperation
	}
	return c.op.id
}

// exchange holds an answer back until it is complete: a failure in the middle
// can still become a proper error, and the length is known. Exchanges are
// pooled; nothing keeps one beyond its request.
type exchange struct {
	w      http.ResponseWriter
	status int
	body   []byte
}

var exchanges = sync.Pool{New: func() any { return &exchange{body: make([]byte, 0, 4<<10)} }}

// keptBuffer is the largest buffer that goes back to the pool: a page of 120
// providers fits.
const keptBuffer = 128 << 10

func (x *exchange) Header() http.Header { return x.w.Header() }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
}

func (x *exchange) Write(p []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	x.body = append(x.body, p...)
	return len(p), nil
}

// reset takes back what was answered so far, so that an error can be answered.
func (x *exchange) reset() {
	x.status, x.body = 0, x.body[:0]
	header := x.Header()
	for _, name := range []string{"Etag", "Purser-Measured-At", "Purser-Usage-State"} {
		delete(header, name)
	}
}

// send gives the answer to the client.
func (x *exchange) send(c *call) {
	header := x.Header()
	// ogen adds this for browsers of other origins, which are not let in anyway.
	delete(header, "Access-Control-Expose-Headers")
	if x.status != http.StatusNoContent {
		c.values[1] = strconv.Itoa(len(x.body))
		header["Content-Length"] = c.values[1:2:2]
	}
	x.w.WriteHeader(x.status)
	if len(x.body) > 0 {
		_, _ = x.w.Write(x.body) // a client that is gone is not an event
	}
}

// ServeHTTP takes a request down the road.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	x := exchanges.Get().(*exchange)
	x.w, x.status, x.body = w, 0, x.body[:0]
	c := &call{Context: r.Context(), id: newRequestID()}
	c.strictClient = r.Header.Get("X-Client") == strictClient
	c.wantsCSV = prefersCSV(r.Header["Accept"])

	header := w.Header()
	c.values[0] = c.id
	header[requestIDHeader] = c.values[0:1:1]
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff

	if err := s.guard(x, c, r); err != nil {
		s.fail(x, c, err)
	}
	x.send(c)

	status, size := x.status, len(x.body)
	x.w = nil
	if cap(x.body) <= keptBuffer {
		exchanges.Put(x)
	}
	s.done(c, r, status, size, time.Since(start))
}

// guard turns a panic anywhere below into an error.
func (s *Server) guard(x *exchange, c *call, r *http.Request) (err error) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler: // asks for exactly this
			panic(v)
		default:
			err = &purser.Error{Kind: purser.KindInternal, Op: "httpapi." + c.route(), Err: &panicError{v, debug.Stack()}}
		}
	}()
	return s.serve(x, c, r)
}

// serve is the road from the route to the handler. The order is settled: a
// request without a valid key is not read any further, and a faulty one is
// refused before anybody looks for the object it names.
func (s *Server) serve(x *exchange, c *call, r *http.Request) error {
	path, err := s.route(x, c, r)
	if err != nil || x.status != 0 {
		return err
	}
	token, err := s.authenticate(c, r)
	if err != nil {
		return err
	}
	body, hash, err := s.check(c, r, path)
	if err != nil {
		return err
	}

	request := purser.Request{ID: c.id, SourceAddress: sourceAddress(r.RemoteAddr), BodyHash: hash}
	if c.op.method == http.MethodPost {
		request.IdempotencyKey = r.Header.Get("Idempotency-Key")
	}
	c.Context = purser.WithRequest(c.Context, request)
	if token {
		c.Context = auth.WithPrincipal(c.Context, c.principal)
	}
	inner := r.WithContext(c)
	inner.Method = c.op.method
	inner.URL = path
	if body != nil {
		inner.Body, inner.ContentLength = body, int64(body.Len())
	}
	s.routes.ServeHTTP(x, inner)
	if c.err == nil && x.status == 0 {
		return errors.New("the handler answered nothing")
	}
	return c.err
}

// route finds the operation and returns the address to serve it under. It
// answers OPTIONS itself.
func (s *Server) route(x *exchange, c *call, r *http.Request) (*url.URL, error) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves the body out
	}
	path := trimSlash(r.URL)
	if route, found := s.routes.FindPath(method, path); found {
		c.op = s.contract.operations[route.OperationID()]
		for _, id := range route.Args() {
			// No object has an id of another form. Such a one goes down the road as
			// one that nobody has, so that it is answered like any unknown id and no
			// odd character ever reaches a store.
			if !purser.ValidID(id) {
				path = &url.URL{Path: strings.Replace(c.op.path, "{id}", malformedID, 1), RawQuery: path.RawQuery}
			}
		}
		return path, nil
	}
	allow := s.allowed(path)
	if allow == "" {
		return nil, errNoRoute
	}
	x.Header().Set("Allow", allow)
	if method != http.MethodOptions {
		return nil, errMethod
	}
	x.WriteHeader(http.StatusNoContent)
	return nil, nil
}

// malformedID stands for every id that is none.
const malformedID = "malformed"

// cleanID returns id if it has the form of one.
func cleanID(id string) string {
	if purser.ValidID(id) {
		return id
	}
	return malformedID
}

// allowed lists the methods that path has; "" if there is no such path.
func (s *Server) allowed(path *url.URL) string {
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if _, found := s.routes.FindPath(method, path); !found {
			continue
		}
		methods = append(methods, method)
		if method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	if len(methods) == 0 {
		return ""
	}
	return strings.Join(append(methods, http.MethodOptions), ", ")
}

// trimSlash returns u without one slash at the end of its path.
func trimSlash(u *url.URL) *url.URL {
	if len(u.Path) < 2 || u.Path[len(u.Path)-1] != '/' || u.RawPath != "" {
		return u
	}
	trimmed := *u
	trimmed.Path = u.Path[:len(u.Path)-1]
	return &trimmed
}

// authenticate finds out who is asking and reports whether there is anybody.
func (s *Server) authenticate(c *call, r *http.Request) (bool, error) {
	if !c.op.takesKey {
		return false, nil
	}
	values := r.Header["Authorization"]
	if len(values) == 0 && !c.op.needsKey {
		return false, nil
	}
	if len(values) != 1 {
		return false, errUnauthenticated
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return false, errUnauthenticated
	}
	principal, err := s.verifier.Verify(c, strings.TrimSpace(token))
	if err != nil {
		return false, err
	}
	c.principal = principal
	return true, nil
}

// done writes the access log and the metrics. Neither ever holds a path, a
// query, a body or a key.
func (s *Server) done(c *call, r *http.Request, status, size int, duration time.Duration) {
	if s.observe != nil {
		s.observe(c.route(), status, duration)
	}
	if !s.log.Enabled(c, slog.LevelInfo) {
		return
	}
	s.log.LogAttrs(c, slog.LevelInfo, "request",
		slog.String("request_id", c.id),
		slog.String("method", knownMethod(r.Method)),
		slog.String("route", c.route()),
		slog.Int("status", status),
		slog.Int("bytes", size),
		slog.Duration("duration", duration),
		slog.String("key", string(c.principal.KeyID)),
		slog.String("team", string(c.principal.TeamID)),
	)
}

// knownMethod keeps what clients make up out of the log.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// sourceAddress is the host of the peer that is really connected. Forwarded
// headers are not looked at: anyone can write them.
func sourceAddress(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// newRequestID returns 16 hexadecimal digits of chance.
func newRequestID() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: the runtime ends the process instead
	var digits [16]byte
	hex.Encode(digits[:], random[:])
	return string(digits[:])
}
