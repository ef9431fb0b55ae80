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
	// patience is how long a request may go without an answer before it takes nobody
	// else's turn any more.
	patience = 5 * time.Second
	// probes is how many sources may ask an endpoint that does not answer. The second
	// finds out whether that is the endpoint, or one bucket that takes its time.
	probes = 2
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
		at = &gate{
			process: g.process, places: make(map[*place]struct{}), asking: make(map[string]int),
			changed: make(chan struct{}), large: make(chan []byte, 1),
		}
		at.large <- nil
		at.drop = time.AfterFunc(keepLarge, at.dropLarge)
		g.endpoints[endpoint] = at
	}
	return at
}

// gate lets in as many requests at once as an endpoint answers best, and fewer
// when it asks for that. When it does not answer, sources that wait are sent away,
// so that their workers do not stand here while others have none.
type gate struct {
	process chan struct{}

	mu      sync.Mutex
	pace    pace
	places  map[*place]struct{}
	asking  map[string]int // places, by source
	sources int            // that ask here in turn
	rest    time.Time      // no request before that
	slowed  time.Time      // when there was trouble last
	left    time.Time      // when a request ended last
	quiet   time.Time      // since when the endpoint has not reacted to a request
	hung    bool           // so it was with the last request of all
	changed chan struct{}  // closed when somebody may come in
	// large holds the one buffer for answers that are larger than usual, while no
	// such answer is in it; nil is one that is yet to be made.
	large chan []byte
	drop  *time.Timer // drops the buffer when it has not been used for keepLarge
}

func (g *gate) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.places) == 0
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

// place is where a request of a source is while it is under way.
type place struct {
	gate   *gate
	source string
	since  time.Time
}

// enter waits for a place. Whoever got one leaves it. An error is ctx's, or
// timedOut.
func (g *gate) enter(ctx context.Context, source string) (*place, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		g.mu.Lock()
		p, wait, err := g.admit(time.Now(), source)
		changed := g.changed
		g.mu.Unlock()
		if p != nil {
			return p, p.begin(ctx)
		}
		if err != nil {
			return nil, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// admit gives a source a place, or says after what time it is worth to try again,
// if nothing changes before.
func (g *gate) admit(now time.Time, source string) (_ *place, wait time.Duration, _ error) {
	if wait = g.rest.Sub(now); wait > 0 {
		return nil, wait, nil
	}
	if len(g.places) == 0 {
		g.pace.rested(now.Sub(g.left))
		if !g.hung {
			g.quiet = now
		}
	}
	busy := 0
	wait = patience
	for p := range g.places {
		hope := patience - now.Sub(p.since)
		if hope > 0 || p.source == source {
			busy++
		}
		if hope > 0 {
			wait = min(wait, hope)
		}
	}
	limit := g.pace.limit()
	if now.Sub(g.quiet) >= patience {
		limit = 1
		if g.asking[source] == 0 && (busy >= limit || len(g.asking) >= probes) {
			return nil, 0, timedOut.because(errors.New("it does not answer others either"))
		}
	}
	if busy >= limit {
		return nil, wait, nil
	}
	p := &place{g, source, now}
	g.places[p] = struct{}{}
	g.asking[source]++
	return p, 0, nil
}

// begin waits for one of the places that the process has. Only then the endpoint
// has to answer.
func (p *place) begin(ctx context.Context) error {
	g := p.gate
	var err error
	select {
	case g.process <- struct{}{}:
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if err != nil {
		g.remove(p, now)
		return err
	}
	if !g.hung && now.Sub(p.since) > windowTime {
		g.quiet = now
	}
	p.since = now
	return nil
}

// leave gives the place back and learns from how it went: a is nil for a request
// that got no answer, which is no fault of the endpoint if its caller gave up.
func (p *place) leave(ctx context.Context, a *answer) {
	g := p.gate
	<-g.process
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	defer g.remove(p, now)
	if a == nil && errors.Is(ctx.Err(), context.Canceled) { // given up
		return
	}
	if g.hung = a == nil && now.Sub(p.since) >= patience; !g.hung {
		g.quiet = now
	}
	switch {
	case a != nil && (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable):
		g.rest = now.Add(max(pauseThrottled, min(retryAfter(a.header.Get("Retry-After"), now), longestRest)))
		g.trouble(now)
	case a == nil:
		g.trouble(now)
	case a.status == http.StatusOK:
		g.pace.answered(now, len(a.body), len(g.places))
	}
}

// remove lets the next in: it wakes all who wait, and who comes too late waits
// again.
func (g *gate) remove(p *place, now time.Time) {
	delete(g.places, p)
	if g.asking[p.source]--; g.asking[p.source] == 0 {
		delete(g.asking, p.source)
	}
	g.left = now
	close(g.changed)
	g.changed = make(chan struct{})
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
