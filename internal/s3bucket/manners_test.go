package s3bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
)

// load has more callers than may enter ask an endpoint that answers after
// latency, for some time, and returns the most that were under way at once.
func load(g *gate, duration time.Duration, answerTo func(busy int64) (*answer, time.Duration)) int64 {
	var busy, most atomic.Int64
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var callers sync.WaitGroup
	for range 2 * mostAtOnce {
		callers.Go(func() {
			for {
				place, err := g.enter(ctx, "")
				if err != nil {
					return
				}
				n := busy.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				a, latency := answerTo(n)
				time.Sleep(latency)
				busy.Add(-1)
				place.leave(context.Background(), a)
			}
		})
	}
	callers.Wait()
	return most.Load()
}

func TestManners(t *testing.T) {
	t.Parallel()
	ok := &answer{status: http.StatusOK}
	slowDown := func(after string) *answer {
		return &answer{status: http.StatusServiceUnavailable, header: http.Header{"Retry-After": {after}}}
	}
	for _, c := range []struct {
		name        string
		answer      func(busy int64) (*answer, time.Duration)
		least, most int64
		// requests bounds how many are sent in ten seconds; 0 is no bound.
		requests int64
	}{
		{"one that answers well gets all it may", func(int64) (*answer, time.Duration) { return ok, 20 * time.Millisecond }, mostAtOnce, mostAtOnce, 0},
		{"one that is quick with small things gets as much", func() func(int64) (*answer, time.Duration) {
			page := &answer{status: http.StatusOK, body: make([]byte, 300_000)}
			var n atomic.Int64
			return func(int64) (*answer, time.Duration) {
				if n.Add(1)%4 == 1 {
					return ok, time.Millisecond
				}
				return page, 100 * time.Millisecond
			}
		}(), mostAtOnce, mostAtOnce, 0},
		{"one that does not answer gets few", func(int64) (*answer, time.Duration) { return nil, time.Second }, 1, 1, 16},
		{"one that slows down is not pressed", func(busy int64) (*answer, time.Duration) {
			return ok, 10 * time.Millisecond * time.Duration(1+max(0, busy-6)*(busy-6))
		}, 4, 8, 0},
		{"one that does one thing after the other is asked for one", func(busy int64) (*answer, time.Duration) {
			return ok, 12 * time.Millisecond * time.Duration(busy)
		}, 1, 2, 0},
		{"one that is slower with two at once is asked for one", func(busy int64) (*answer, time.Duration) {
			return ok, 12 * time.Millisecond * time.Duration(2*busy*busy-1)
		}, 1, 2, 0},
		{"one that asks for a pause gets it", func(int64) (*answer, time.Duration) { return slowDown("2"), 10 * time.Millisecond }, 1, 1, 2 + 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGates().of("https://s3.example.com")
				var requests atomic.Int64
				most := load(g, 10*time.Second, func(busy int64) (*answer, time.Duration) {
					requests.Add(1)
					return c.answer(busy)
				})
				if most > mostAtOnce {
					t.Errorf("%d requests at once", most)
				}
				if limit := int64(g.pace.limit()); limit < c.least || limit > c.most {
					t.Errorf("in the end %d requests at once, want %d to %d", limit, c.least, c.most)
				}
				if n := requests.Load(); c.requests > 0 && n > c.requests {
					t.Errorf("%d requests in ten seconds, want at most %d", n, c.requests)
				}
			})
		})
	}
}

// TestRestsSayNothing has one scan after the other ask an endpoint, each too short
// for a window of its own.
func TestRestsSayNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates().of("https://s3.example.com")
		page := &answer{status: http.StatusOK, body: make([]byte, 300_000)}
		answer := func(int64) (*answer, time.Duration) { return page, 20 * time.Millisecond }
		load(g, 10*time.Second, answer)
		before := g.pace
		for range 20 {
			time.Sleep(time.Minute)
			load(g, 50*time.Millisecond, answer)
		}
		if before.limit() != mostAtOnce || g.pace.limit() < mostAtOnce/2 { // which it may be trying just then
			t.Errorf("%d requests at once, and %d after rests", before.limit(), g.pace.limit())
		}
		top := len(levels) - 1
		if steady, now := before.rates[top].perSecond, g.pace.rates[top].perSecond; now < 0.9*steady {
			t.Errorf("%.0f bytes a second, and %.0f after rests", steady, now)
		}
	})
}

// TestWhoeverGivesUpSaysNothing has requests end because nobody wants their
// answers any more.
func TestWhoeverGivesUpSaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates().of("https://s3.example.com")
		load(g, 10*time.Second, func(int64) (*answer, time.Duration) {
			return &answer{status: http.StatusOK}, 20 * time.Millisecond
		})
		ctx, cancel := context.WithCancel(t.Context())
		place, err := g.enter(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		place.leave(ctx, nil)
		if limit := g.pace.limit(); limit != mostAtOnce {
			t.Errorf("%d requests at once after one that was given up, want %d", limit, mostAtOnce)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if place, err = g.enter(ctx, ""); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		place.leave(ctx, nil)
		if limit := g.pace.limit(); limit == mostAtOnce {
			t.Error("a request that was waited for in vain made no difference")
		}
	})
}

