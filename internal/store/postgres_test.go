package store_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

func TestOpenPostgresFaults(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	tests := []struct {
		name string
		url  func(t *testing.T) string
		want string
	}{
		{
			name: "not a URL",
			url:  func(*testing.T) string { return "postgres://user:" + password + "@host:port/db" },
			want: "--database-url is not a PostgreSQL URL such as postgres://user@host:5432/purser",
		},
		{
			name: "nobody answers",
			url: func(t *testing.T) string {
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				must(t, err)
				must(t, l.Close())
				return "postgres://user:" + password + "@" + l.Addr().String() + "/db"
			},
			want: "PostgreSQL does not answer (no connection); check --database-url, and that the server runs and lets this user in",
		},
		{
			name: "unknown user",
			url: func(t *testing.T) string {
				return strings.Replace(pgtest.URL(t), "postgres@", "stranger:"+password+"@", 1)
			},
			want: "PostgreSQL does not answer (SQLSTATE 28000); check --database-url, and that the server runs and lets this user in",
		},
		{
			name: "written by a newer version",
			url: func(t *testing.T) string {
				url := pgtest.URL(t)
				must(t, openPostgres(t, url).Close())
				pretendNewer(t, "pgx", url)
				return url
			},
			want: newerSchema,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := store.OpenPostgres(t.Context(), test.url(t))
			if got := sentence(err); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// A server that goes away makes requests fail for now, and nothing else.
func TestPostgresGoesAndComesBack(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s := openPostgres(t, url)
	team := purser.Team{ID: purser.NewTeamID(), Namespace: "n"}
	create := func(tx *store.Tx) error { return tx.CreateTeam(t.Context(), team) }

	admit := pgtest.Restrict(t, url)
	_, readErr := s.GetTeam(t.Context(), team.ID)
	for _, err := range []error{readErr, s.InTx(t.Context(), create), s.Ping(t.Context())} {
		if got := sentence(err); got != "The database cannot take the request right now; nothing was changed. Try again." {
			t.Error(got)
		}
	}
	admit()
	must(t, s.InTx(t.Context(), create))
	_, err := s.GetTeam(t.Context(), team.ID)
	must(t, err)
}

// A connection that is lost in the middle takes the transaction with it.
func TestPostgresConnectionIsLostInATransaction(t *testing.T) {
	t.Parallel()
	s := openPostgres(t, pgtest.URL(t))
	team := purser.Team{ID: purser.NewTeamID(), Namespace: "n"}
	err := s.InTx(t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateTeam(t.Context(), team); err != nil {
			return err
		}
		_, _ = tx.SQL().ExecContext(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
		return nil // fn has noticed nothing, so it is the commit that fails
	})
	if got := sentence(err); got != "The database did not confirm the change, so it may or may not have been made. Look before you try again." {
		t.Error(got)
	}
	if _, err := s.GetTeam(t.Context(), team.ID); purser.KindOf(err) != purser.KindNotFound {
		t.Errorf("error %v", err)
	}
}

// PostgreSQL rolls back what somebody tries to commit after a failed statement;
// that must not look like success.
func TestPostgresSwallowedErrorIsNoSuccess(t *testing.T) {
	t.Parallel()
	s := openPostgres(t, pgtest.URL(t))
	team := purser.Team{ID: purser.NewTeamID(), Namespace: "n"}
	err := s.InTx(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.CreateTeam(t.Context(), team), ignore(tx.CreateTeam(t.Context(), team)))
	})
	if purser.KindOf(err) != purser.KindInternal {
		t.Errorf("error %v", err)
	}
	if n, err := s.CountTeams(t.Context()); n != 0 || err != nil {
		t.Errorf("%d teams are stored, %v", n, err)
	}
}

func ignore(error) error { return nil }

// Two transactions that lock two teams in different orders: PostgreSQL ends one
// of them, and it is run again.
func TestPostgresDeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	s := openPostgres(t, pgtest.URL(t))
	teams := []purser.TeamID{"tea1", "tea2"}
	for _, id := range teams {
		must(t, s.InTx(t.Context(), func(tx *store.Tx) error {
			return tx.CreateTeam(t.Context(), purser.Team{ID: id, Namespace: string(id)})
		}))
	}
	var runs atomic.Int64
	var both, done sync.WaitGroup
	both.Add(2)
	errs := make([]error, 2)
	for i := range errs {
		done.Go(func() {
			first := true
			errs[i] = s.InTx(t.Context(), func(tx *store.Tx) error {
				runs.Add(1)
				err := tx.LockTeam(t.Context(), teams[i])
				if first { // each holds one before it asks for the other's
					first = false
					both.Done()
					both.Wait()
				}
				return errors.Join(err, tx.LockTeam(t.Context(), teams[1-i]))
			})
		})
	}
	done.Wait()
	must(t, errors.Join(errs...))
	if runs.Load() < 3 {
		t.Errorf("%d runs, so that there was no deadlock", runs.Load())
	}
}

// A client that is frozen in a transaction, with a lock that others wait for,
// loses it before they give up.
func TestPostgresTakesLocksFromTheFrozen(t *testing.T) {
	t.Parallel()
	s := openPostgres(t, pgtest.URL(t))
	team := purser.Team{ID: purser.NewTeamID(), Namespace: "n"}
	must(t, s.InTx(t.Context(), func(tx *store.Tx) error { return tx.CreateTeam(t.Context(), team) }))
	frozen, err := s.JobsDB().BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { _ = frozen.Rollback() }()
	_, err = frozen.ExecContext(t.Context(), "SELECT 1 FROM teams FOR UPDATE")
	must(t, err)
	must(t, s.InTx(t.Context(), func(tx *store.Tx) error { return tx.LockTeam(t.Context(), team.ID) }))
	if err := frozen.Commit(); err == nil {
		t.Error("the frozen transaction could go on")
	}
}

func TestNodesMigrateOneAfterTheOther(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	var running, ran atomic.Int64
	migrate := func(ctx context.Context, db *sql.DB, _ store.Dialect) error {
		if running.Add(1) > 1 {
			t.Error("two nodes migrate at once")
		}
		defer running.Add(-1)
		ran.Add(1)
		_, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS others (n BIGINT)")
		return err
	}
	var nodes sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		nodes.Go(func() {
			s, err := store.OpenPostgres(t.Context(), url, migrate)
			if err == nil {
				err = s.Close()
			}
			errs[i] = err
		})
	}
	nodes.Wait()
	must(t, errors.Join(errs...))
	if ran.Load() != 4 {
		t.Errorf("%d migrations ran, want 4", ran.Load())
	}
}
