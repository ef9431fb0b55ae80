// Package sourcetest is the conformance suite of source.Source: what every
// countable place promises, whatever it is made of.
//
// It leaves to each source's own tests what is special there. The sums it
// expects are those of the entries it asked for, never those of another source.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser/internal/metering/source"
)

// Open opens the place that was made, at a cursor or at its beginning.
type Open func(ctx context.Context, cursor []byte) (source.Source, error)

// Harness says how to make places of the kind under test.
type Harness struct {
	// Make makes a place that holds exactly these entries: sizes by key. Keys have
	// segments separated by single slashes, none of which is empty, "." or ".." or
	// longer than 255 bytes, and no key is the folder of another, so that a
	// directory tree and a bucket can both hold them. The place goes away with t.
	Make func(t testing.TB, entries map[string]int64) Open
	// MaxSteps is how many steps a place of 100,000 entries may take; 0 means 1,000.
	MaxSteps int
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	places := map[string]map[string]int64{
		"an empty place":               {},
		"one entry":                    {"datasets/one": 42},
		"an empty entry":               {"datasets/none": 0},
		"odd names":                    oddNames(),
		"more than three steps":        many(3500),
		"many folders with few things": folders(2500, 5),
		"a deep folder":                {strings.Repeat("d/", 400) + "end": 7, "top": 1},
		"sizes beyond 32 bits":         {"a": 5 << 30, "b": 1<<32 - 1, "c/d": 1 << 33},
	}
	for name, entries := range places {
		t.Run(name+" is counted exactly", func(t *testing.T) {
			t.Parallel()
			open := h.Make(t, entries)
			t.Run("in one go", func(t *testing.T) { testExact(t, open, entries) })
			t.Run("cut after every step", func(t *testing.T) { testCut(t, open, entries) })
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		entries := many(3500)
		open := h.Make(t, entries)
		t.Run("a step that is cancelled beforehand counts nothing", func(t *testing.T) { testCancelledBefore(t, open, entries) })
		t.Run("a step that is cancelled in the middle can be taken again", func(t *testing.T) { testCancelledWithin(t, open, entries) })
		t.Run("a cursor can be used twice", func(t *testing.T) { testCursorTwice(t, open, entries) })
	})
	t.Run("a cursor nobody made is refused", func(t *testing.T) { t.Parallel(); testForeignCursor(t, h) })
	t.Run("memory stays flat", func(t *testing.T) { testMemory(t, h) }) // alone: it looks at the whole heap
}

// testExact counts in one Source.
func testExact(t *testing.T, open Open, want map[string]int64) {
	src := mustOpen(t, open, nil)
	if src.Method() == "" {
		t.Error("Method is empty")
	}
	got := tally{}
	for {
		step := mustStep(t, src, got)
		if len(src.Cursor()) == 0 {
			t.Fatal("Cursor is empty after a step")
		}
		if step.Done {
			break
		}
	}
	got.check(t, want)
	if again := mustStep(t, src, tally{}); !again.Done {
		t.Error("a step after the last one is not Done")
	}
	got.check(t, want)
}

// testCut counts each step in a Source of its own, opened where the one before
// stopped, and once more behind the end.
func testCut(t *testing.T, open Open, want map[string]int64) {
	got, cursor := tally{}, []byte(nil)
	for done := false; !done; {
		src := mustOpen(t, open, cursor)
		done = mustStep(t, src, got).Done
		cursor = src.Cursor()
	}
	got.check(t, want)

	if after := mustStep(t, mustOpen(t, open, cursor), got); !after.Done {
		t.Error("a Source opened at the end is not Done after one step")
	}
	got.check(t, want)
}

func testCancelledBefore(t *testing.T, open Open, entries map[string]int64) {
	src := mustOpen(t, open, nil)
	got := tally{}
	mustStep(t, src, got)
	before := src.Cursor()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := stepInTime(t, ctx, src, func(source.Entry) {})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Step = %v, want context.Canceled", err)
	}
	if diff := cmp.Diff(before, src.Cursor()); diff != "" {
		t.Errorf("the cursor has moved although the step failed (-before +after):\n%s", diff)
	}
	finish(t, open, src.Cursor(), got)
	got.check(t, entries)
}

