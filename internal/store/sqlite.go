package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"

	"github.com/purserhq/purser"
)

// minSQLite is the first version without the WAL-reset race, which could lose
// committed data with two connections (SQLite 3.51.3 release notes).
var minSQLite = [3]int{3, 51, 3}

// quickCheckLimit is the size up to which a database is checked at every start:
// about a second of reading. Larger ones are checked by hand.
var quickCheckLimit int64 = 512 << 20

// OpenSQLite opens the database in dir, making both if they do not exist. One
// process at a time can have it open. Errors are sentences for the person who
// starts the server, and say what to do.
func OpenSQLite(ctx context.Context, dir string, migrate ...Migration) (*Store, error) {
	if err := PrepareDir(dir); err != nil {
		return nil, err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "purser.db")
	s, err := openSQLite(ctx, path, migrate)
	if err != nil {
		_ = unlock() // the error that led here matters more
		return nil, err
	}
	s.unlock = unlock
	return s, nil
}

func openSQLite(ctx context.Context, path string, migrate []Migration) (_ *Store, err error) {
	existed, err := checkFile(path)
	if err != nil {
		return nil, err
	}
	// A commit waits for the data and the file's size, not for the time of the last
	// change as well: as SQLite does wherever it is built by its own script. Where
	// there is no such call, fsync stays.
	_, _ = sqlite.Fdatasync(true)
	s := &Store{dialect: SQLite, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			s.closePools()
		}
	}()
	if s.writer, err = openPool(path, 1); err != nil {
		return nil, err
	}
	s.jobs = s.writer
	if s.pool, err = openPool(path, 2*runtime.GOMAXPROCS(0)); err != nil {
		return nil, err
	}
	if err := s.checkSQLite(ctx, path, existed); err != nil {
		return nil, err
	}
	if err := runMigrations(ctx, s.writer, SQLite, migrate); err != nil {
		return nil, err
	}
	readers := &statements{dialect: SQLite, db: s.pool}
	writers := &statements{dialect: SQLite, db: s.writer}
	if err := writers.prepareAll(ctx); err != nil {
		return nil, err
	}
	s.reads = reads{run: poolRunner{readers}}
	s.recent = newRecent()
	s.batch = newBatcher(s.writer, writers, s.recent.versions, s.fail)
	return s, nil
}

func (s *Store) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first error is enough
	}
}

func (s *Store) closePools() {
	for _, db := range []*sql.DB{s.writer, s.jobs, s.pool} {
		if db != nil {
			_ = db.Close() // the error that led here matters more
		}
	}
}

// openPool opens a pool of connections. synchronous=FULL makes a commit survive
// a power cut; NORMAL was measured to lose every commit since the last
// checkpoint. Transactions take the write lock when they begin, because one that
// wants it later cannot wait for it.
func openPool(path string, connections int) (*sql.DB, error) {
	pragmas := []string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(MEMORY)", "cache_size(-16384)", "journal_size_limit(67108864)", "wal_autocheckpoint(4000)"}
	// A new database gets the lock file's mode: nobody else may read it.
	options := "?modeof=" + uriPath(lockPath(filepath.Dir(path))) + "&_txlock=immediate&_pragma=" + strings.Join(pragmas, "&_pragma=")
	db, err := sql.Open("sqlite", "file:"+uriPath(path)+options)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// uriPath escapes what has a meaning in SQLite's file: URIs.
func uriPath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23", "&", "%26", ";", "%3b", "+", "%2b").Replace(path)
}

func (s *Store) checkSQLite(ctx context.Context, path string, existed bool) error {
	var version string
	if err := s.writer.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
		return cannotOpen(path, err)
	}
	var v [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil || less(v, minSQLite) {
		return startError("this build carries SQLite %s, which can lose data; %d.%d.%d or newer is needed", version, minSQLite[0], minSQLite[1], minSQLite[2])
	}
	info, err := os.Stat(path)
	if err != nil || !existed {
		return err
	}
	if info.Size() > quickCheckLimit {
		slog.WarnContext(ctx, "the database is large and was not checked for damage at this start", "path", path, "bytes", info.Size())
		return nil
	}
	var result string
	if err := s.writer.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return cannotOpen(path, err)
	}
	if result != "ok" {
		return damaged(path, errors.New(result))
	}
	return nil
}

