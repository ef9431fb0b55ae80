package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes notes each write by itself.
type writes struct {
	mu   sync.Mutex
	list []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, string(p))
	return len(p), nil
}

func (w *writes) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.list
	w.list = nil
	return list
}

func TestLogWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w writes
		l := newLogWriter(&w)
		expect := func(when string, want ...string) {
			t.Helper()
			if got := w.take(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: wrote %q, want %q", when, got, want)
			}
		}
		write := func(line string) { _, _ = l.Write([]byte(line)) }

		write("a\n")
		expect("the first line", "a\n")
		write("b\n")
		write("c\n")
		expect("lines right after it")
		time.Sleep(logPause + time.Millisecond)
		expect("after the pause", "b\nc\n")
		time.Sleep(logPause)
		write("d\n")
		expect("a line after a quiet time", "d\n")

		long := strings.Repeat("x", logBuffer)
		write(long)
		expect("more than is held back", long)
		write("e\n")
		l.Flush()
		expect("at the end", "e\n")
		time.Sleep(2 * logPause)
		expect("after the end")
	})
}

func TestLogWriterLosesNothing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLogWriter(&out)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for j := range 1000 {
				_, _ = fmt.Fprintf(l, "%d %d\n", i, j)
			}
		})
	}
	writers.Wait()
	l.Flush()
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		seen[line] = true
	}
	if len(seen) != 8000 {
		t.Errorf("%d different lines, want 8000", len(seen))
	}
}
