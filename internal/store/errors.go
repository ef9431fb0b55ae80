package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/purserhq/purser"
)

const unavailable = "The database cannot take the request right now; nothing was changed. Try again."

// undone is the error for a change that was lost through no fault of its own.
func undone(err error) error {
	return &purser.Error{Kind: purser.KindUnavailable, Op: "store.InTx", Message: unavailable, RetryAfter: time.Second, Err: err}
}

// unconfirmed is the error for a commit that the database neither confirmed nor
// refused. Whoever repeats it blindly may do it twice.
func unconfirmed(err error) error {
	return &purser.Error{
		Kind: purser.KindUnavailable, Op: "store.InTx", Err: err,
		Message: "The database did not confirm the change, so it may or may not have been made. Look before you try again.",
	}
}

// convertError turns what a database reports into a purser error, by number and
// never by text. Errors that services returned from a transaction pass as they
// are.
func convertError(err error) error {
	var known *purser.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &purser.Error{Kind: purser.KindCanceled, Op: "store", Message: "The request was given up before it was done.", Err: err}
	case isUniqueViolation(err):
		return &purser.Error{Kind: purser.KindConflict, Op: "store", Message: "This contradicts what is stored already.", Err: err}
	case isUnavailable(err):
		return &purser.Error{Kind: purser.KindUnavailable, Op: "store", Message: unavailable, RetryAfter: time.Second, Err: err}
	}
	return &purser.Error{Kind: purser.KindInternal, Op: "store", Err: err}
}

// sqliteCode returns SQLite's primary result code and its extended one, or 0.
func sqliteCode(err error) (primary, extended int) {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff, e.Code()
	}
	return 0, 0
}

// sqlState returns PostgreSQL's SQLSTATE (appendix A of its manual), or "".
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func isUniqueViolation(err error) bool {
	_, extended := sqliteCode(err)
	return extended == sqlite3.SQLITE_CONSTRAINT_UNIQUE || extended == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY ||
		sqlState(err) == "23505"
}

// isDamage reports whether SQLite found its file to be broken, or not its file
// at all.
func isDamage(err error) bool {
	primary, _ := sqliteCode(err)
	return primary == sqlite3.SQLITE_CORRUPT || primary == sqlite3.SQLITE_NOTADB
}

// isSyncFailure reports whether SQLite could not make sure that what it wrote is
// on disk. Other failures of writing (a full disk) come before that and leave
// the database as it was.
func isSyncFailure(err error) bool {
	_, extended := sqliteCode(err)
	return extended == sqlite3.SQLITE_IOERR_FSYNC || extended == sqlite3.SQLITE_IOERR_DIR_FSYNC
}

func isUnavailable(err error) bool {
	switch primary, _ := sqliteCode(err); primary {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY:
		return true
	}
	if state := sqlState(err); len(state) == 5 {
		switch state[:2] {
		case "08", "53", "57", "40", "55": // connection, resources, operator intervention, rollback, not available
			return true
		}
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, sql.ErrConnDone) || pgconn.Timeout(err) || pgconn.SafeToRetry(err)
}

// wantsRetry reports whether PostgreSQL has rolled the transaction back only
// because of others: serialization failure or deadlock.
func wantsRetry(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01"
}