func less(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// startError is a sentence for the person who starts the server.
func startError(format string, args ...any) error {
	return &purser.Error{Kind: purser.KindUnavailable, Op: "store.Open", Message: fmt.Sprintf(format, args...)}
}

func damaged(path string, cause error) error {
	return &purser.Error{
		Kind: purser.KindUnavailable, Op: "store.Open", Err: cause,
		Message: fmt.Sprintf("the database %s is damaged; restore it, with its -wal file if there is one, from a backup", path),
	}
}

func cannotOpen(path string, err error) error {
	if isDamage(err) {
		return damaged(path, err)
	}
	return &purser.Error{
		Kind: purser.KindUnavailable, Op: "store.Open", Err: err,
		Message: fmt.Sprintf("the database %s cannot be opened: %v", path, err),
	}
}

// PrepareDir makes the data directory and makes sure that this user may write
// to it: the fault that most self-hosted servers meet first. It does not make
// the directories above, because a path that is not there is more often a
// mistake, or a volume that was not mounted, than a wish.
func PrepareDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return cannotMake(dir, err)
	}
	probe, err := os.CreateTemp(dir, ".write-test-*")
	if err != nil {
		return notWritable(dir, err)
	}
	name := probe.Name()
	return errors.Join(probe.Close(), os.Remove(name))
}

func cannotMake(dir string, err error) error {
	abs := absolute(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return startError("the data directory %s cannot be made, because %s does not exist; make that, or name another with --data-dir", abs, filepath.Dir(abs))
	case errors.Is(err, fs.ErrPermission):
		uid := os.Getuid()
		return startError("the data directory %s does not exist, and this server's user (uid %d) may not make it; run: install -d -m 700 -o %d %s", abs, uid, uid, abs)
	}
	return notWritable(dir, err)
}

// absolute is dir as it reads from anywhere.
func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

func notWritable(dir string, err error) error {
	abs := absolute(dir)
	switch {
	case errors.Is(err, unix.EROFS):
		return startError("the data directory %s is on a read-only file system; mount it writable, or name another with --data-dir", abs)
	case errors.Is(err, unix.ENOTDIR):
		return startError("the data directory %s is not a directory; name another with --data-dir", abs)
	case errors.Is(err, fs.ErrPermission):
		uid := os.Getuid()
		return startError("the data directory %s cannot be written by this server's user (uid %d); run: chown -R %d %s", abs, uid, uid, abs)
	}
	return startError("the data directory %s cannot be used: %v", abs, err)
}

func lockPath(dir string) string { return filepath.Join(dir, "purser.lock") }

// lockDir keeps a second process out. The lock goes with the process, however
// it ends.
func lockDir(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, notWritable(dir, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Closing alone would leave the lock with a child that was just forked, until it
		// runs its own program.
		return func() error { return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close()) }, nil
	}
	_ = f.Close() // nothing was written
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, startError("another purser process uses %s; stop it first, or use PostgreSQL (--database-url) to run several", absolute(dir))
	}
	return nil, startError("%s cannot be locked (%v); keep the data directory on a local file system", absolute(dir), err)
}

// checkFile refuses what is not an SQLite database before SQLite sees it: an
// empty file would silently become a new database in place of a lost one, and a
// file that this user may only read would be found out at the first change.
func checkFile(path string) (exists bool, err error) {
	for _, beside := range []string{path + "-wal", path + "-shm"} {
		if err := checkWritable(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, notWritable(filepath.Dir(path), err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if checkWritable(path+"-wal") == nil {
			return false, startError("%s is missing while its %s-wal is there; restore both from a backup, or move the -wal file away to start anew", path, path)
		}
		return false, nil
	}
	if err != nil {
		return false, notWritable(filepath.Dir(path), err)
	}
	defer func() { _ = f.Close() }() // only read
	const magic = "SQLite format 3\x00"
	header := make([]byte, len(magic))
	switch n, err := io.ReadFull(f, header); {
	case n == 0 && errors.Is(err, io.EOF):
		return true, startError("the database %s is empty; restore it from a backup, or remove the file to start anew", path)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return true, cannotOpen(path, err)
	case string(header) != magic:
		return true, damaged(path, errors.New("no SQLite header"))
	}
	return true, nil
}

// checkWritable returns why a file that exists cannot be written.
func checkWritable(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
