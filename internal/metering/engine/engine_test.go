package engine_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbers is a place whose entries are the numbers below n, of size 1 each; keys
// are numbers too. Ten come with each step.
type numbers struct {
	after, until int // the next one, and the one behind the last
	// before is called at the beginning of each step and may fail it.
	before func(at int) error
	// cancelled counts the steps that were cancelled; they end all the same.
	cancelled *atomic.Int64
	// whole says that it cannot be cut, and seems to go on for ever.
	whole bool
	// closed is called at the end.
	closed func()
}

// whole is the listing of spans that are whole.
const whole source.Listing = "whole"

func key(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func number(key []byte, otherwise int) int {
	if key == nil {
		return otherwise
	}
	return int(binary.BigEndian.Uint32(key))
}

func (s *numbers) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	if s.before != nil {
		if err := s.before(s.after); err != nil {
			return source.Step{Requests: 1}, err
		}
	}
	if ctx.Err() != nil {
		s.cancelled.Add(1)
	}
	for end := min(s.after+10, s.until); s.after < end; s.after++ {
		count(source.Entry{Key: key(s.after), Size: 1})
	}
	return source.Step{Requests: 1, Done: s.after == s.until}, nil
}

func (s *numbers) Split(context.Context) ([]byte, int64, error) {
	if s.whole || s.until-s.after < 2 {
		return nil, 1, nil
	}
	s.until = s.after + (s.until-s.after)/2
	return key(s.until), 1, nil
}

func (s *numbers) Left() float64 {
	if s.whole {
		return 1e9
	}
	return float64(s.until-s.after) / 10
}

func (s *numbers) Full() bool     { return false }
func (s *numbers) Last() []byte   { return key(s.after - 1) }
func (s *numbers) Cursor() []byte { return key(s.after) }
func (s *numbers) Method() string { return "count" }

func (s *numbers) Close() error {
	if s.closed != nil {
		s.closed()
	}
	return nil
}

type page struct{ n int }

func (p *page) Reset()             { p.n = 0 }
func (p *page) Count(source.Entry) { p.n++ }

// count is an engine over numbers and what it has come to.
type count struct {
	*engine.Engine
	sum, requests int
	cancelled     atomic.Int64 // steps
	ask           func(int64) error
	closed        func()
	atOnce, most  atomic.Int64
}

func newCount(w engine.Work, n, workers, retries int, before func(at int) error) *count {
	c := &count{}
	c.Engine = engine.New(w, engine.Options{
		Open: func(_ context.Context, s engine.Span, _ bool) (source.Source, error) {
			from := number(s.Cursor, number(s.After, 0))
			return &numbers{after: from, until: number(s.Until, n), whole: s.What == whole, cancelled: &c.cancelled, closed: c.closed, before: func(at int) error {
				now := c.atOnce.Add(1)
				defer c.atOnce.Add(-1)
				for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
				}
				if before == nil {
					return nil
				}
				return before(at)
			}}, nil
		},
		NewPage: func() engine.Page { return &page{} },
		Add: func(p engine.Page, st source.Step, _ source.Source, _ func() engine.Work) error {
			c.sum += p.(*page).n
			c.requests += int(st.Requests)
			return nil
		},
		Spent: func(n int64) { c.requests += int(n) }, Forget: func() { c.sum = 0 },
		Ask: func(n int64) error {
			if c.ask == nil {
				return nil
			}
			return c.ask(n)
		},
		Workers: workers, Retries: retries,
	})
	return c
}

func temporary() error {
	return &source.Error{ScanError: purser.ScanError{Code: source.CodeThrottled}, Temporary: true}
}

func TestAllWorkersAreUsed(t *testing.T) {
	t.Parallel()
	c := newCount(engine.All(), 5000, 8, 0, func(int) error { time.Sleep(time.Millisecond); return nil })
	if err := c.Run(t.Context()); err != nil || c.sum != 5000 {
		t.Fatalf("counted %d, error %v", c.sum, err)
	}
	if most := c.most.Load(); most != 8 {
		t.Errorf("%d workers were busy at once, want 8", most)
	}
	if c.requests > 5000/10+100 {
		t.Errorf("%d requests for 500 pages", c.requests)
	}
}

