package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/purserhq/purser"
)

// maxBatch bounds how many changes share one commit, and so how long the first
// of them waits for the last.
const maxBatch = 64

// batcher is the one goroutine that writes to SQLite. It takes all changes that
// wait, runs each behind a savepoint of its own in one transaction, and answers
// after the commit: one fsync for all of them, where each alone would pay for
// one. A change that nobody else waits with is committed at once.
type batcher struct {
	db         *sql.DB
	statements *statements
	newTx      func(*sql.Tx) *Tx
	queue      chan *change
	stopped    chan struct{} // closed by close
	done       chan struct{} // closed when loop has ended
	fail       func(error)
}

// change is one call of InTx.
type change struct {
	ctx  context.Context
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

func newBatcher(db *sql.DB, st *statements, newTx func(*sql.Tx) *Tx, fail func(error)) *batcher {
	b := &batcher{
		db: db, statements: st, newTx: newTx, fail: fail,
		queue: make(chan *change, maxBatch), stopped: make(chan struct{}), done: make(chan struct{}),
	}
	go b.loop()
	return b
}

var errClosed = &purser.Error{
	Kind: purser.KindUnavailable, Op: "store.InTx",
	Message: "The server is shutting down; try again.", RetryAfter: time.Second,
}

func (b *batcher) do(ctx context.Context, fn func(*Tx) error) error {
	c := &change{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case b.queue <- c:
	case <-ctx.Done():
		return convertError(ctx.Err())
	case <-b.stopped:
		return errClosed
	}
	// From here on the change may be committed, so its outcome is waited for even
	// when the caller has gone. The loop answers everything it has taken; when it
	// has ended, what still lies in the queue was never begun.
	select {
	case <-c.done:
		return c.err
	case <-b.done:
		select {
		case <-c.done:
			return c.err
		default:
			return errClosed
		}
	}
}

func (b *batcher) close() {
	close(b.stopped)
	<-b.done
}

func (b *batcher) loop() {
	defer close(b.done)
	for {
		select {
		case c := <-b.queue:
			b.commit(b.waiting(c))
		case <-b.stopped:
			return
		}
	}
}

// waiting returns first and whatever else waits already.
func (b *batcher) waiting(first *change) []*change {
	batch := []*change{first}
	for len(batch) < maxBatch {
		select {
		case c := <-b.queue:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

func (b *batcher) commit(batch []*change) {
	defer func() {
		for _, c := range batch {
			close(c.done)
		}
	}()
	// The transaction outlives any one caller: it must not be rolled back for the
	// others because one of them has gone.
	sqlTx, err := b.db.BeginTx(context.Background(), nil)
	if err == nil {
		err = b.runAll(sqlTx, batch)
	}
	if err != nil {
		if sqlTx != nil {
			_ = sqlTx.Rollback()
		}
		b.failAll(batch, err)
		return
	}
	if err := sqlTx.Commit(); err != nil {
		_ = sqlTx.Rollback()
		b.failAll(batch, err)
		if isIOError(err) {
			b.fail(fmt.Errorf("the database could not be written: %w", err))
		}
	}
}

// runAll runs each change behind a savepoint, so that one that fails takes
// nothing else with it. It returns an error when the transaction itself is lost.
func (b *batcher) runAll(sqlTx *sql.Tx, batch []*change) error {
	tx := b.newTx(sqlTx)
	for _, c := range batch {
		if err := c.ctx.Err(); err != nil {
			c.err = convertError(err)
			continue
		}
		if _, err := sqlTx.Exec("SAVEPOINT change"); err != nil {
			return err
		}
		c.err = convertError(runSafely(c.fn, tx))
		end := "RELEASE change"
		if c.err != nil {
			end = "ROLLBACK TO change; RELEASE change"
		}
		if _, err := sqlTx.Exec(end); err != nil {
			return errors.Join(err, c.err)
		}
	}
	return nil
}

// failAll gives every change that had succeeded the error that undid it.
func (b *batcher) failAll(batch []*change, err error) {
	err = convertError(err)
	for _, c := range batch {
		if c.err == nil {
			c.err = &purser.Error{Kind: purser.KindUnavailable, Op: "store.InTx", Message: unavailable, RetryAfter: time.Second, Err: err}
		}
	}
}

// runSafely turns a panic into an error: the goroutine belongs to everybody who
// waits, not only to the caller whose function is wrong.
func runSafely(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(tx)
}
