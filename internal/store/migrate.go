package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/purserhq/purser"
)

//go:embed migration/*.sql
var migrationFiles embed.FS

// Migration brings another library's tables up to date, in the same turn as
// ours: only one node migrates at a time.
type Migration func(ctx context.Context, db *sql.DB, dialect Dialect) error

// migrationLock is the key of the advisory lock that nodes on one PostgreSQL
// take while they migrate: "purs" in ASCII.
const migrationLock = 0x70757273

// runMigrations brings the schema up to date. A schema newer than this program
// knows stops the start: writing to it could destroy what the newer one keeps.
func runMigrations(ctx context.Context, db *sql.DB, dialect Dialect, others []Migration) error {
	unlock, err := lockMigrations(ctx, db, dialect)
	if err != nil {
		return cannotMigrate(err)
	}
	defer unlock()
	if err := migrateOwn(ctx, db, dialect); err != nil {
		return cannotMigrate(err)
	}
	for _, migrate := range others {
		if err := migrate(ctx, db, dialect); err != nil {
			return cannotMigrate(err)
		}
	}
	return nil
}

// cannotMigrate makes a sentence of what stopped the migrations, unless it is
// one already.
func cannotMigrate(err error) error {
	var known *purser.Error
	if errors.As(err, &known) {
		return err
	}
	return &purser.Error{
		Kind: purser.KindUnavailable, Op: "store.Open", Err: err,
		Message: fmt.Sprintf("the database's tables cannot be brought up to date: %v", err),
	}
}

func ownMigrations(db *sql.DB, dialect Dialect) (*goose.Provider, error) {
	files, err := fs.Sub(migrationFiles, "migration")
	if err != nil {
		return nil, err
	}
	gooseDialect := goose.DialectSQLite3
	if dialect == Postgres {
		gooseDialect = goose.DialectPostgres
	}
	return goose.NewProvider(gooseDialect, db, files)
}

func migrateOwn(ctx context.Context, db *sql.DB, dialect Dialect) error {
	provider, err := ownMigrations(db, dialect)
	if err != nil {
		return err
	}
	stored, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	sources := provider.ListSources()
	if newest := sources[len(sources)-1].Version; stored > newest {
		return startError("the database was written by a newer purser (schema %d, this one knows %d); start that version, or restore a backup from before the upgrade", stored, newest)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// lockMigrations makes nodes on one PostgreSQL migrate one after the other. On
// SQLite there is only one process.
func lockMigrations(ctx context.Context, db *sql.DB, dialect Dialect) (unlock func(), err error) {
	if dialect == SQLite {
		return func() {}, nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() {
		// Closing the session would do as well: the lock goes with it.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(migrationLock))
		_ = conn.Close()
	}, nil
}
