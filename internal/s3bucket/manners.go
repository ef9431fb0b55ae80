package s3bucket

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// How many requests are under way at once. The first figures are for one
// endpoint; S3 takes 5,500 a second for each prefix, which sixteen at once stay
// far below.
const (
	firstAtOnce = 4
	mostAtOnce  = 16
	// mostOfProcess is for all endpoints together.
	mostOfProcess = 64
	// slowdown is how many times the quickest answers an answer may take before it
	// counts as a sign that requests wait for each other.
	slowdown = 4
	// pauseThrottled is how long an endpoint is left alone that asks for fewer
	// requests and does not say for how long.
	pauseThrottled = 500 * time.Millisecond
	// longestRest bounds how long requests wait here; a scan that has to wait longer
	// gives its worker back.
	longestRest = 20 * time.Second
	// keepLarge is how long memory is kept for one more large answer.
	keepLarge = 5 * time.Second
)

// gates keep the manners of this process towards the endpoints that it asks.
type gates struct {
	process chan struct{} // a place for each request under way

	mu        sync.Mutex
	endpoints map[string]*gate
}

func newGates() *gates {
	return &gates{process: make(chan struct{}, mostOfProcess), endpoints: make(map[string]*gate)}
}

// of returns the gate of an endpoint.
func (g *gates) of(endpoint string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.endpoints[endpoint]
	if at == nil {
		for name, other := range g.endpoints {
			if len(g.endpoints) < maxRemembered {
				break
			}
			if other.idle() { // its manners are learned again
				delete(g.endpoints, name)
			}
		}
		at = &gate{process: g.process, limit: firstAtOnce, changed: make(chan struct{}), large: make(chan []byte, 1)}
		at.large <- nil
		at.drop = time.AfterFunc(keepLarge, at.dropLarge)
		g.endpoints[endpoint] = at
	}
	return at
}

// gate lets in as many requests at once as an endpoint seems to like: one more
// for each good answer until the first sign of trouble, then one more for each
// round of good answers, and half as many when the endpoint asks for fewer.
type gate struct {
	process chan struct{}

	mu      sync.Mutex
	limit   float64
	busy    int
	steady  bool          // there was trouble before
	rest    time.Time     // no request before that
	best    time.Duration // of the quickest answers that were about as long as size
	size    int           // of answers that say something about the endpoint's speed
	slowed  time.Time     // when the limit was lowered last
	changed chan struct{} // closed when somebody may come in
	// large holds the one buffer for answers that are larger than usual, while no
	// such answer is in it; nil is one that is yet to be made.
	large chan []byte
	drop  *time.Timer // drops the buffer when it has not been used for keepLarge
}

func (g *gate) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busy == 0
}

// enter waits for a place. Whoever got one calls leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		wait, changed := time.Until(g.rest), g.changed
		if wait <= 0 && g.busy < int(g.limit) {
			g.busy++
			g.mu.Unlock()
			break
		}
		g.mu.Unlock()
		if wait <= 0 {
			wait = time.Hour // until somebody leaves
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
	select {
	case g.process <- struct{}{}:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		g.busy--
		g.letIn()
		return ctx.Err()
	}
}

// leave gives the place back and learns from how it went: a is nil for a request
// that got no answer.
func (g *gate) leave(a *answer, took time.Duration) {
	<-g.process
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy--
	switch {
	case a != nil && (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable):
		g.rest = time.Now().Add(max(pauseThrottled, min(retryAfter(a.header.Get("Retry-After"), time.Now()), longestRest)))
		g.lower(2)
	case a == nil:
		g.lower(2)
	case a.status == http.StatusOK:
		g.learn(took, len(a.body))
	}
	g.letIn()
}

// takeLarge waits for the buffer for a large answer. Whoever got it calls
// giveLarge. It is kept for a while: a server that sends one large answer after
// the other must not have us make buffers faster than they are collected.
func (g *gate) takeLarge(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-g.large:
		if buf == nil {
			buf = make([]byte, 0, maxPageBytes+1)
		}
		return buf, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (g *gate) giveLarge(buf []byte) {
	g.large <- buf
	g.drop.Reset(keepLarge)
}

// dropLarge gives the memory of the buffer back, unless an answer is in it: then
// that is done later.
func (g *gate) dropLarge() {
	select {
	case <-g.large:
		g.large <- nil
	default:
	}
}

// learn raises the limit, unless answers take so long that requests must be
// waiting for each other. Only those about as long are compared: a word about the
// bucket takes a tenth of the time of a page, and would make all pages look slow.
func (g *gate) learn(took time.Duration, size int) {
	switch {
	case size > 2*g.size:
		g.size, g.best = size, took
	case size < g.size/2:
		return
	case g.best == 0 || took < g.best:
		g.best = took
	}
	if took > slowdown*g.best+5*time.Millisecond {
		g.lower(1.25)
		return
	}
	more := 1.0
	if g.steady {
		more = 1 / g.limit
	}
	g.limit = min(g.limit+more, mostAtOnce)
}

// lower divides the limit, once for all the requests that were under way.
func (g *gate) lower(by float64) {
	g.steady = true
	if time.Since(g.slowed) < max(g.best, 100*time.Millisecond) {
		return
	}
	g.slowed = time.Now()
	g.limit = max(1, g.limit/by)
}

// letIn wakes all who wait: who comes too late waits again.
func (g *gate) letIn() {
	close(g.changed)
	g.changed = make(chan struct{})
}
