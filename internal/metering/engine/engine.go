// Package engine counts one place with several workers at once.
//
// The keys of a place are cut into spans, each counted by a source of its own.
// When a worker has nothing to do, the span with the most left is cut in two at
// a key that is really there, so that no knowledge of the keys is needed and no
// shape of them leaves workers idle for long.
//
// The package leaves to source.Source how a span is read, to its caller what an
// entry counts as, and to package metering who may work and what is saved. What
// always holds: what was added and the spans that are left fit together at every
// moment, so that whoever goes on from both counts each entry once; and a step
// that fails has added nothing.
package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/internal/metering/source"
)

// Span is a stretch of a place, behind After and up to Until; nil is no bound.
type Span struct {
	After []byte `json:"after,omitempty"`
	Until []byte `json:"until,omitempty"`
	// Cursor is where its source goes on; nil is the beginning.
	Cursor []byte `json:"cursor,omitempty"`
	// Last is the key up to which everything was counted; nil where nothing was, or
	// the place has no order.
	Last []byte `json:"last,omitempty"`
	// What says which listing of a bucket it is a stretch of.
	What source.Listing `json:"what,omitempty"`
}

// Work is what is left of a place.
type Work struct {
	// OneChain says that the place cannot be cut; there is one span then.
	OneChain bool `json:"oneChain,omitempty"`
	// Listings are those of the whole place, also of those that are done.
	Listings []source.Listing `json:"listings,omitempty"`
	// Part says that spans of the place are counted elsewhere, so that it cannot
	// turn to one chain any more: the failure that calls for one then ends the run.
	Part  bool   `json:"part,omitempty"`
	Spans []Span `json:"spans"`
	// Bounds are the keys at which spans were parted from those counted elsewhere.
	Bounds [][]byte `json:"bounds,omitempty"`
}

// All is a place of which nothing was counted, of a bucket by these listings;
// none is one without a name, as trees have it.
func All(listings ...source.Listing) Work {
	w := Work{Spans: []Span{}, Listings: listings}
	for _, what := range listings {
		w.Spans = append(w.Spans, Span{What: what})
	}
	if len(listings) == 0 {
		w.Spans = append(w.Spans, Span{})
	}
	return w
}

// CutAt returns w, of which nothing was counted, with its first span cut at keys,
// which are in order.
func (w Work) CutAt(keys [][]byte) Work {
	first, others := w.Spans[0], w.Spans[1:]
	w.Spans = make([]Span, 0, len(keys)+len(w.Spans))
	for _, key := range keys {
		w.Spans = append(w.Spans, Span{What: first.What, After: first.After, Until: key})
		first.After = key
	}
	w.Spans = append(append(w.Spans, first), others...)
	return w
}

// Edges are the keys at which counting goes on or ends, here or elsewhere: of
// what lies in order between two of them, all or nothing was counted.
func (w Work) Edges() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, s := range w.Spans {
			for _, key := range [][]byte{s.After, s.Last, s.Until} {
				if key != nil && !yield(key) {
					return
				}
			}
		}
		for _, key := range w.Bounds {
			if !yield(key) {
				return
			}
		}
	}
}

// Page collects what one step hands out.
type Page interface {
	Reset()
	Count(e source.Entry)
}

// Options say what is counted, and how. All but Ask, Moment and Retries are needed.
type Options struct {
	// Open opens a span.
	Open func(ctx context.Context, s Span, oneChain bool) (source.Source, error)
	// NewPage makes a page for a worker.
	NewPage func() Page
	// Add takes what a step has counted. It is called by one worker at a time, and
	// what it returns as an error ends the run. left is what is left after the step.
	Add func(p Page, step source.Step, from source.Source, left func() Work) error
	// Spent is told of requests that counted nothing. One at a time, as Add.
	Spent func(requests int64)
	// Ask is asked before each step, and before each attempt to cut, whether so many
	// requests may be sent beyond those that Add and Spent were told of. The error of
	// a step that is refused ends the run, but no other step that is under way: its
	// requests were sent. One at a time, as Add; nil allows everything.
	Ask func(requests int64) error
	// Forget drops all that was added: the place is counted anew, in one chain.
	Forget func()
	// Workers is how many spans are counted at once, at least 1.
	Workers int
	// Moment is what must be left of a span to have it cut for others: it takes them
	// that long to begin.
	Moment time.Duration
	// Retries is how often in a row a step is tried again after a temporary failure.
	Retries int
}

