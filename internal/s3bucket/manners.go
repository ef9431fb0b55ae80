package s3bucket

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// mostOfProcess is how many requests are under way at once to all endpoints
	// together.
	mostOfProcess = 64
	// pauseThrottled is how long an endpoint is left alone that asks for fewer
	// requests and does not say for how long.
	pauseThrottled = 500 * time.Millisecond
	// oneTrouble is the time in which answers tell of one and the same trouble.
	oneTrouble = 100 * time.Millisecond
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
		at = &gate{process: g.process, changed: make(chan struct{}), large: make(chan []byte, 1)}
		at.large <- nil
		at.drop = time.AfterFunc(keepLarge, at.dropLarge)
		g.endpoints[endpoint] = at
	}
	return at
}

// gate lets in as many requests at once as an endpoint answers best, and fewer
// when it asks for that.
type gate struct {
	process chan struct{}

	mu      sync.Mutex
	pace    pace
	busy    int
	sources int           // that ask here in turn
	rest    time.Time     // no request before that
	slowed  time.Time     // when there was trouble last
	left    time.Time     // when a request ended last
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

// join adds to the sources that ask here.
func (g *gate) join(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sources += n
}

// full reports whether there are more sources than may ask at once. One more is
// needed to find out whether more may.
func (g *gate) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sources > g.pace.limit()
}

// enter waits for a place. Whoever got one calls leave.
func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		wait, changed := time.Until(g.rest), g.changed
		if wait <= 0 && g.busy < g.pace.limit() {
			if g.busy == 0 {
				g.pace.rested(time.Since(g.left))
			}
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
		g.letIn(time.Now())
		return ctx.Err()
	}
}

// leave gives the place back and learns from how it went: a is nil for a request
// that got no answer, which is no fault of the endpoint if its caller gave up.
func (g *gate) leave(ctx context.Context, a *answer) {
	<-g.process
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case a == nil && errors.Is(ctx.Err(), context.Canceled): // given up
	case a != nil && (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable):
		g.rest = now.Add(max(pauseThrottled, min(retryAfter(a.header.Get("Retry-After"), now), longestRest)))
		g.trouble(now)
	case a == nil:
		g.trouble(now)
	case a.status == http.StatusOK:
		g.pace.answered(now, len(a.body), g.busy)
	}
	g.letIn(now)
}

// trouble slows down, once for all the requests that were under way.
func (g *gate) trouble(now time.Time) {
	if now.Sub(g.slowed) >= oneTrouble {
		g.slowed = now
		g.pace.trouble(now)
	}
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

// letIn gives a place to the next, and wakes all who wait: who comes too late
// waits again.
func (g *gate) letIn(now time.Time) {
	g.busy--
	g.left = now
	close(g.changed)
	g.changed = make(chan struct{})
}
