package store

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"strings"
	"sync"
	"time"
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

// patience bounds how long a statement, or a transaction on PostgreSQL, can hold
// its caller up when the database has gone silent. One that is alive ends them
// earlier by itself; see openPostgres.
const patience = 30 * time.Second

// runner runs statements by name, in a transaction or outside. A caller who goes
// while a statement runs does not stop it. SQLite's reads take microseconds, and
// watching would cost two goroutines each; on PostgreSQL the connection would be
// lost with the statement, so that callers who come and go could exhaust them
// for all others.
type runner interface {
	// query hands the rows to read and then ends the statement, so that the
	// transaction's next one does not meet it half done.
	query(ctx context.Context, read func(*sql.Rows) error, name string, args ...any) error
	exec(ctx context.Context, name string, args ...any) (sql.Result, error)
}

// drain ends a query whose rows read has seen. Whatever went wrong after the
// first row shows only now.
func drain(rows *sql.Rows, read func(*sql.Rows) error) error {
	err := read(rows)
	return cmp.Or(rows.Err(), rows.Close(), err)
}

// poolRunner runs each statement by itself on any connection of a pool.
type poolRunner struct{ *statements }

func (r poolRunner) query(ctx context.Context, read func(*sql.Rows) error, name string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if r.dialect == SQLite {
		st, err := r.stmt(ctx, name)
		if err != nil {
			return err
		}
		rows, err := st.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		return drain(rows, read)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, err := r.db.QueryContext(ctx, r.text(name), args...)
	if err != nil {
		return err
	}
	return drain(rows, read)
}

func (poolRunner) exec(_ context.Context, name string, _ ...any) (sql.Result, error) {
	panic("store: " + name + " changes something outside a transaction")
}

// txRunner runs statements in a transaction, and under the transaction's own
// context: on SQLite other callers' changes may be in it too.
type txRunner struct {
	tx         *sql.Tx
	ctx        context.Context
	statements *statements
	// touch is told the arguments of each statement that changes something; nil for
	// nobody.
	touch func(args []any)
}

func (r txRunner) query(_ context.Context, read func(*sql.Rows) error, name string, args ...any) error {
	rows, err := r.rows(name, args)
	if err != nil {
		return err
	}
	return drain(rows, read)
}

func (r txRunner) rows(name string, args []any) (*sql.Rows, error) {
	if st := r.prepared(name); st != nil {
		return st.QueryContext(r.ctx, args...)
	}
	return r.tx.QueryContext(r.ctx, r.statements.text(name), args...)
}

func (r txRunner) exec(_ context.Context, name string, args ...any) (sql.Result, error) {
	if r.touch != nil {
		r.touch(args)
	}
	if st := r.prepared(name); st != nil {
		return st.ExecContext(r.ctx, args...)
	}
	return r.tx.ExecContext(r.ctx, r.statements.text(name), args...)
}

// prepared binds a prepared statement to the transaction; nil if there is none
// of this name, because nobody has called prepareAll.
func (r txRunner) prepared(name string) *sql.Stmt {
	if st, ok := r.statements.prepared.Load(name); ok {
		return r.tx.StmtContext(r.ctx, st.(*sql.Stmt))
	}
	return nil
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