const (
	// worthSplitting is how many steps must be left for a span to be cut.
	worthSplitting = 2
	firstWait      = 200 * time.Millisecond
	longestWait    = 20 * time.Second

	// What Ask is asked for: what a step takes if it meets no trouble, and the most
	// that an attempt to cut takes then.
	stepRequests = 1
	cutRequests  = 8
)

// span is a Span and what is known of it while it is worked on.
type span struct {
	Span
	left float64 // steps, estimated
	// steps were taken since it began to be worked on.
	steps int
	began time.Time
	whole bool // it was tried to cut it, in vain
	// shared says that its second part, once it is cut, is for others to count.
	shared bool
}

// Engine counts a place. Run can be called once.
type Engine struct {
	o Options

	mu       sync.Mutex
	changed  *sync.Cond // mu; something below has changed
	oneChain bool
	part     bool
	listings []source.Listing // of the whole place
	bounds   [][]byte
	waiting  []*span
	spare    []*span // set aside for others; counted here when nothing else is left
	busy     map[*span]struct{}
	idle     int   // workers without a span
	asked    int64 // requests that Ask has allowed and nobody has reported yet
	stopped  bool
	added    bool // some step has succeeded
	err      error
	cancel   context.CancelCauseFunc
}

// New makes an Engine for what is left of a place.
func New(w Work, o Options) *Engine {
	e := &Engine{
		o: o, oneChain: w.OneChain, part: w.Part, listings: w.Listings, bounds: slices.Clone(w.Bounds), busy: make(map[*span]struct{}),
	}
	e.changed = sync.NewCond(&e.mu)
	if len(e.listings) == 0 {
		e.listings = []source.Listing{source.Objects}
	}
	for _, s := range w.Spans {
		e.waiting = append(e.waiting, &span{Span: s})
	}
	return e
}

// Run counts until nothing is left or Stop is called, and returns nil then, or
// until ctx ends or something fails for good.
func (e *Engine) Run(ctx context.Context) error {
	for {
		err := e.run(ctx)
		if !e.fallBack(err) {
			return err
		}
	}
}

func (e *Engine) run(ctx context.Context) error {
	ctx, e.cancel = context.WithCancelCause(ctx)
	defer e.cancel(nil)
	defer context.AfterFunc(ctx, e.changed.Broadcast)()
	var workers sync.WaitGroup
	for range e.o.Workers {
		workers.Go(func() { e.worker(ctx) })
	}
	workers.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// fallBack turns to one chain if err says that the place cannot be counted
// otherwise, and reports whether it did.
func (e *Engine) fallBack(err error) bool {
	var problem *source.Error
	if !errors.As(err, &problem) || problem.Code != source.CodeUnordered {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.oneChain || e.part {
		return false
	}
	e.o.Forget()
	e.oneChain, e.err, e.waiting, e.spare = true, nil, nil, nil
	for _, what := range e.listings {
		e.waiting = append(e.waiting, &span{Span: Span{What: what}})
	}
	return true
}

// Stop ends the run after the steps that are under way, and not before one has
// succeeded: whoever runs again and again gets somewhere.
func (e *Engine) Stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	e.changed.Broadcast()
}

// Save calls fn with what is left while nothing is added. No spans are an empty
// list, never nil, which a caller might take for work that has not begun.
func (e *Engine) Save(fn func(w Work)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn(e.leftLocked())
}

func (e *Engine) leftLocked() Work {
	w := Work{OneChain: e.oneChain, Part: e.part, Listings: e.listings, Spans: []Span{}, Bounds: slices.Clone(e.bounds)}
	for _, s := range e.waiting {
		w.Spans = append(w.Spans, s.Span)
	}
	for s := range e.busy {
		w.Spans = append(w.Spans, s.Span)
	}
	for _, s := range e.spare {
		w.Spans = append(w.Spans, s.Span)
	}
	return w
}

// Share sets about half of what is left aside for others, and reports whether that
// is done: every other span that waits for a worker, or else the second half of
// each that is worked on, as far as it can be cut.
func (e *Engine) Share() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.spare) == 0 {
		e.spareWaitingLocked()
	}
	uncut := 0
	for s := range e.busy {
		if len(e.spare) == 0 {
			s.shared = !s.whole
		}
		if s.shared {
			uncut++
		}
	}
	return uncut <= len(e.spare)/4 && len(e.spare) > 0 // a slow step does not hold up all
}