func TestStepsAreTriedAgain(t *testing.T) {
	t.Parallel()
	var failed sync.Map
	once := func(at int) error {
		if _, before := failed.LoadOrStore(at, true); !before && at%30 == 0 {
			return temporary()
		}
		return nil
	}
	if c := newCount(engine.All(), 300, 2, 1, once); c.Run(t.Context()) != nil || c.sum != 300 {
		t.Errorf("counted %d", c.sum)
	}
	c := newCount(engine.All(), 300, 2, 1, func(int) error { return temporary() })
	var problem *source.Error
	if err := c.Run(t.Context()); !errors.As(err, &problem) || problem.Code != source.CodeThrottled || c.sum != 0 {
		t.Errorf("counted %d, error %v", c.sum, err)
	}
	if c.requests < 2 {
		t.Errorf("%d requests", c.requests)
	}
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	c := newCount(engine.All(), 100, 3, 0, func(at int) error {
		if at >= 50 { // where spans are cut, and so which steps there are, is left to chance
			panic("out of nowhere")
		}
		return nil
	})
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "out of nowhere") {
		t.Errorf("error %v", err)
	}
	left := 0
	c.Save(func(w engine.Work) { left = size(w, 100) })
	if c.sum+left != 100 {
		t.Errorf("counted %d and left %d of 100", c.sum, left)
	}
}

// TestStopGetsSomewhere stops at once, again and again.
func TestStopGetsSomewhere(t *testing.T) {
	t.Parallel()
	work, sum := engine.All(), 0
	for lives := 0; len(work.Spans) > 0; lives++ {
		if lives > 200 {
			t.Fatalf("%d of 1000 after %d lives", sum, lives)
		}
		c := newCount(work, 1000, 4, 0, nil)
		c.Stop()
		if err := c.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		sum += c.sum
		c.Save(func(w engine.Work) { work = w })
	}
	if sum != 1000 {
		t.Errorf("counted %d", sum)
	}
}

// TestNothingLeftIsNotNothingBegun: whoever saved the nil of work that has not
// begun beside sums of all there is would count everything twice.
func TestNothingLeftIsNotNothingBegun(t *testing.T) {
	t.Parallel()
	c := newCount(engine.All(), 100, 1, 0, nil)
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Save(func(w engine.Work) {
		if w.Spans == nil || len(w.Spans) > 0 {
			t.Errorf("left is %#v", w)
		}
	})
}

// TestRefusedRequests lets only so many requests be sent in each run, and has
// none of them be in vain.
// TestWhatIsDoneIsNotLeft saves when the last step of a span has been added and
// its source is being closed: a cursor from behind the end may lead anywhere.
func TestWhatIsDoneIsNotLeft(t *testing.T) {
	t.Parallel()
	c := newCount(engine.All(), 25, 1, 0, nil)
	var left []engine.Span
	c.closed = func() { c.Save(func(w engine.Work) { left = w.Spans }) }
	if err := c.Run(t.Context()); err != nil || c.sum != 25 {
		t.Fatalf("counted %d, error %v", c.sum, err)
	}
	if len(left) != 0 || left == nil {
		t.Errorf("left after the last step: %v", left)
	}
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	refused := errors.New("no more")
	work, sum, requests := engine.All(), 0, 0
	const most = 20
	for runs := 1; len(work.Spans) > 0; runs++ {
		if runs > 100 {
			t.Fatalf("%d of 1000 after %d runs", sum, runs)
		}
		c := newCount(work, 1000, 4, 0, func(int) error { time.Sleep(time.Millisecond); return nil })
		c.ask = func(n int64) error {
			if int64(c.requests)+n > most {
				return refused
			}
			return nil
		}
		err := c.Run(t.Context())
		sum, requests = sum+c.sum, requests+c.requests
		c.Save(func(w engine.Work) { work = w })
		switch {
		case c.requests > most:
			t.Errorf("%d requests", c.requests)
		case len(work.Spans) > 0 && !errors.Is(err, refused):
			t.Errorf("run %d ended with %v", runs, err)
		case c.cancelled.Load() > 0:
			t.Errorf("%d steps under way were cancelled", c.cancelled.Load())
		}
	}
	if sum != 1000 || requests < 100 {
		t.Errorf("counted %d with %d requests", sum, requests)
	}
}

