// Package store keeps what Purser knows, in SQLite or PostgreSQL, and finds it
// again.
//
// It holds no rules: services decide what may change and call InTx to read,
// decide and write in one transaction. What always holds: a transaction that
// InTx reports as done survives a power cut, and one that it reports as failed
// has left nothing behind. Errors are purser errors; the text of a database
// never reaches their messages.
//
// One set of statements (query/*.sql) and of migrations serves both databases.
// SQLite is written through one connection, by one goroutine that commits
// waiting changes together; see batch.go.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// Dialect tells the two databases apart where they truly differ.
type Dialect string

const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	reads
	dialect Dialect
	pool    *sql.DB // readers; on PostgreSQL also writers
	writer  *sql.DB // SQLite: the one connection that writes; PostgreSQL: pool
	jobs    *sql.DB // for the job queue; SQLite: writer, so that the two never wait for locks of each other
	batch   *batcher
	recent  *recent // nil on PostgreSQL
	unlock  func() error
	failed  chan error
	closed  atomic.Bool
}

// Tx is one transaction: everything the store can read, and all it can change.
// It must not be used after the function it was handed to has returned.
type Tx struct {
	reads
	tx *sql.Tx
}

// SQL returns the transaction underneath, for the job queue, which enqueues its
// jobs in it.
func (t *Tx) SQL() *sql.Tx { return t.tx }

// Dialect returns which database this is.
func (s *Store) Dialect() Dialect { return s.dialect }

// JobsDB returns the connection pool that is set aside for the job queue.
func (s *Store) JobsDB() *sql.DB { return s.jobs }

// Failed delivers the error after which the store takes no more changes,
// because it can no longer tell what is on disk. The process should end: after
// a failed fsync the kernel may have dropped the very pages that were not
// written, so that trying again would only look like success.
func (s *Store) Failed() <-chan error { return s.failed }

// InTx runs fn in one transaction and commits it if fn returns nil. The
// transaction is durable when InTx returns nil, and without trace otherwise;
// only when the database fails in the very moment of the commit can nobody know,
// and then the error says so.
//
// A caller who goes before fn has begun changes nothing; after that the outcome
// is waited for. fn may be run more than once, and by another goroutine. It must
// not call InTx itself, and when one of Tx's methods has failed with anything but
// KindNotFound it must return an error: PostgreSQL has given the transaction up.
// A panic in fn becomes an error, because on SQLite it would take others'
// changes with it.
func (s *Store) InTx(ctx context.Context, fn func(*Tx) error) error {
	if s.batch != nil {
		return s.batch.do(ctx, fn)
	}
	return s.retry(ctx, fn)
}

// retry runs fn in a transaction of its own and again when PostgreSQL asks for
// that (serialization failure, deadlock).
func (s *Store) retry(ctx context.Context, fn func(*Tx) error) error {
	const attempts = 4
	for attempt := 1; ; attempt++ {
		err := s.once(ctx, fn)
		if attempt == attempts || !wantsRetry(err) {
			return convertError(err)
		}
	}
}

func (s *Store) once(ctx context.Context, fn func(*Tx) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	tx, err := s.writer.BeginTx(limited, nil)
	switch {
	case err != nil && s.closed.Load():
		return errClosed
	case err != nil:
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	if err := ctx.Err(); err != nil {
		return err // the caller has gone while waiting for a connection
	}
	if err := runSafely(fn, newTx(limited, tx, s.run.(poolRunner).statements, nil)); err != nil {
		return err
	}
	err = tx.Commit()
	if err == nil || sqlState(err) != "" || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err // done, or refused by a server that is well
	}
	return unconfirmed(err)
}

// runSafely turns a panic into an error.
func runSafely(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", r, debug.Stack())
		}
	}()
	return fn(tx)
}

func newTx(ctx context.Context, tx *sql.Tx, st *statements, touch func(args []any)) *Tx {
	return &Tx{reads: reads{run: txRunner{tx: tx, ctx: ctx, statements: st, touch: touch}}, tx: tx}
}

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return convertError(s.pool.PingContext(ctx))
}

// Close waits for changes under way and closes the database. Closing it again
// does nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if s.batch != nil {
		s.batch.close()
	}
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	if s.jobs != s.writer {
		keep(s.jobs.Close())
	}
	if s.writer != s.pool {
		keep(s.writer.Close())
	}
	keep(s.pool.Close())
	if s.unlock != nil {
		keep(s.unlock())
	}
	return first
}