func (e *Engine) spareWaitingLocked() {
	waiting := e.waiting
	e.waiting = nil
	for i, s := range waiting {
		if i%2 == 0 && s.After != nil && !e.oneChain {
			e.spare = append(e.spare, s)
		} else {
			e.waiting = append(e.waiting, s)
		}
	}
}

// Give takes what is set aside away, for others to count: what is left here is a
// part from then on. It returns nil if there is nothing.
func (e *Engine) Give() *Work {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.spare) == 0 {
		return nil
	}
	e.part = true
	given := &Work{Part: true}
	for _, s := range e.spare {
		given.Spans = append(given.Spans, s.Span)
		for _, key := range [][]byte{s.After, s.Last, s.Until} {
			if key != nil {
				given.Bounds = append(given.Bounds, key)
			}
		}
	}
	e.spare = nil
	e.bounds = append(e.bounds, given.Bounds...)
	return given
}

// Keep has that counted here which was set aside for others: nobody wants it any
// more.
func (e *Engine) Keep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.busy {
		s.shared = false
	}
	e.keepLocked()
	e.changed.Broadcast()
}

func (e *Engine) keepLocked() { e.waiting, e.spare = append(e.waiting, e.spare...), nil }

func (e *Engine) worker(ctx context.Context) {
	page := e.o.NewPage()
	for {
		s := e.take(ctx)
		if s == nil {
			return
		}
		done, err := e.count(ctx, s, page)
		e.release(s, done, err)
	}
}

// take returns a span to work on, or nil when there will be none.
func (e *Engine) take(ctx context.Context) *span {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle++
	defer func() { e.idle-- }()
	for !e.endedLocked() && ctx.Err() == nil {
		if len(e.waiting) > 0 {
			s := e.waiting[0]
			s.began, s.steps = time.Now(), 0
			e.waiting = e.waiting[1:]
			e.busy[s] = struct{}{}
			return s
		}
		if len(e.busy) == 0 && len(e.spare) > 0 {
			e.keepLocked()
			e.changed.Broadcast()
			continue
		}
		if len(e.busy) == 0 {
			e.changed.Broadcast() // all others may go home, too
			return nil
		}
		e.changed.Wait()
	}
	if e.err == nil && !e.stopped {
		e.err = context.Cause(ctx)
	}
	return nil
}

// release takes a span back from its worker.
func (e *Engine) release(s *span, done bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, s)
	if !done {
		e.waiting = append(e.waiting, s)
	}
	if err != nil && e.err == nil {
		e.err = err
		e.cancel(err)
	}
	e.changed.Broadcast()
}

// count takes steps until the span is done or the run ends. A panic in a source
// is its failure, not the process's.
func (e *Engine) count(ctx context.Context, s *span, page Page) (done bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			done, err = false, fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	src, err := e.o.Open(ctx, s.Span, e.oneChain)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	for !done && !e.ended() {
		if done, err = e.step(ctx, s, src, page); err != nil {
			return false, err
		}
		if !done && e.mayCut(s, src) {
			if err := e.cut(ctx, s, src.(source.Splitter)); err != nil {
				return false, err
			}
		}
	}
	return done, nil
}

func (e *Engine) ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.endedLocked()
}

