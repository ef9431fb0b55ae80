// Package pgtest gives tests a real PostgreSQL: for every call of URL an empty
// database of its own, on one throw-away server.
//
// Under `make test` all packages share the server that scripts/test-services
// has started. Otherwise the test binary starts one when it is first asked for,
// and the server ends with the binary, however that ends. A test never gets a
// server that somebody uses for something else, and is never skipped: without
// PostgreSQL it fails and says what to do.
package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/purserhq/purser"
)

// Environment names the variable with the URL of a superuser's database, under
// which URL makes its databases.
const Environment = "PURSER_TEST_POSTGRES_URL"

// URL returns the address of a new, empty database. It is dropped, with whoever
// is still connected, when the test has ended.
func URL(t testing.TB) string {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	name := "purser_" + strings.TrimPrefix(string(purser.NewEventID()), "evt")
	if err := server.run("CREATE DATABASE " + name + " STRATEGY file_copy"); err != nil {
		t.Fatalf("make a database for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := server.run("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop the database of this test: %v", err)
		}
	})
	return server.database(name)
}

// Restrict ends the connections of everybody to the database at address and
// lets nobody in again until the returned function is called: what a client
// sees of a server that is down.
func Restrict(t testing.TB, address string) (admit func()) {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	name := pgx.Identifier{strings.TrimPrefix(u.Path, "/")}
	allow := func(yes bool) {
		if err := server.run(fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", name.Sanitize(), yes)); err != nil {
			t.Fatalf("close or open the database: %v", err)
		}
	}
	allow(false)
	if err := server.run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name[0]); err != nil {
		t.Fatalf("end the connections: %v", err)
	}
	return func() { allow(true) }
}

// server is a running PostgreSQL.
type server struct {
	url *url.URL
	db  *sql.DB
}

var sharedServer = sync.OnceValues(func() (*server, error) {
	address := os.Getenv(Environment)
	if address == "" {
		var err error
		if address, err = start(); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%s is not a URL", Environment)
	}
	db, err := sql.Open("pgx", address)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(2)
	s := &server{url: u, db: db}
	if err := s.wait(30 * time.Second); err != nil {
		return nil, fmt.Errorf("PostgreSQL at %s does not answer: %w", u.Redacted(), err)
	}
	return s, nil
})

func (s *server) run(statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := s.db.ExecContext(ctx, statement, args...)
	return err
}

func (s *server) database(name string) string {
	u := *s.url
	u.Path = "/" + name
	return u.String()
}

// wait asks until the server answers: a server that has just been started is
// silent for a moment, and there is no event to wait for.
func (s *server) wait(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
