package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed query/*.sql
var queryFiles embed.FS

// queries holds the text of every statement by name, for each dialect. A name
// followed by a dialect in brackets is that dialect's own variant.
var queries = mustLoadQueries()

func mustLoadQueries() map[Dialect]map[string]string {
	texts := map[Dialect]map[string]string{SQLite: {}, Postgres: {}}
	files, err := queryFiles.ReadDir("query")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		content, err := queryFiles.ReadFile("query/" + file.Name())
		if err != nil {
			panic(err)
		}
		for _, block := range strings.Split("\n"+string(content), "\n-- name: ")[1:] {
			header, text, _ := strings.Cut(block, "\n")
			name, dialect, special := strings.Cut(strings.TrimSpace(header), " ")
			if special {
				texts[Dialect(strings.Trim(dialect, "()"))][name] = strings.TrimSpace(text)
				continue
			}
			for d := range texts {
				texts[d][name] = strings.TrimSpace(text)
			}
		}
	}
	return texts
}

// statements finds statements by name for one pool of connections. SQLite's are
// prepared once; PostgreSQL's driver keeps prepared statements by itself, on
// each connection.
type statements struct {
	dialect  Dialect
	db       *sql.DB
	prepared sync.Map // name → *sql.Stmt
}

func (s *statements) text(name string) string {
	text, ok := queries[s.dialect][name]
	if !ok {
		panic("store: no statement is called " + name)
	}
	return text
}

func (s *statements) stmt(ctx context.Context, name string) (*sql.Stmt, error) {
	if st, ok := s.prepared.Load(name); ok {
		return st.(*sql.Stmt), nil
	}
	st, err := s.db.PrepareContext(ctx, s.text(name))
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", name, err)
	}
	if other, raced := s.prepared.LoadOrStore(name, st); raced {
		_ = st.Close()
		return other.(*sql.Stmt), nil
	}
	return st, nil
}

// runner runs statements by name, in a transaction or outside.
type runner interface {
	query(ctx context.Context, name string, args ...any) (*sql.Rows, error)
	exec(ctx context.Context, name string, args ...any) (sql.Result, error)
}

// poolRunner runs each statement by itself on any connection of a pool.
type poolRunner struct{ *statements }

func (r poolRunner) query(ctx context.Context, name string, args ...any) (*sql.Rows, error) {
	if r.dialect == Postgres {
		return r.db.QueryContext(ctx, r.text(name), args...)
	}
	// SQLite reads take microseconds; watching for a cancelled caller would cost
	// two goroutines a statement.
	ctx = context.WithoutCancel(ctx)
	st, err := r.stmt(ctx, name)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

func (poolRunner) exec(_ context.Context, name string, _ ...any) (sql.Result, error) {
	panic("store: " + name + " changes something outside a transaction")
}

// txRunner runs statements in a transaction.
type txRunner struct {
	tx         *sql.Tx
	statements *statements
}

func (r txRunner) query(ctx context.Context, name string, args ...any) (*sql.Rows, error) {
	if r.statements.dialect == Postgres {
		return r.tx.QueryContext(ctx, r.statements.text(name), args...)
	}
	ctx, st, err := r.sqlite(ctx, name)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

func (r txRunner) exec(ctx context.Context, name string, args ...any) (sql.Result, error) {
	if r.statements.dialect == Postgres {
		return r.tx.ExecContext(ctx, r.statements.text(name), args...)
	}
	ctx, st, err := r.sqlite(ctx, name)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

// sqlite binds a prepared statement to the transaction. The caller's
// cancellation is left out: SQLite answers an interrupted change by rolling
// back the whole transaction, in which other callers' changes may be.
func (r txRunner) sqlite(ctx context.Context, name string) (context.Context, *sql.Stmt, error) {
	ctx = context.WithoutCancel(ctx)
	if st, ok := r.statements.prepared.Load(name); ok {
		return ctx, r.tx.StmtContext(ctx, st.(*sql.Stmt)), nil
	}
	// The writer's only connection is taken by this transaction, so the statement
	// cannot be prepared on the pool now; see prepareAll.
	st, err := r.tx.PrepareContext(ctx, r.statements.text(name))
	return ctx, st, err
}

// prepareAll prepares every statement, which also proves that all of them are
// valid for this database's schema.
func (s *statements) prepareAll(ctx context.Context) error {
	for name := range queries[s.dialect] {
		if _, err := s.stmt(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
