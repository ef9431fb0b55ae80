package pgtest_test

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

// childEnvironment tells this test binary that it is the child of
// TestServerEndsWithTheBinary.
const childEnvironment = "PGTEST_CHILD"

func TestEveryCallGetsAnEmptyDatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	if one, another := pgtest.URL(t), pgtest.URL(t); one == another {
		t.Fatal("two calls got the same database")
	}
	for range 2 {
		db := open(t, pgtest.URL(t))
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE mine (n BIGINT)"); err != nil {
			t.Fatalf("the database is not empty: %v", err)
		}
	}
}

func TestDatabaseIsDroppedAfterTheTest(t *testing.T) {
	t.Parallel()
	var address string
	t.Run("user", func(t *testing.T) { address = pgtest.URL(t) })
	if err := open(t, address).PingContext(t.Context()); err == nil {
		t.Fatal("the database is still there")
	}
}

// A server that outlives its tests would fill the developer's machine.
func TestServerEndsWithTheBinary(t *testing.T) {
	t.Parallel()
	if os.Getenv(childEnvironment) != "" {
		fmt.Println("URL", pgtest.URL(t))
		<-time.After(time.Minute) // to be killed; without a clock to wait for, Go would call it a deadlock and exit
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestServerEndsWithTheBinary$")
	child.Env = append(os.Environ(), childEnvironment+"=1", pgtest.Environment+"=")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	address, ok := strings.CutPrefix(lines.Text(), "URL ")
	if !ok {
		t.Fatalf("the child says %q", lines.Text())
	}
	db := open(t, address)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatalf("the server does not answer while the child lives: %v", err)
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for db.PingContext(t.Context()) == nil {
		if time.Now().After(deadline) {
			t.Fatal("the server is still running after its test binary was killed")
		}
		time.Sleep(20 * time.Millisecond) // the end of a process that is not our child cannot be waited for
	}
}

func open(t *testing.T, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
