package posixtree

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// item is a piece of work that is never cut: a directory with all it holds but
// for what its directories hold, or a part of a large one.
type item struct {
	dir *dir
	cut *cut // nil for a directory that is to be read, and walked whole unless it is large
}

// cut is what is left of a large directory.
type cut struct {
	parts uint32
	left  []uint32 // the numbers of the parts, ascending
	// names are those of the part left[0], which is the only one; nil means that
	// the directory has to be read again first.
	names *names
}

// crew is what the workers share during one step. Each keeps what it finds on a
// stack of its own and gives the older half of it away only when another has
// nothing to do; so workers hardly ever meet, and what is known but not walked
// stays about as small as with one worker that goes into the depth.
type crew struct {
	walk   *walk
	ctx    context.Context //nolint:containedctx // a crew lives as long as a step
	cancel context.CancelCauseFunc
	full   chan *batch // closed when all workers have stopped

	budget  atomic.Int64 // how many more names are to be dealt with
	halted  atomic.Bool  // nobody begins anything any more
	aborted atomic.Bool  // and what is under way is for nothing
	idle    atomic.Int32

	mu         sync.Mutex
	wake       sync.Cond // for changes of halted and pool
	pool       []item    // guarded by mu
	unreadable uint64    // guarded by mu
}

// start lets the workers begin with items. The caller receives from full until
// it is closed.
func (w *walk) start(ctx context.Context, items []item) *crew {
	c := &crew{walk: w, full: make(chan *batch, len(w.workers)), pool: slices.Clone(items)}
	c.wake.L = &c.mu
	// A cursor takes the longer to make the more files are kept in mind.
	kept := len(w.links.left)
	c.budget.Store(int64(w.opener.stepNames + 2*kept))
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	forget := context.AfterFunc(c.ctx, func() { c.aborted.Store(true); c.halt() })
	timer := time.AfterFunc(stepTime+time.Duration(kept)*time.Microsecond, c.halt)
	var wait sync.WaitGroup
	for _, worker := range w.workers {
		wait.Go(func() { worker.work(c) })
	}
	go func() {
		wait.Wait()
		timer.Stop()
		forget()
		close(c.full)
	}()
	return c
}

// halt lets the workers end what they are at and stop.
func (c *crew) halt() {
	c.halted.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake.Broadcast()
}

// end waits for the workers and returns why the step has failed, if so.
func (c *crew) end(ctx context.Context) error {
	for range c.full { // after a panic nobody else receives
	}
	cause := context.Cause(c.ctx)
	c.cancel(nil)
	if err := ctx.Err(); err != nil {
		return err
	}
	return cause
}

// left is what is still to be walked. Only when all workers have stopped.
func (c *crew) left() []item {
	left := c.pool
	for _, w := range c.walk.workers {
		left = append(left, w.stack...)
		w.stack = w.stack[:0]
	}
	return left
}

// take returns what comes next for a worker, or false when it is to stop.
func (c *crew) take(w *worker) (item, bool) {
	if c.halted.Load() {
		return item{}, false
	}
	if len(w.stack) > 1 && c.idle.Load() > 0 {
		c.share(w)
	}
	if len(w.stack) == 0 && !c.fetch(w) {
		return item{}, false
	}
	next := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	return next, true
}

// share moves the older half of a worker's stack to the pool, unless there is
// enough for all who wait.
func (c *crew) share(w *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pool) >= int(c.idle.Load()) {
		return
	}
	half := len(w.stack) / 2
	c.pool = append(c.pool, w.stack[:half]...)
	w.stack = slices.Delete(w.stack, 0, half)
	c.wake.Broadcast()
}

// fetch waits for something in the pool and moves a share of it to a worker's
// stack. It reports false when nothing comes any more.
func (c *crew) fetch(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pool) == 0 && !c.halted.Load() {
		if int(c.idle.Add(1)) == len(c.walk.workers) {
			c.halted.Store(true) // all have been walked
			c.wake.Broadcast()
		} else {
			c.wake.Wait()
		}
		c.idle.Add(-1)
	}
	if c.halted.Load() {
		return false
	}
	rest := len(c.pool) - 1 - len(c.pool)/(2*len(c.walk.workers))
	w.stack = append(w.stack, c.pool[rest:]...)
	clear(c.pool[rest:])
	c.pool = c.pool[:rest]
	return true
}

// work takes items until there are none, or the step ends.
func (w *worker) work(c *crew) {
	w.crew, w.batch = c, nil // what a failed step has left there is not to be counted
	defer func() {
		// A panic here would end the process; this way it is the scan's failure.
		if r := recover(); r != nil {
			c.cancel(fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	for {
		it, more := c.take(w)
		if !more {
			break
		}
		names, err := w.walkItem(it)
		if err != nil {
			c.cancel(err)
			return
		}
		if c.budget.Add(-int64(max(1, names))) <= 0 && !c.halted.Load() {
			c.halt()
		}
	}
	w.flush()
}
