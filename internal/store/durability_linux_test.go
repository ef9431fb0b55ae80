package store_test

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

// What tells a child which of the programs below to be, and in which directory.
const (
	childEnvironment    = "STORE_TEST_CHILD"
	childDirEnvironment = "STORE_TEST_CHILD_DIR"
)

// startChild starts this test binary as one of the children below.
func startChild(t *testing.T, program, dir string, attributes *syscall.SysProcAttr) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	child := exec.Command("/proc/self/exe", "-test.run=^TestChild$")
	child.Env = append(os.Environ(), childEnvironment+"="+program, childDirEnvironment+"="+dir)
	child.Stderr = os.Stderr
	child.SysProcAttr = attributes
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	return child, bufio.NewScanner(out)
}

// TestChild is what children run; by itself it does nothing.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDirEnvironment)
	switch os.Getenv(childEnvironment) {
	case "writer":
		writeForEver(t, dir)
	case "full disk":
		fillDisk(t, dir)
	case "file limit":
		reachLimit(t, dir)
	case "failing fsync":
		failSync(t, dir)
	}
}

// What InTx has acknowledged is there after the process was killed, and all of
// each transaction or nothing.
func TestAcknowledgedChangesSurviveKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var acknowledged []purser.TeamID
	for cycle := range 20 {
		child, lines := startChild(t, "writer", dir, nil)
		for range 1 + rand.IntN(100) {
			if !lines.Scan() {
				t.Fatal("the child has ended by itself")
			}
			acknowledged = append(acknowledged, purser.TeamID(lines.Text()))
		}
		must(t, child.Process.Kill())
		for lines.Scan() { // what it had said before it died
			if id := lines.Text(); purser.ValidID(id) {
				acknowledged = append(acknowledged, purser.TeamID(id))
			}
		}
		_ = child.Wait()
		checkAcknowledged(t, cycle, dir, acknowledged)
	}
}

func checkAcknowledged(t *testing.T, cycle int, dir string, acknowledged []purser.TeamID) {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), dir) // which checks the file, too
	must(t, err)
	for _, id := range acknowledged {
		if _, err := s.GetTeam(t.Context(), id); err != nil {
			t.Fatalf("cycle %d: team %s was acknowledged: %v", cycle, id, err)
		}
	}
	must(t, s.Close())
	db, err := sql.Open("sqlite", filepath.Join(dir, "purser.db"))
	must(t, err)
	defer func() { _ = db.Close() }()
	var halves int
	must(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM teams t LEFT JOIN team_usage u ON u.team_id = t.id WHERE u.team_id IS NULL").Scan(&halves))
	if halves != 0 {
		t.Fatalf("cycle %d: of %d transactions only the first half is there", cycle, halves)
	}
	var result string
	must(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&result))
	if result != "ok" {
		t.Fatalf("cycle %d: integrity check: %s", cycle, result)
	}
}

// writeForEver creates teams and says each one's id after it was acknowledged.
func writeForEver(t *testing.T, dir string) {
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	var mu sync.Mutex // a line at a time
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for {
				id, err := createTeam(t, s)
				if err != nil {
					panic(err)
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		})
	}
	writers.Wait()
}

func createTeam(t *testing.T, s *store.Store) (purser.TeamID, error) {
	id := purser.NewTeamID()
	return id, s.InTx(t.Context(), func(tx *store.Tx) error {
		return tx.CreateTeam(t.Context(), purser.Team{ID: id, Name: strings.Repeat("x", 1000), Namespace: string(id), CreatedAt: time.Now()})
	})
}

// A disk that refuses to be written is told apart from one that loses what was
// written.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"full disk", "file limit", "failing fsync"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			attributes := &syscall.SysProcAttr{}
			if program == "full disk" {
				attributes.Unshareflags = syscall.CLONE_NEWNS
				if os.Getuid() != 0 {
					withoutRoot(t, "", attributes)
				}
			}
			child, lines := startChild(t, program, t.TempDir(), attributes)
			var said []string
			for lines.Scan() {
				said = append(said, lines.Text())
			}
			if err := child.Wait(); err != nil {
				t.Fatalf("%v: %s", err, strings.Join(said, "\n"))
			}
		})
	}
}

// fillDisk fills a small file system, and makes room again.
func fillDisk(t *testing.T, dir string) {
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	first, err := createTeam(t, s)
	must(t, err)
	filler := filepath.Join(dir, "filler")
	_ = os.WriteFile(filler, make([]byte, 4<<20), 0o600) // as much as goes in
	refused(t, s)
	stillReads(t, s, first)
	must(t, os.Remove(filler))
	goesOn(t, s)
	must(t, s.Close())
}

// reachLimit meets a failure of write that is not a full disk.
func reachLimit(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	first, err := createTeam(t, s)
	must(t, err)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 64 << 10, Max: old.Max}))
	refused(t, s)
	stillReads(t, s, first)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	goesOn(t, s)
	must(t, s.Close())
}

// failSync meets a failure of fsync, after which nobody knows what is on disk.
func failSync(t *testing.T, dir string) {
	s, err := store.OpenSQLite(t.Context(), dir)
	must(t, err)
	first, err := createTeam(t, s)
	must(t, err)
	must(t, refuseSync())
	_, err = createTeam(t, s)
	if got := sentence(err); got != "The database did not confirm the change, so it may or may not have been made. Look before you try again." {
		t.Fatal(got)
	}
	select {
	case err := <-s.Failed():
		if purser.KindOf(err) != purser.KindUnavailable {
			t.Fatalf("failed with %v", err)
		}
	default:
		t.Fatal("nobody was told that the store has failed")
	}
	err = s.InTx(t.Context(), func(*store.Tx) error { return errors.New("this change was begun") })
	if purser.KindOf(err) != purser.KindUnavailable {
		t.Fatalf("after a failed fsync, changes still begin: %v", err)
	}
	stillReads(t, s, first)
}

// refused writes until the disk takes no more and checks what is said then.
func refused(t *testing.T, s *store.Store) {
	var err error
	for range 10_000 {
		if _, err = createTeam(t, s); err != nil {
			break
		}
	}
	if got := sentence(err); got != "The database cannot take the request right now; nothing was changed. Try again." {
		t.Fatal(got)
	}
	select {
	case err := <-s.Failed():
		t.Fatalf("a refused write is no reason to end: %v", err)
	default:
	}
}

func stillReads(t *testing.T, s *store.Store, id purser.TeamID) {
	if _, err := s.GetTeam(t.Context(), id); err != nil {
		t.Fatalf("reading has stopped: %v", err)
	}
}

func goesOn(t *testing.T, s *store.Store) {
	id, err := createTeam(t, s)
	must(t, err)
	stillReads(t, s, id)
}

// refuseSync makes fsync and fdatasync of this process fail with EIO, for good.
// It is a filter that the kernel puts before system calls (seccomp(2)); disks
// that fail are hard to come by.
func refuseSync() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jt: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
	}
	runtime.LockOSThread() // both calls are about one thread
	defer runtime.UnlockOSThread()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// All threads at once: Go may run SQLite on any.
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