// TestWhatCannotBeCutKeepsNothingBack has a span with more left than any other,
// as it seems, which cannot be cut: others are, for those who would take a part.
func TestWhatCannotBeCutKeepsNothingBack(t *testing.T) {
	t.Parallel()
	work := engine.Work{Spans: []engine.Span{{What: whole, Until: key(1000)}, {After: key(1000)}}}
	known := make(chan struct{}) // how much seems to be left of it
	var given atomic.Pointer[engine.Work]
	var c *count
	c = newCount(work, 2000, 2, 0, func(at int) error {
		if at < 1000 {
			if at == 10 {
				close(known)
			}
			time.Sleep(10 * time.Millisecond) // it is there to the end
			return nil
		}
		<-known
		if given.Load() == nil {
			given.CompareAndSwap(nil, give(c))
		}
		time.Sleep(time.Millisecond)
		return nil
	})
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if given.Load() == nil {
		t.Errorf("nothing was given of %d", c.sum)
	}
}

// give takes what is set aside, if that is done.
func give(c *count) *engine.Work {
	if !c.Share() {
		return nil
	}
	return c.Give()
}

// size is how many numbers are left.
func size(w engine.Work, n int) (size int) {
	for _, s := range w.Spans {
		size += number(s.Until, n) - number(s.Cursor, number(s.After, 0))
	}
	return size
}

// TestGiving leaves spans to other engines.
func TestGiving(t *testing.T) {
	t.Parallel()
	var given []*engine.Work
	var c *count
	c = newCount(engine.All(), 2000, 1, 0, func(at int) error {
		if at%100 == 50 {
			if w := give(c); w != nil {
				given = append(given, w)
			}
		}
		return nil
	})
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(given) == 0 {
		t.Fatal("nothing was given")
	}
	sum := c.sum
	for _, w := range given {
		other := newCount(*w, 2000, 2, 0, nil)
		if err := other.Run(t.Context()); err != nil || !w.Part {
			t.Fatal(err, w)
		}
		sum += other.sum
	}
	if sum != 2000 {
		t.Errorf("counted %d of 2000, in %d parts", sum, len(given)+1)
	}
}

// TestGiveFindsHalf asks for work while there are workers enough to take all that
// is cut off. One small part after the other would leave who asks idle between them.
func TestGiveFindsHalf(t *testing.T) {
	t.Parallel()
	c := newCount(engine.All(), 5000, 8, 0, func(int) error { time.Sleep(time.Millisecond); return nil })
	ended := make(chan error, 1)
	go func() { ended <- c.Run(t.Context()) }()
	var given *engine.Work
	for range 100 {
		if given = give(c); given != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if given == nil || given.Spans[0].After == nil {
		t.Fatalf("given away was %+v", given)
	}
	c.Save(func(w engine.Work) {
		if here, there := size(w, 5000), size(*given, 5000); there < here/2 || here < there/2 {
			t.Errorf("%d were given away, and %d left", there, here)
		}
	})
	rest := newCount(*given, 5000, 2, 0, nil)
	if err := errors.Join(<-ended, rest.Run(t.Context())); err != nil || c.sum+rest.sum != 5000 {
		t.Errorf("counted %d and %d, error %v; want 5000", c.sum, rest.sum, err)
	}
}
