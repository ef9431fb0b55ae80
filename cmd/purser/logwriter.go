package main

import (
	"io"
	"sync"
	"time"
)

const (
	// logPause is the shortest time between two writes of the log: on a busy server
	// a write for each line cost more than making the line.
	logPause = 50 * time.Millisecond
	// logBuffer is how much is held back at most.
	logBuffer = 64 << 10
)

// logWriter passes lines on at once while they come now and then, and together
// while they come quickly. A server that is killed loses the last logPause of
// them; one that ends by itself loses none, if it flushes.
type logWriter struct {
	w io.Writer

	mu      sync.Mutex
	held    []byte
	last    time.Time // of the last write
	pending bool      // a flush is on its way
}

func newLogWriter(w io.Writer) *logWriter { return &logWriter{w: w} }

// Write never fails: nobody could be told.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, line...)
	wait := logPause - time.Since(l.last)
	switch {
	case wait <= 0, len(l.held) >= logBuffer:
		l.flush()
	case !l.pending:
		l.pending = true
		time.AfterFunc(wait, l.Flush)
	}
	return len(line), nil
}

// Flush writes what is held back.
func (l *logWriter) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = false
	l.flush()
}

func (l *logWriter) flush() {
	if len(l.held) == 0 {
		return
	}
	_, _ = l.w.Write(l.held)
	l.held, l.last = l.held[:0], time.Now()
}