// asker asks for a source again and again, and returns how often it was answered,
// how often it was sent away, and for how long it stood at the gate.
func asker(ctx context.Context, g *gate, source string, ask func(context.Context) *answer) (answers, refusals int, stood time.Duration) {
	for ctx.Err() == nil {
		begin := time.Now()
		place, err := g.enter(ctx, source)
		if err == nil {
			a := ask(ctx)
			place.leave(ctx, a)
			if a != nil {
				answers++
			}
		}
		stood += time.Since(begin)
		if err != nil {
			refusals++
			time.Sleep(2 * time.Second) // a slice is tried again
		}
	}
	return answers, refusals, stood
}

// hang does not answer, for as long as a slice has.
func hang(ctx context.Context) *answer {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Second):
	}
	return nil
}

// TestADeadEndpointHoldsFew has many sources ask an endpoint that has died.
func TestADeadEndpointHoldsFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const minutes, sources = 10, 100
		g := newGates().of("https://s3.example.com")
		load(g, 10*time.Second, func(int64) (*answer, time.Duration) {
			return &answer{status: http.StatusOK}, 20 * time.Millisecond
		})
		ctx, cancel := context.WithTimeout(t.Context(), minutes*time.Minute)
		defer cancel()
		var stood atomic.Int64
		var askers sync.WaitGroup
		for i := range sources {
			askers.Go(func() {
				_, _, d := asker(ctx, g, fmt.Sprint(i), hang)
				stood.Add(int64(d))
			})
		}
		askers.Wait()
		// Those who came first found an endpoint that had answered all.
		most := probes*minutes*time.Minute + mostAtOnce*time.Minute + sources*patience
		if d := time.Duration(stood.Load()); d > most {
			t.Errorf("%d workers stood there for %v, want at most %v", sources, d, most)
		}
	})
}

// TestASlowBucketStandsAlone has one source of an endpoint get an answer a minute,
// as from behind a million deleted objects, and others get theirs at once.
func TestASlowBucketStandsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGates().of("https://s3.example.com")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		after := func(d time.Duration) func(context.Context) *answer {
			return func(ctx context.Context) *answer {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(d):
					return &answer{status: http.StatusOK}
				}
			}
		}
		var askers sync.WaitGroup
		for i := range 16 { // the spans of one scan
			askers.Go(func() {
				if _, refusals, _ := asker(ctx, g, "slow", after(time.Minute)); refusals > 1 { // the last is ctx's
					t.Errorf("span %d was sent away %d times by a request of its own scan", i, refusals)
				}
			})
		}
		askers.Go(func() {
			answers, refusals, _ := asker(ctx, g, "quick", after(50*time.Millisecond))
			if answers < 1000 || refusals > 3 {
				t.Errorf("beside it, %d were answered and %d sent away", answers, refusals)
			}
		})
		askers.Wait()
	})
}

func TestGatesAreBounded(t *testing.T) {
	t.Parallel()
	g := newGates()
	for i := range 3 * maxRemembered {
		g.of(fmt.Sprint("https://", i))
	}
	if n := len(g.endpoints); n > maxRemembered {
		t.Errorf("%d endpoints are remembered", n)
	}
}

// TestThrottledServerIsCountedExactly has a server refuse every third request.
func TestThrottledServerIsCountedExactly(t *testing.T) {
	t.Parallel()
	f := &modelS3{perPage: 20, others: map[string]struct{}{}}
	want := sums{}
	for i := range 400 {
		key := fmt.Sprintf("p/%04d", i)
		f.keys = append(f.keys, key)
		want.Objects++
		want.Bytes += f.size(key)
	}
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 == 0 {
			s3Error(http.StatusServiceUnavailable, "SlowDown")(w, r)
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer server.Close()
	o := newOpener(t)
	var total sums
	e := engine.New(engine.All(), engine.Options{
		Open: func(ctx context.Context, s engine.Span, oneChain bool) (source.Source, error) {
			b := bucketAt(server.URL)
			b.After, b.Until, b.OneChain = s.After, s.Until, oneChain
			return o.Open(ctx, b, s.Cursor)
		},
		NewPage: func() engine.Page { return &sumPage{} },
		Add: func(p engine.Page, _ source.Step, _ source.Source, _ func() engine.Work) error {
			total.Objects += p.(*sumPage).Objects
			total.Bytes += p.(*sumPage).Bytes
			return nil
		},
		Spent: func(int64) {}, Forget: func() {}, Workers: 4, Retries: 10,
	})
	if err := e.Run(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if total != want {
		t.Errorf("counted %+v, the truth is %+v", total, want)
	}
}

// TestLargeAnswersTakeTurns has one endpoint send two large answers at once: the
// second is read when the memory of the first has been given back.
func TestLargeAnswersTakeTurns(t *testing.T) {
	t.Parallel()
	b := bucketAt(serve(t, write(listing(complete+"<X>"+strings.Repeat("x", ordinaryAnswer)+"</X>"))))
	o := newOpener(t)
	ask := func() *lister {
		l, err := o.lister(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.send(t.Context(), http.MethodGet, nil); err != nil {
			t.Error(err)
		}
		return l
	}
	first := ask()
	if !first.large {
		t.Fatal("a large answer did not take the place for them")
	}
	second := make(chan *lister)
	go func() { second <- ask() }()
	select {
	case <-second:
		t.Fatal("two large answers were in memory at once")
	case <-time.After(100 * time.Millisecond):
	}
	first.shrink()
	(<-second).shrink()
	if kept := <-first.gate.large; cap(kept) != maxPageBytes+1 || cap(first.buf) > ordinaryAnswer {
		t.Errorf("%d and %d bytes are kept for the next answers", cap(kept), cap(first.buf))
	}
}
