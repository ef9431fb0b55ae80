package store

import (
	"context"
	"database/sql"
	"math"
	"time"

	"github.com/purserhq/purser"
)

// Times are stored as microseconds since 1970, which is what both databases
// compare exactly and PostgreSQL's own clock resolves.

func toMicros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// nullMicros stores the zero time as NULL.
func nullMicros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return toMicros(t)
}

func fromNullMicros(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return fromMicros(us.Int64)
}

// nullText stores the empty string as NULL.
func nullText[S ~string](s S) any {
	if s == "" {
		return nil
	}
	return string(s)
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// scalar reads a row of one column.
func scalar[T any](row scanner) (v T, err error) {
	err = row.Scan(&v)
	return v, err
}

// one returns the first row of a query. When there is none it returns the zero
// value and what missing says about it.
func one[T any](ctx context.Context, r runner, scan func(scanner) (T, error), missing func(op string) error, name string, args ...any) (T, error) {
	var v, zero T
	found := false
	err := r.query(ctx, func(rows *sql.Rows) (err error) {
		if found = rows.Next(); found {
			v, err = scan(rows)
		}
		return err
	}, name, args...)
	switch {
	case err != nil:
		return zero, convertError(err)
	case !found:
		return zero, missing(name)
	}
	return v, nil
}

// optional is the missing of things that need not be there.
func optional(string) error { return nil }

// all returns every row of a query.
func all[T any](ctx context.Context, r runner, scan func(scanner) (T, error), name string, args ...any) ([]T, error) {
	var items []T
	err := r.query(ctx, func(rows *sql.Rows) error {
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			items = append(items, v)
		}
		return nil
	}, name, args...)
	if err != nil {
		return nil, convertError(err)
	}
	return items, nil
}

// list returns one page of a query that comes as …Descending and …Ascending and
// ends in the parameters (time, id, limit). It asks for one row more than the
// page holds, which tells whether another page follows without counting.
func list[T any](ctx context.Context, r runner, scan func(scanner) (T, error), position func(T) purser.Position,
	name string, page purser.PageRequest, args ...any,
) (purser.Page[T], error) {
	at, id := int64(math.MaxInt64), ""
	name += "Descending"
	if page.Ascending {
		at, name = math.MinInt64, name[:len(name)-len("Descending")]+"Ascending"
	}
	if !page.After.IsZero() {
		at, id = toMicros(page.After.CreatedAt), page.After.ID
	}
	items, err := all(ctx, r, scan, name, append(args, at, id, page.Limit+1)...)
	if err != nil {
		return purser.Page[T]{}, err
	}
	if len(items) <= page.Limit {
		return purser.Page[T]{Items: items}, nil
	}
	items = items[:page.Limit]
	return purser.Page[T]{Items: items, Next: position(items[page.Limit-1])}, nil
}

// changed runs a statement and returns how many rows it changed.
func changed(ctx context.Context, r runner, name string, args ...any) (int64, error) {
	result, err := r.exec(ctx, name, args...)
	if err != nil {
		return 0, convertError(err)
	}
	n, err := result.RowsAffected()
	return n, convertError(err)
}

// mustChange runs a statement that changes exactly one row, or returns what
// missing says.
func mustChange(ctx context.Context, r runner, missing func(op string) error, name string, args ...any) error {
	n, err := changed(ctx, r, name, args...)
	if err == nil && n == 0 {
		return missing(name)
	}
	return err
}

// run runs a statement whose effect needs no look.
func run(ctx context.Context, r runner, name string, args ...any) error {
	_, err := changed(ctx, r, name, args...)
	return err
}
