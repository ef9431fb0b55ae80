package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/purserhq/purser"
)

// OpenPostgres opens the database at url (libpq's form of postgres:// URLs).
// Errors are sentences for the person who starts the server; they never contain
// the password.
func OpenPostgres(ctx context.Context, url string, migrate ...Migration) (*Store, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		var parse *pgconn.ParseConfigError
		if errors.As(err, &parse) {
			return nil, startError("--database-url is not a PostgreSQL URL such as postgres://user@host:5432/purser")
		}
		return nil, err
	}
	return openPostgres(ctx, config, migrate)
}

func openPostgres(ctx context.Context, config *pgx.ConnConfig, migrate []Migration) (*Store, error) {
	setDefault(config.RuntimeParams, "application_name", "purser")
	// A request never waits longer than its own time limit, and a lock is never
	// held for the sake of a client that has gone or is frozen: nodes that need it
	// get it before they give up waiting. Between statements of a transaction we do
	// nothing that takes time.
	setDefault(config.RuntimeParams, "statement_timeout", "25000")
	setDefault(config.RuntimeParams, "lock_timeout", "10000")
	setDefault(config.RuntimeParams, "idle_in_transaction_session_timeout", "8000")

	s := &Store{dialect: Postgres, failed: make(chan error, 1)}
	s.pool = openPgPool(config, 8*runtime.GOMAXPROCS(0))
	s.writer = s.pool
	s.jobs = openPgPool(config, 4)
	s.reads = reads{run: poolRunner{&statements{dialect: Postgres, db: s.pool}}}
	if err := s.start(ctx, config, migrate); err != nil {
		s.closePools()
		return nil, err
	}
	return s, nil
}

func (s *Store) start(ctx context.Context, config *pgx.ConnConfig, migrate []Migration) error {
	if err := s.pool.PingContext(ctx); err != nil {
		return &purser.Error{
			Kind: purser.KindUnavailable, Op: "store.OpenPostgres", Err: err,
			Message: fmt.Sprintf("PostgreSQL does not answer (%s); check --database-url, and that the server runs and lets this user in", pgReason(err)),
		}
	}
	// A migration of a large table may take long, and so may the wait for the node
	// that is at it already.
	patient := config.Copy()
	for _, limit := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		patient.RuntimeParams[limit] = "0"
	}
	db := openPgPool(patient, 4)
	defer func() { _ = db.Close() }() // a failure to part changes nothing
	return runMigrations(ctx, db, Postgres, migrate)
}

// pgReason tells the sort of failure without repeating the address or user.
func pgReason(err error) string {
	if state := sqlState(err); state != "" {
		return "SQLSTATE " + state
	}
	return "no connection"
}

func openPgPool(config *pgx.ConnConfig, connections int) *sql.DB {
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

func setDefault(params map[string]string, name, value string) {
	if _, set := params[name]; !set {
		params[name] = value
	}
}