// testCancelledWithin cancels from within count, where a step may still succeed
// or fail, and believes what it says.
func testCancelledWithin(t *testing.T, open Open, entries map[string]int64) {
	for _, at := range []int{1, 10, 900, 1001, 2500} {
		got, cursor := tally{}, []byte(nil)
		ctx, cancel := context.WithCancel(t.Context())
		src, seen := mustOpen(t, open, nil), 0
		for {
			step := tally{}
			result, err := stepInTime(t, ctx, src, func(e source.Entry) {
				if seen++; seen == at {
					cancel()
				}
				step.add(e)
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("Step after a cancellation = %v, want context.Canceled", err)
			}
			cursor = src.Cursor()
			if err == nil {
				got.addAll(step)
			}
			if err != nil || result.Done {
				break
			}
		}
		cancel()
		finish(t, open, cursor, got)
		got.check(t, entries)
	}
}

// testCursorTwice: a slice of work whose result was lost is done again from the
// same cursor.
func testCursorTwice(t *testing.T, open Open, entries map[string]int64) {
	src := mustOpen(t, open, nil)
	got := tally{}
	mustStep(t, src, got)
	cursor := src.Cursor()
	finish(t, open, cursor, tally{})
	finish(t, open, cursor, got)
	got.check(t, entries)
}

func testForeignCursor(t *testing.T, h Harness) {
	open := h.Make(t, map[string]int64{"a": 1})
	for _, cursor := range []string{"x", "\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "{}", strings.Repeat("A", 5000)} {
		src, err := open(t.Context(), []byte(cursor))
		if err == nil {
			_ = src.Close()
			t.Errorf("opened at the cursor %.20q", cursor)
			continue
		}
		if sourceErr := (*source.Error)(nil); !errors.As(err, &sourceErr) {
			t.Errorf("Open at the cursor %.20q = %T, want a *source.Error", cursor, err)
		}
	}
}

// testMemory counts 100,000 entries and compares the heap after each step with
// that after the first.
func testMemory(t *testing.T, h Harness) {
	const entries, allowed = 100_000, 24 << 20
	place := folders(entries, 100)
	for key := range place {
		place[key] = 0 // cheaper to make
	}
	src := mustOpen(t, h.Make(t, place), nil)
	maxSteps := h.MaxSteps
	if maxSteps == 0 {
		maxSteps = 1000
	}
	var counted, first, peak uint64
	for steps := 1; ; steps++ {
		step, err := stepInTime(t, t.Context(), src, func(source.Entry) { counted++ })
		if err != nil {
			t.Fatal(err)
		}
		if steps == 1 {
			first = heap()
		} else if steps%20 == 0 {
			peak = max(peak, heap())
		}
		if step.Done {
			break
		}
		if steps > maxSteps {
			t.Fatalf("not done after %d steps", maxSteps)
		}
	}
	if counted != entries {
		t.Errorf("counted %d entries, want %d", counted, entries)
	}
	if peak > first+allowed {
		t.Errorf("the heap grew from %d to %d bytes, more than %d", first, peak, int64(allowed))
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// tally is what was counted: sizes by key. A key that comes twice makes a key of
// its own, which no place is asked to hold.
type tally map[string]int64

func (c tally) add(e source.Entry) {
	key := string(e.Key)
	for _, twice := c[key]; twice; _, twice = c[key] {
		key += " (again)"
	}
	c[key] = e.Size
}

func (c tally) addAll(other tally) {
	for key, size := range other {
		c.add(source.Entry{Key: []byte(key), Size: size})
	}
}

func (c tally) check(t *testing.T, want map[string]int64) {
	t.Helper()
	if diff := cmp.Diff(want, map[string]int64(c)); diff != "" {
		t.Fatalf("counted something else than what there is (-want +got):\n%.2000s", diff)
	}
}

// finish counts what comes after a cursor.
func finish(t *testing.T, open Open, cursor []byte, into tally) {
	t.Helper()
	src := mustOpen(t, open, cursor)
	for !mustStep(t, src, into).Done {
	}
}

func mustOpen(t *testing.T, open Open, cursor []byte) source.Source {
	t.Helper()
	src, err := open(t.Context(), cursor)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return src
}

func mustStep(t *testing.T, src source.Source, into tally) source.Step {
	t.Helper()
	step, err := stepInTime(t, t.Context(), src, into.add)
	if err != nil {
		t.Fatalf("step: %v", err)
	}
	if step.Incomplete != nil {
		t.Errorf("the step is incomplete: %+v", *step.Incomplete)
	}
	return step
}

// stepInTime fails the test if a step takes so long that a cancellation cannot
// have been obeyed.
func stepInTime(t *testing.T, ctx context.Context, src source.Source, count func(source.Entry)) (step source.Step, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		step, err = src.Step(ctx, count)
	}()
	select {
	case <-done:
		return step, err
	case <-time.After(30 * time.Second):
		t.Fatal("a step takes more than 30 seconds")
		return step, err
	}
}

// many returns n entries in two folders and at the top.
func many(n int) map[string]int64 {
	entries := map[string]int64{}
	for i := range n {
		folder := []string{"", "datasets/", "models/base/"}[i%3]
		entries[fmt.Sprintf("%sentry-%05d", folder, i)] = int64(i)
	}
	return entries
}

// folders returns n entries, so many to a folder.
func folders(n, each int) map[string]int64 {
	entries := map[string]int64{}
	for i := range n {
		entries[fmt.Sprintf("folder-%d/%05d/entry-%d", i/each%7, i/each, i)] = int64(i % 1000)
	}
	return entries
}

// oddNames are keys that sort, escape or print unexpectedly.
func oddNames() map[string]int64 {
	names := []string{
		" leading space", "trailing space ", "new\nline", "carriage\rreturn", "tab\tstop", "bell\a", "del\x7f",
		"plus+plus", "percent%41", "percent%", "a&b=c?d#e", `quote"'`, `back\slash`, "semi;colon", "*star*", "-dash", "--", "~tilde", "...", ".hidden", "a.", "$HOME", "<xml>&amp;</xml>",
		"ünïcödé", "u\u0308", "日本語", "emoji-🗂", "\u202eright-to-left", "zero\u200bwidth", "CaSe", "cAsE",
		strings.Repeat("n", 255), strings.Repeat("é", 127),
		// Keys around the slash: 0x2e, 0x2f, 0x30.
		"order/a", "order.a", "order0a", "order-a", "order/a.b", "order/a0b",
	}
	entries := map[string]int64{}
	for i, name := range names {
		entries[name] = int64(i + 1)
	}
	entries["all/"+strings.Join(names[:20], "/")] = 1000
	return entries
}