func (e *Engine) endedLocked() bool { return e.stopped && e.added || e.err != nil }

// step takes one step, and again if it fails for now, and adds what it counted.
func (e *Engine) step(ctx context.Context, s *span, src source.Source, page Page) (done bool, err error) {
	for failures := 0; ; failures++ {
		if err := e.ask(stepRequests); err != nil {
			e.end(err)
			return false, nil
		}
		page.Reset()
		step, err := src.Step(ctx, page.Count)
		if err == nil && ctx.Err() == nil {
			return step.Done, e.add(s, src, page, step)
		}
		e.spent(stepRequests, step.Requests)
		var problem *source.Error
		switch {
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case !errors.As(err, &problem), !problem.Temporary, failures >= e.o.Retries:
			return false, err
		}
		if !pause(ctx, max(problem.RetryAfter, firstWait<<min(failures, 8))) {
			return false, context.Cause(ctx)
		}
	}
}

// pause waits for about d, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	d = min(d, longestWait)
	timer := time.NewTimer(d/2 + rand.N(d)) //nolint:gosec // nobody gains from guessing it
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (e *Engine) add(s *span, src source.Source, page Page, step source.Step) error {
	cursor, last, left := src.Cursor(), s.Last, s.left // s is this worker's, but for what Share and Keep note
	if splitter, ok := src.(source.Splitter); ok {
		last, left = splitter.Last(), splitter.Left()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked -= stepRequests
	before := *s
	s.Cursor, s.Last, s.left = cursor, last, left
	s.steps++
	if step.Done { // its cursor may lead anywhere: nobody is to go on from it
		delete(e.busy, s)
	}
	if err := e.o.Add(page, step, src, e.leftLocked); err != nil {
		*s = before
		e.busy[s] = struct{}{}
		return err
	}
	e.added = true
	return nil
}

// ask asks whether requests may be sent. Whoever is allowed to says afterwards
// how many they were.
func (e *Engine) ask(requests int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.o.Ask != nil {
		if err := e.o.Ask(e.asked + requests); err != nil {
			return err
		}
	}
	e.asked += requests
	return nil
}

// end ends the run and leaves the steps alone that are under way.
func (e *Engine) end(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

// spent reports requests that counted nothing, in place of those asked for.
func (e *Engine) spent(asked, requests int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked -= asked
	if requests > 0 {
		e.o.Spent(requests)
	}
}

// mayCut reports whether s is to be cut: for others, or because it is among the
// spans to cut for the workers who have nothing to do: as many as there are, those
// with the most left. One that could not be cut keeps no other from being tried:
// how much is left of it may be far less than it seems.
func (e *Engine) mayCut(s *span, src source.Source) bool {
	splitter, can := src.(source.Splitter)
	if !can {
		return false
	}
	full := splitter.Full()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.oneChain || s.left < worthSplitting {
		s.shared = false
		return false
	}
	if s.shared = s.shared && s.left*time.Since(s.began).Seconds() >= float64(s.steps)*e.o.Moment.Seconds(); s.shared {
		return true
	}
	if full {
		return false
	}
	hungry := e.idle - len(e.waiting)
	for other := range e.busy {
		if other.left > s.left && !other.whole {
			hungry--
		}
	}
	return hungry > 0
}

// cut leaves the second part of a span to others.
func (e *Engine) cut(ctx context.Context, s *span, src source.Splitter) error {
	if e.ask(cutRequests) != nil {
		return nil // there may be enough for the steps
	}
	at, requests, err := src.Split(ctx)
	e.spent(cutRequests, requests)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var problem *source.Error
	if errors.As(err, &problem) && problem.Temporary {
		err = nil // the next step will tell
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	shared := s.shared
	s.shared = false
	if s.whole = at == nil; s.whole {
		return nil
	}
	second := &span{Span: Span{What: s.What, After: at, Until: s.Until}}
	if shared {
		e.spare = append(e.spare, second)
	} else {
		e.waiting = append(e.waiting, second)
	}
	s.Until = at
	s.left /= 2
	e.changed.Broadcast()
	return nil
}
