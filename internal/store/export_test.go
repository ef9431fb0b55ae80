package store

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Recorder notes which statements run.
type Recorder struct{ ran sync.Map }

// OpenPostgresRecorded is OpenPostgres with everything that runs told to r. The
// choice of a statement does not depend on the database, so what a suite runs
// here is what it runs on SQLite.
func OpenPostgresRecorded(ctx context.Context, url string, r *Recorder) (*Store, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.Tracer = r
	return openPostgres(ctx, config, nil)
}

// TraceQueryStart makes Recorder a tracer of pgx.
func (r *Recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.ran.Store(data.SQL, true)
	return ctx
}

// TraceQueryEnd makes Recorder a tracer of pgx.
func (*Recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// NeverRan returns the names of the statements that did not run.
func (r *Recorder) NeverRan() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(queries[Postgres])), func(name string) bool {
		_, ran := r.ran.Load(queries[Postgres][name])
		return ran
	})
}

// SQLiteOnly returns the names of the statements that only SQLite has.
func SQLiteOnly() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(queries[SQLite])), func(name string) bool {
		return queries[Postgres][name] != ""
	})
}

// NewestSchema is the version of the last migration.
func NewestSchema() int {
	files, err := migrationFiles.ReadDir("migration")
	if err != nil {
		panic(err)
	}
	return len(files)
}

// MigrateTo makes the tables as a program had them whose last migration has this
// number.
func MigrateTo(ctx context.Context, db *sql.DB, dialect Dialect, version int64) error {
	provider, err := ownMigrations(db, dialect)
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// Pragma returns what a pragma says on every connection of every pool: they are
// all opened, by holding on to each.
func (s *Store) Pragma(ctx context.Context, name string) ([]string, error) {
	var values []string
	for _, st := range []*statements{{db: s.writer}, {db: s.pool}} {
		for range st.db.Stats().MaxOpenConnections {
			conn, err := st.db.Conn(ctx)
			if err != nil {
				return nil, err
			}
			defer func() { _ = conn.Close() }()
			var value string
			if err := conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value); err != nil {
				return nil, err
			}
			values = append(values, strings.ToLower(value))
		}
	}
	return values, nil
}

// SetMinSQLite pretends that a newer SQLite is needed.
func SetMinSQLite(version [3]int) (restore func()) {
	old := minSQLite
	minSQLite = version
	return func() { minSQLite = old }
}

// SetQuickCheckLimit changes the size up to which databases are checked.
func SetQuickCheckLimit(bytes int64) (restore func()) {
	old := quickCheckLimit
	quickCheckLimit = bytes
	return func() { quickCheckLimit = old }
}
