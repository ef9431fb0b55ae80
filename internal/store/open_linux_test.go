package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

// nobody is a user who owns none of the tests' files.
const nobody = 65534

// Each fault that stops the start does so with one sentence that says what to
// do. In the sentences DIR is the data directory and PARENT the one it is in.
func TestOpenSQLiteFaults(t *testing.T) {
	t.Parallel()
	database := func(change func(t *testing.T, path string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			makeDatabase(t, dir)
			change(t, filepath.Join(dir, "purser.db"))
		}
	}
	const damaged = "the database DIR/purser.db is damaged; restore it, with its -wal file if there is one, from a backup"
	tests := []struct {
		name    string
		prepare func(t *testing.T, dir string)
		child   syscall.SysProcAttr // what the process that opens it is like
		want    string
	}{
		{
			name:    "missing parent",
			prepare: func(t *testing.T, dir string) { must(t, os.Remove(filepath.Dir(dir))) },
			want:    "the data directory DIR cannot be made, because PARENT does not exist; make that, or name another with --data-dir",
		},
		{
			name: "parent is a file",
			prepare: func(t *testing.T, dir string) {
				must(t, os.Remove(filepath.Dir(dir)))
				write(t, filepath.Dir(dir), "x")
			},
			want: "the data directory DIR is not a directory; name another with --data-dir",
		},
		{
			name:    "a file",
			prepare: func(t *testing.T, dir string) { write(t, dir, "x") },
			want:    "the data directory DIR is not a directory; name another with --data-dir",
		},
		{
			name:    "missing directory in another user's",
			prepare: func(*testing.T, string) {},
			child:   syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
			want:    "the data directory DIR does not exist, and this server's user (uid 65534) may not make it; run: install -d -m 700 -o 65534 DIR",
		},
		{
			name:    "another user's directory",
			prepare: func(t *testing.T, dir string) { must(t, os.Mkdir(dir, 0o755)) },
			child:   syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
			want:    "the data directory DIR cannot be written by this server's user (uid 65534); run: chown -R 65534 DIR",
		},
		{
			name: "another user's database, readable",
			prepare: database(func(t *testing.T, path string) {
				must(t, os.Chmod(filepath.Dir(path), 0o777))
				must(t, os.Chmod(path, 0o644))
				must(t, os.Remove(filepath.Join(filepath.Dir(path), "purser.lock")))
			}),
			child: syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
			want:  "the data directory DIR cannot be written by this server's user (uid 65534); run: chown -R 65534 DIR",
		},
		{
			name: "another user's -wal file",
			prepare: database(func(t *testing.T, path string) {
				must(t, os.Chmod(filepath.Dir(path), 0o777))
				must(t, os.Chmod(path, 0o666))
				must(t, os.Remove(filepath.Join(filepath.Dir(path), "purser.lock")))
				write(t, path+"-wal", "")
			}),
			child: syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
			want:  "the data directory DIR cannot be written by this server's user (uid 65534); run: chown -R 65534 DIR",
		},
		{
			name:    "read-only file system",
			prepare: func(t *testing.T, dir string) { makeDatabase(t, dir) },
			child:   syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS},
			want:    "the data directory DIR is on a read-only file system; mount it writable, or name another with --data-dir",
		},
		{
			name: "a second process",
			prepare: database(func(t *testing.T, path string) {
				s, err := store.OpenSQLite(t.Context(), filepath.Dir(path))
				must(t, err)
				t.Cleanup(func() { _ = s.Close() })
			}),
			want: "another purser process uses DIR; stop it first, or use PostgreSQL (--database-url) to run several",
		},
		{
			name:    "flipped bytes in every page but the first",
			prepare: database(func(t *testing.T, path string) { flip(t, path, 4096) }),
			want:    damaged,
		},
		{
			name:    "flipped bytes in the first page",
			prepare: database(func(t *testing.T, path string) { flip(t, path, 100) }),
			want:    damaged,
		},
		{
			name: "cut off in the middle",
			prepare: database(func(t *testing.T, path string) {
				info, err := os.Stat(path)
				must(t, err)
				must(t, os.Truncate(path, info.Size()/2))
			}),
			want: damaged,
		},
		{
			name:    "cut off in the header",
			prepare: database(func(t *testing.T, path string) { must(t, os.Truncate(path, 10)) }),
			want:    damaged,
		},
		{
			name:    "empty",
			prepare: database(func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }),
			want:    "the database DIR/purser.db is empty; restore it from a backup, or remove the file to start anew",
		},
		{
			name:    "not a database",
			prepare: database(func(t *testing.T, path string) { write(t, path, strings.Repeat("not a database ", 1000)) }),
			want:    damaged,
		},
		{
			name: "a directory in place of the database",
			prepare: database(func(t *testing.T, path string) {
				must(t, os.Remove(path))
				must(t, os.Mkdir(path, 0o700))
			}),
			want: "the data directory DIR cannot be used: open DIR/purser.db: is a directory",
		},
		{
			name: "-wal without its database",
			prepare: database(func(t *testing.T, path string) {
				must(t, os.Remove(path))
				write(t, path+"-wal", "x")
			}),
			want: "DIR/purser.db is missing while its DIR/purser.db-wal is there; restore both from a backup, or move the -wal file away to start anew",
		},
		{
			name:    "written by a newer version",
			prepare: database(func(t *testing.T, path string) { pretendNewer(t, "sqlite", path) }),
			want:    newerSchema,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := worldDir(t)
			test.prepare(t, dir)
			got := openInChild(t, dir, &test.child)
			want := strings.NewReplacer("PARENT", filepath.Dir(dir), "DIR", dir).Replace(test.want)
			if os.Getuid() != 0 {
				want = strings.ReplaceAll(want, fmt.Sprint(nobody), fmt.Sprint(os.Getuid()))
			}
			if got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

// What tells the child of TestOpenSQLiteFaults what to open, and to make it
// read-only first.
const (
	openEnvironment     = "STORE_TEST_OPEN"
	readOnlyEnvironment = "STORE_TEST_READ_ONLY"
)

// openInChild opens dir in a process of its own, which may be another user and
// see other mounts, and returns what it says.
func openInChild(t *testing.T, dir string, attributes *syscall.SysProcAttr) string {
	t.Helper()
	child := exec.Command("/proc/self/exe", "-test.run=^TestOpenInChild$")
	child.Env = append(os.Environ(), openEnvironment+"="+dir)
	if attributes.Unshareflags != 0 {
		child.Env = append(child.Env, readOnlyEnvironment+"=1")
	}
	if os.Getuid() != 0 {
		withoutRoot(t, dir, attributes)
	}
	child.SysProcAttr = attributes
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// withoutRoot comes close to what attributes say: what others may not write,
// this user may not either, and mounts are made in a user namespace.
func withoutRoot(t *testing.T, dir string, attributes *syscall.SysProcAttr) {
	t.Helper()
	if attributes.Unshareflags != 0 {
		attributes.Unshareflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if attributes.Credential == nil {
		return
	}
	attributes.Credential = nil
	parent := filepath.Dir(dir)
	t.Cleanup(func() { _ = os.Chmod(parent, 0o700); _ = os.Chmod(dir, 0o700) })
	must(t, filepath.Walk(parent, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.Mode()&0o002 != 0 {
			return err
		}
		return os.Chmod(path, info.Mode()&^0o222)
	}))
}

// TestOpenInChild is what the child of TestOpenSQLiteFaults runs; by itself it
// does nothing.
func TestOpenInChild(t *testing.T) {
	dir := os.Getenv(openEnvironment)
	if dir == "" {
		return
	}
	if os.Getenv(readOnlyEnvironment) != "" {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
		must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	}
	s, err := store.OpenSQLite(t.Context(), dir)
	if err == nil {
		must(t, s.Close())
		fmt.Println("opened")
		return
	}
	fmt.Println(sentence(err))
}

var newerSchema = fmt.Sprintf("the database was written by a newer purser (schema 999, this one knows %d); "+
	"start that version, or restore a backup from before the upgrade", store.NewestSchema())

// sentence is what the person who starts the server is told.
func sentence(err error) string {
	var e *purser.Error
	if !errors.As(err, &e) || e.Kind != purser.KindUnavailable {
		return fmt.Sprintf("%v is not an error for people", err)
	}
	return e.Message
}

func TestSQLiteIsTooOld(t *testing.T) {
	// Not parallel: others open databases.
	defer store.SetMinSQLite([3]int{99, 1, 2})()
	_, err := store.OpenSQLite(t.Context(), t.TempDir())
	if got := sentence(err); !strings.HasSuffix(got, ", which can lose data; 99.1.2 or newer is needed") {
		t.Fatal(got)
	}
}

// A large database is not read through at every start.
func TestLargeDatabaseIsNotChecked(t *testing.T) {
	// Not parallel: others open databases.
	defer store.SetQuickCheckLimit(1)()
	dir := t.TempDir()
	makeDatabase(t, dir)
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	must(t, s.Close())
}

func TestPragmasHoldOnEveryConnection(t *testing.T) {
	t.Parallel()
	s := openSQLite(t)
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000", "temp_store": "2",
	} {
		values, err := s.Pragma(t.Context(), name)
		must(t, err)
		if len(values) < 4 || slices.ContainsFunc(values, func(v string) bool { return v != want }) {
			t.Errorf("%s is %q, want %s on each", name, values, want)
		}
	}
}

func TestNobodyElseMayReadTheDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a b?c#d%e&f+g;h") // all that means something in a URI
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"purser.db", "purser.db-shm", "purser.db-wal", "purser.lock"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	must(t, s.Close())
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
}

