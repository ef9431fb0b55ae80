package store

import (
	"context"
	"database/sql"
	"fmt"
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
	versions   *versions
	queue      chan *change
	stopped    chan struct{} // closed by close
	done       chan struct{} // closed when loop has ended
	fail       func(error)
	broken     error // the loop's own: why nothing is written any more
}

// change is one call of InTx.
type change struct {
	ctx  context.Context
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

func newBatcher(db *sql.DB, st *statements, v *versions, fail func(error)) *batcher {
	b := &batcher{
		db: db, statements: st, versions: v, fail: fail,
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
	err := b.broken
	if err == nil {
		err = b.transact(batch)
	}
	for _, c := range batch {
		if c.err == nil {
			c.err = err
		}
		close(c.done)
	}
}

// transact runs a batch and commits it. Its error is that of the changes which
// would have succeeded; the others keep their own.
func (b *batcher) transact(batch []*change) error {
	// The transaction outlives any one caller: it must not be rolled back for the
	// others because one of them has gone.
	ctx := context.Background()
	sqlTx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return undone(err)
	}
	defer func() { _ = sqlTx.Rollback() }() // no effect after Commit
	changed := touched{}
	tx := newTx(ctx, sqlTx, b.statements, func(args []any) { b.touch(changed, args) })
	if err := b.runAll(ctx, tx, batch); err != nil {
		return undone(err)
	}
	changed.step()
	defer changed.step()
	switch err := sqlTx.Commit(); {
	case err == nil:
		return nil
	case isSyncFailure(err), isDamage(err):
		b.broken = unconfirmed(fmt.Errorf("the database could not be written: %w", err))
		b.fail(b.broken)
		return b.broken
	default:
		return undone(err)
	}
}

// touch accounts for a statement that changes something. All those that change
// what is remembered begin with the team's id; in others it is no team's, which
// does no harm.
func (b *batcher) touch(changed touched, args []any) {
	if len(args) == 0 {
		return
	}
	if team, ok := args[0].(string); ok {
		changed[b.versions.of(team)] = struct{}{}
	}
}

// runAll runs each change behind a savepoint, so that one that fails takes
// nothing else with it. It returns an error when the transaction is to be rolled
// back as a whole.
func (*batcher) runAll(ctx context.Context, tx *Tx, batch []*change) error {
	if len(batch) == 1 {
		return batch[0].run(tx)
	}
	for _, c := range batch {
		if err := tx.exec(ctx, "Savepoint"); err != nil {
			return err
		}
		if c.run(tx) != nil {
			if err := tx.exec(ctx, "RollbackToSavepoint"); err != nil {
				return err
			}
		}
		if err := tx.exec(ctx, "ReleaseSavepoint"); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) exec(ctx context.Context, name string) error {
	_, err := t.run.exec(ctx, name)
	return err
}

// run runs a change unless its caller has gone, and keeps its outcome.
func (c *change) run(tx *Tx) error {
	err := c.ctx.Err()
	if err == nil {
		err = runSafely(c.fn, tx)
	}
	c.err = convertError(err)
	return c.err
}
