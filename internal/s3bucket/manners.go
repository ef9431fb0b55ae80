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
		at = &gate{process: g.process, limit: firstAtOnce, changed: make(chan struct{}), large: make(chan struct{}, 1)}
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
	best    time.Duration // of the quickest answers
	slowed  time.Time     // when the limit was lowered last
	changed chan struct{} // closed when somebody may come in
	large   chan struct{} // held while an answer is larger than usual
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
		g.learn(took)
	}
	g.letIn()
}

// learn raises the limit, unless answers take so long that requests must be
// waiting for each other.
func (g *gate) learn(took time.Duration) {
	if g.best == 0 || took < g.best {
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