func TestLockIsFreeAfterClosingAndAfterFailing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	failing := func(context.Context, *sql.DB, store.Dialect) error { return errors.New("no") }
	for range 2 {
		if _, err := store.OpenSQLite(t.Context(), dir, failing); err == nil {
			t.Fatal("the start went on after a failed migration")
		}
		makeDatabase(t, dir)
	}
}

// makeDatabase leaves a database that was closed properly.
func makeDatabase(t *testing.T, dir string) {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	must(t, s.Close())
}

// worldDir names a directory that does not exist yet, in one that every user can
// reach, unlike those of t.TempDir.
func worldDir(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "store-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	must(t, os.Chmod(base, 0o755))
	parent := filepath.Join(base, "parent")
	must(t, os.Mkdir(parent, 0o755))
	return filepath.Join(parent, "data")
}

// flip inverts some bytes of every page from offset on.
func flip(t *testing.T, path string, offset int) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	for page := offset; page < len(content); page += 4096 {
		for i := page; i < min(page+64, len(content)); i++ {
			content[i] ^= 0xff
		}
	}
	write(t, path, string(content))
}

// pretendNewer notes a migration that this program does not have.
func pretendNewer(t *testing.T, driver, address string) {
	t.Helper()
	db, err := sql.Open(driver, address)
	must(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, TRUE)")
	must(t, err)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
