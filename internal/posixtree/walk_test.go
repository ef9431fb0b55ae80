package posixtree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/purserhq/purser/internal/metering/source"
)

func textLog(to interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, nil))
}

func mustWalk(t *testing.T, o *Opener, root string) result {
	t.Helper()
	got, err := walkAll(t.Context(), o, root)
	must(t, err)
	return got
}

// truth is the same sum made another way: by path, with a set of all files.
func truth(t *testing.T, root string) (sizes map[string]int64, allocated int64) {
	t.Helper()
	sizes, seen := map[string]int64{}, map[[2]uint64]bool{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		if id := [2]uint64{st.Dev, st.Ino}; !seen[id] {
			seen[id] = true
			sizes[strings.TrimPrefix(path, root+"/")] = st.Size
			allocated += st.Blocks * 512
		}
		return nil
	}))
	return sizes, allocated
}

func TestWhatCounts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 255)
	tests := map[string]struct {
		make func(t *testing.T, root string)
		want map[string]int64
	}{
		"files at every level": {
			func(t *testing.T, root string) {
				for path, size := range map[string]int64{"a": 1, "d/b": 20, "d/e/c": 300, "d/zero": 0} {
					writeFile(t, filepath.Join(root, path), size)
				}
				must(t, os.MkdirAll(filepath.Join(root, "empty/empty"), 0o755))
			},
			map[string]int64{"a": 1, "d/b": 20, "d/e/c": 300, "d/zero": 0},
		},
		"a file with another name outside the tree counts": {
			func(t *testing.T, root string) {
				outside := filepath.Join(filepath.Dir(root), "outside")
				writeFile(t, outside, 100)
				must(t, os.Link(outside, filepath.Join(root, "inside")))
			},
			map[string]int64{"inside": 100},
		},
		"symbolic links count nothing": {
			func(t *testing.T, root string) {
				outside := filepath.Join(filepath.Dir(root), "outside")
				writeFile(t, filepath.Join(outside, "stranger"), 1000)
				writeFile(t, filepath.Join(root, "file"), 5)
				for name, target := range map[string]string{
					"to-file": "file", "to-dir": outside, "to-itself": "to-itself", "to-above": "..", "to-root": ".", "dangling": "nowhere",
				} {
					must(t, os.Symlink(target, filepath.Join(root, name)))
				}
			},
			map[string]int64{"file": 5},
		},
		"pipes, sockets and devices count nothing and are not opened": {
			func(t *testing.T, root string) {
				must(t, unix.Mkfifo(filepath.Join(root, "pipe"), 0o600)) // opening it would block for ever
				listener, err := net.Listen("unix", filepath.Join(root, "socket"))
				must(t, err)
				t.Cleanup(func() { _ = listener.Close() })
				if os.Getuid() == 0 {
					_ = unix.Mknod(filepath.Join(root, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
				}
				writeFile(t, filepath.Join(root, "file"), 5)
			},
			map[string]int64{"file": 5},
		},
		"a sparse file counts its apparent size": {
			func(t *testing.T, root string) { writeFile(t, filepath.Join(root, "sparse"), 1<<33) },
			map[string]int64{"sparse": 1 << 33},
		},
		"names are bytes": {
			func(t *testing.T, root string) {
				for i, name := range []string{"new\nline", "\xff\xfe\x80", "caf\xe9", long, " ", "\\", "...", "\x01"} {
					writeFile(t, filepath.Join(root, name), int64(i))
				}
				writeFile(t, root+"/dir\xff/"+long, 9)
			},
			map[string]int64{"new\nline": 0, "\xff\xfe\x80": 1, "caf\xe9": 2, long: 3, " ": 4, "\\": 5, "...": 6, "\x01": 7, "dir\xff/" + long: 9},
		},
	}
	for name, test := range tests {
		for _, system := range []string{"that tells types", "that tells no types"} {
			t.Run(name+", on a file system "+system, func(t *testing.T) {
				t.Parallel()
				root := filepath.Join(t.TempDir(), "root")
				must(t, os.Mkdir(root, 0o755))
				test.make(t, root)
				o := New(nil)
				if system == "that tells no types" {
					o.readNames = untyped
				}
				got := mustWalk(t, o, root)
				if diff := cmp.Diff(test.want, got.Sizes); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				sizes, allocated := truth(t, root)
				if sum(got.Sizes) != sum(sizes) || got.Allocated != allocated {
					t.Errorf("%d bytes, %d allocated, but another walk has found %d and %d", sum(got.Sizes), got.Allocated, sum(sizes), allocated)
				}
				if got.Incomplete != nil {
					t.Errorf("incomplete: %+v", got.Incomplete)
				}
			})
		}
	}
}

func TestFilesWithSeveralNamesCountOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "a/first"), 100)
	must(t, os.Mkdir(filepath.Join(root, "b"), 0o755))
	for _, name := range []string{"a/second", "b/third", "zz"} {
		must(t, os.Link(filepath.Join(root, "a/first"), filepath.Join(root, name)))
	}
	for _, workers := range []int{1, 4} {
		o := New(nil)
		o.workers = workers
		got := mustWalk(t, o, root)
		if len(got.Sizes) != 1 || sum(got.Sizes) != 100 || got.Incomplete != nil {
			t.Errorf("%d workers have counted %v, incomplete %+v; want one of the four names", workers, got.Sizes, got.Incomplete)
		}
	}
}

// untyped reads names as from a file system that leaves d_type at DT_UNKNOWN.
func untyped(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
	return readNames(ctx, fd, buffer, func(name []byte, _ kind) { add(name, kindUnknown) })
}

func sum(sizes map[string]int64) (total int64) {
	for _, size := range sizes {
		total += size
	}
	return total
}

func TestRoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "file"), 1)
	writeFile(t, filepath.Join(dir, "tree/file"), 1)
	must(t, os.Symlink("tree", filepath.Join(dir, "link")))
	tests := map[string]struct {
		root, cursor string
		want         string // what the message says; empty for none
	}{
		"a directory":               {root: "tree"},
		"with a slash at its end":   {root: "tree/"},
		"missing":                   {root: "missing"},
		"missing with its parents":  {root: "missing/too"},
		"a file":                    {root: "file", want: "not a directory"},
		"below a file":              {root: "file/x", want: "not a directory"},
		"a symbolic link":           {root: "link", want: "not a directory"},
		"a symbolic link, slashed":  {root: "link/", want: "not a directory"},
		"a name with a zero byte":   {root: "tr\x00ee", want: "could not be read"},
		"a name beyond all bounds":  {root: strings.Repeat("n", 300), want: "could not be read"},
		"a cursor nobody made":      {root: "tree", cursor: "\x01\x00\x00\x01\x02..", want: "where this scan stopped"},
		"missing, a strange cursor": {root: "missing", cursor: "?", want: "where this scan stopped"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, err := New(nil).Open(t.Context(), source.Tree{Root: dir + "/" + test.root}, []byte(test.cursor))
			if test.want == "" {
				must(t, err)
				must(t, src.Close())
				return
			}
			var sourceErr *source.Error
			if !errors.As(err, &sourceErr) {
				t.Fatalf("Open = %v, want a *source.Error", err)
			}
			if !strings.Contains(sourceErr.Message, test.want) || sourceErr.Hint == "" {
				t.Errorf("message %q, hint %q, want %q", sourceErr.Message, sourceErr.Hint, test.want)
			}
			if strings.Contains(sourceErr.Message+sourceErr.Hint, dir) {
				t.Errorf("the message names the path: %q", sourceErr.Message)
			}
		})
	}
	if _, err := New(nil).Open(t.Context(), source.Tree{Root: "relative"}, nil); err == nil {
		t.Error("a relative root was opened")
	}
}

// TestUnreadable runs as another user than root where it can: nothing is
// unreadable for root.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	root := filepath.Join(scratch(t), "root")
	for _, path := range []string{"a/file", "locked/file", "no-search/one", "no-search/two", "z/file"} {
		writeFile(t, filepath.Join(root, path), 10)
	}
	must(t, os.Chmod(filepath.Join(root, "a/file"), 0)) // to look at a file takes no right to read it
	must(t, os.Chmod(filepath.Join(root, "locked"), 0))
	must(t, os.Chmod(filepath.Join(root, "no-search"), 0o744))

	got, err := child(t, nobody(), root, "")
	must(t, err)
	if diff := cmp.Diff(map[string]int64{"a/file": 10, "z/file": 10}, got.Sizes); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if got.Incomplete == nil || got.Incomplete.Code != source.CodeUnreadable || !strings.HasPrefix(got.Incomplete.Message, "3 files or directories") {
		t.Errorf("Incomplete = %+v, want 3 unreadable", got.Incomplete)
	}
	if got.Incomplete != nil && strings.Contains(got.Incomplete.Message+got.Incomplete.Hint, "locked") {
		t.Errorf("people are told a path: %+v", got.Incomplete)
	}
	for _, path := range []string{"path=locked ", "path=no-search/one ", "path=no-search/two "} {
		if !strings.Contains(got.Log, path) {
			t.Errorf("the log does not name %s:\n%s", path, got.Log)
		}
	}

	got, err = child(t, nobody(), filepath.Join(root, "locked"), "")
	must(t, err)
	if got.Failed == nil || got.Failed.Code != source.CodeUnreadable {
		t.Errorf("a locked root: %+v, want unreadable", got.Failed)
	}
}

// nobody is a process that may not read everything.
func nobody() *syscall.SysProcAttr {
	if os.Getuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

func TestOtherMountsAreNotEntered(t *testing.T) {
	t.Parallel()
	root := scratch(t)
	writeFile(t, filepath.Join(root, "a/file"), 1)
	writeFile(t, filepath.Join(root, "mount/hidden"), 10)
	writeFile(t, filepath.Join(root, "z/file"), 100)
	want := map[string]int64{"a/file": 1, "z/file": 100}

	t.Run("told by the device number", func(t *testing.T) {
		t.Parallel()
		var there unix.Stat_t
		must(t, unix.Stat(filepath.Join(root, "mount"), &there))
		o := New(nil)
		o.device = func(f *found) uint64 {
			if f.id.inode == there.Ino {
				return f.id.device + 1
			}
			return f.id.device
		}
		got := mustWalk(t, o, root)
		if diff := cmp.Diff(want, got.Sizes); diff != "" || got.Incomplete != nil {
			t.Errorf("counted (-want +got):\n%sincomplete: %+v", diff, got.Incomplete)
		}
	})
	t.Run("a tmpfs", func(t *testing.T) {
		t.Parallel()
		got, err := child(t, ownMounts(), root, filepath.Join(root, "mount"))
		if err != nil {
			t.Skipf("this system does not let the test mount anything: %v", err)
		}
		if diff := cmp.Diff(want, got.Sizes); diff != "" || got.Incomplete != nil {
			t.Errorf("counted (-want +got):\n%sincomplete: %+v", diff, got.Incomplete)
		}
	})
}

// ownMounts is a process whose mounts nobody else sees.
func ownMounts() *syscall.SysProcAttr {
	if os.Getuid() == 0 {
		return &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	return &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWUSER,
		Unshareflags: syscall.CLONE_NEWNS,
		UidMappings:  []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings:  []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// TestVanishing changes a directory between the reading of its names and the
// look at what they are.
func TestVanishing(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	root, want := filepath.Join(dir, "root"), map[string]int64{}
	for i := range 300 {
		name := fmt.Sprintf("file-%03d", i)
		writeFile(t, filepath.Join(root, name), 1)
		if i < 200 {
			want[name] = 1
		}
	}
	for _, name := range []string{"gone/deep/file", "linked/file", "now-a-file/file", "still/file", "now-a-directory", "now-a-link"} {
		writeFile(t, filepath.Join(root, name), 1)
	}
	writeFile(t, filepath.Join(dir, "outside/stranger"), 1)
	want["still/file"], want["now-a-directory/file"] = 1, 1
	change := func() {
		for i := 200; i < 300; i++ {
			must(t, os.Remove(filepath.Join(root, fmt.Sprintf("file-%03d", i))))
		}
		for _, name := range []string{"gone", "linked", "now-a-file", "now-a-directory", "now-a-link"} {
			must(t, os.RemoveAll(filepath.Join(root, name)))
		}
		must(t, os.Symlink(filepath.Join(dir, "outside"), filepath.Join(root, "linked")))
		must(t, os.Symlink(filepath.Join(dir, "outside/stranger"), filepath.Join(root, "now-a-link")))
		writeFile(t, filepath.Join(root, "now-a-file"), 50)
		writeFile(t, filepath.Join(root, "now-a-directory/file"), 1)
	}

	o := New(nil)
	var once sync.Once
	o.readNames = func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
		err := readNames(ctx, fd, buffer, add)
		once.Do(change) // the first directory is the root
		return err
	}
	got := mustWalk(t, o, root)
	if diff := cmp.Diff(want, got.Sizes); diff != "" || got.Incomplete != nil {
		t.Errorf("incomplete %+v, counted (-want +got):\n%s", got.Incomplete, diff)
	}
}

// TestSwappedAbove: a directory that is on the way to what is left becomes a
// symbolic link, or goes away, between two slices of work.
func TestSwappedAbove(t *testing.T) {
	t.Parallel()
	base := scratch(t)
	root := filepath.Join(base, "root")
	for _, name := range []string{"swapped", "removed", "still"} {
		writeFile(t, filepath.Join(root, name, "a/b/c/file"), 1)
	}
	writeFile(t, filepath.Join(base, "outside/a/b/c/file"), 1000)
	var items []item
	for _, name := range []string{"swapped", "removed", "still"} {
		d := new(dir)
		for _, part := range []string{name, "a", "b"} {
			d = &dir{d, part}
		}
		items = append(items, item{dir: d})
	}
	cursor := state{items: items}.encode()
	must(t, os.RemoveAll(filepath.Join(root, "swapped")))
	must(t, os.RemoveAll(filepath.Join(root, "removed")))
	must(t, os.Symlink(filepath.Join(base, "outside"), filepath.Join(root, "swapped")))

	src, err := New(nil).Open(t.Context(), source.Tree{Root: root}, cursor)
	must(t, err)
	defer func() { must(t, src.Close()) }()
	got := result{Sizes: map[string]int64{}}
	step, err := src.Step(t.Context(), got.count)
	must(t, err)
	if diff := cmp.Diff(map[string]int64{"still/a/b/c/file": 1}, got.Sizes); diff != "" || !step.Done || step.Incomplete != nil {
		t.Errorf("%+v, counted (-want +got):\n%s", step, diff)
	}
}

// TestDeep walks a tree whose paths are far beyond PATH_MAX, with something to
// do at each level on the way back, and with few open files.
func TestDeep(t *testing.T) {
	t.Parallel()
	const levels = 2000
	root, name := scratch(t), "directory-"+strings.Repeat("x", 10)
	makeDeep(t, root, name, levels)

	for _, cut := range []bool{false, true} {
		got, cursor := result{Sizes: map[string]int64{}}, []byte(nil)
		var src source.Source
		for done := false; !done; got.Steps++ {
			if src == nil {
				var err error
				src, err = New(nil).Open(t.Context(), source.Tree{Root: root}, cursor)
				must(t, err)
			}
			step, err := src.Step(t.Context(), got.count)
			must(t, err)
			if open := openIn(src.(*walk)); open > keptOpen*defaultWorkers() {
				t.Fatalf("%d directories are open", open)
			}
			done, cursor = step.Done, src.Cursor()
			if cut || done {
				must(t, src.Close())
				src = nil
			}
		}
		if len(got.Sizes) != 2*levels || sum(got.Sizes) != 3*levels || got.Incomplete != nil {
			t.Errorf("cut %t: %d files with %d bytes in %d steps, incomplete %+v; want %d files with %d", cut,
				len(got.Sizes), sum(got.Sizes), got.Steps, got.Incomplete, 2*levels, 3*levels)
		}
	}
}

func openIn(w *walk) (open int) {
	for _, worker := range w.workers {
		for _, at := range worker.opened.dirs {
			if at.dir != nil {
				open++
			}
		}
	}
	return open
}

// makeDeep makes at each level a file, a directory, and a directory with a file
// that comes behind it.
func makeDeep(t *testing.T, root, name string, levels int) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	create := func(parent int, name string, size int64) {
		file, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		must(t, err)
		must(t, unix.Ftruncate(file, size))
		must(t, unix.Close(file))
	}
	mkdir := func(parent int, name string) int {
		must(t, unix.Mkdirat(parent, name, 0o755))
		child, err := unix.Openat(parent, name, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		return child
	}
	for range levels {
		create(fd, "file", 1)
		side := mkdir(fd, "side")
		create(side, "file", 2)
		must(t, unix.Close(side))
		child := mkdir(fd, name)
		must(t, unix.Close(fd))
		fd = child
	}
	must(t, unix.Close(fd))
}

func TestLinksBeyondTheBoundAreLeftOut(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for i := range 4 {
		file := filepath.Join(root, fmt.Sprintf("a/%d", i))
		writeFile(t, file, 10)
		must(t, os.MkdirAll(filepath.Join(root, "b"), 0o755))
		must(t, os.Link(file, filepath.Join(root, fmt.Sprintf("b/%d", i))))
	}
	o := New(nil)
	o.maxLinks, o.workers = 3, 1
	got := mustWalk(t, o, root)
	// Of one directory the fourth file does not fit; in the other, the first names
	// that are met make room, so it may count there, or be left out again.
	if n := len(got.Sizes); n < 3 || n > 4 || sum(got.Sizes) != int64(10*n) {
		t.Errorf("counted %v, want three or four files, each once", got.Sizes)
	}
	want := fmt.Sprintf("%d names of files with several names", 5-len(got.Sizes))
	if got.Incomplete == nil || !strings.HasPrefix(got.Incomplete.Message, want) {
		t.Errorf("Incomplete = %+v with %v, want %s left out", got.Incomplete, got.Sizes, want)
	}
}

// TestExhausted: that Purser is out of open files says nothing about the tree.
func TestExhausted(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "d/file"), 1)
	o := New(nil)
	var failed atomic.Bool
	o.readNames = func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
		if !failed.Swap(true) {
			return unix.ENOMEM
		}
		return readNames(ctx, fd, buffer, add)
	}
	src, err := o.Open(t.Context(), source.Tree{Root: root}, nil)
	must(t, err)
	defer func() { must(t, src.Close()) }()
	got := result{Sizes: map[string]int64{}}
	_, err = src.Step(t.Context(), got.count)
	var sourceErr *source.Error
	if !errors.As(err, &sourceErr) || !sourceErr.Temporary {
		t.Fatalf("Step = %v, want a temporary *source.Error", err)
	}
	step, err := src.Step(t.Context(), got.count)
	must(t, err)
	if !step.Done || step.Incomplete != nil || sum(got.Sizes) != 1 {
		t.Errorf("the next step: %+v with %v, want all", step, got.Sizes)
	}
}

// TestHalfReadDirectory: what was read before an error counts, and the scan is
// incomplete.
func TestHalfReadDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "file"), 1)
	o := New(nil)
	o.readNames = func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
		return errors.Join(readNames(ctx, fd, buffer, add), unix.EIO)
	}
	got := mustWalk(t, o, root)
	if sum(got.Sizes) != 1 || got.Incomplete == nil {
		t.Errorf("%v, incomplete %+v; want the file, and incomplete", got.Sizes, got.Incomplete)
	}
}

// TestFilesAreClosed is not parallel: it looks at the open files of the process.
func TestFilesAreClosed(t *testing.T) {
	root := t.TempDir()
	for i := range 50 {
		writeFile(t, filepath.Join(root, fmt.Sprintf("d%d/e/f/file", i)), 1)
	}
	before := openFiles(t)
	o := New(nil)
	o.stepNames = 7
	src, err := o.Open(t.Context(), source.Tree{Root: root}, nil)
	must(t, err)
	for range 3 {
		_, err := src.Step(t.Context(), func(source.Entry) {})
		must(t, err)
	}
	must(t, src.Close())
	must(t, src.Close())
	mustWalk(t, o, root)
	if after := openFiles(t); after != before {
		t.Errorf("%d files open before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestFoldersStayTogether: what is handed out of one directory is not mixed with
// another's, unless the directory is large.
func TestFoldersStayTogether(t *testing.T) {
	t.Parallel()
	root := scratch(t)
	for i := range 3000 {
		writeFile(t, filepath.Join(root, fmt.Sprintf("d%d/e%d/%d", i%7, i%50, i)), 1)
	}
	src, err := New(nil).Open(t.Context(), source.Tree{Root: root}, nil)
	must(t, err)
	defer func() { must(t, src.Close()) }()
	seen, last := map[string]bool{}, ""
	for done := false; !done; {
		step, err := src.Step(t.Context(), func(e source.Entry) {
			folder := filepath.Dir(string(e.Key))
			if folder != last && seen[folder] {
				t.Fatalf("%s comes again", folder)
			}
			seen[folder], last = true, folder
		})
		must(t, err)
		done = step.Done
	}
	if len(seen) != 350 {
		t.Errorf("%d folders, want 350", len(seen))
	}
}

// TestPanics: a panic in one of the workers is the step's failure, and one in
// count gets through to the caller, who may go on using the process.
func TestPanics(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "file"), 1)
	o := New(nil)
	var failed atomic.Bool
	o.readNames = func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
		if !failed.Swap(true) {
			panic("a fault of ours")
		}
		return readNames(ctx, fd, buffer, add)
	}
	src, err := o.Open(t.Context(), source.Tree{Root: root}, nil)
	must(t, err)
	defer func() { must(t, src.Close()) }()
	if _, err := src.Step(t.Context(), func(source.Entry) {}); err == nil || !strings.Contains(err.Error(), "a fault of ours") {
		t.Errorf("Step = %v, want the panic", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of count is lost")
			}
		}()
		_, _ = src.Step(t.Context(), func(source.Entry) { panic("a fault of the caller's") })
	}()
}

// TestSlowStoreEndsSteps: where names take their time, a step ends by the clock,
// and a cancelled one at once.
func TestSlowStoreEndsSteps(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for i := range 20 {
		must(t, os.MkdirAll(filepath.Join(root, fmt.Sprintf("d%02d", i)), 0o755))
	}
	o := New(nil)
	o.workers = 1
	o.readNames = func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stepTime / 2):
			return readNames(ctx, fd, buffer, add)
		}
	}
	src, err := o.Open(t.Context(), source.Tree{Root: root}, nil)
	must(t, err)
	defer func() { must(t, src.Close()) }()
	step, err := src.Step(t.Context(), func(source.Entry) {})
	if err != nil || step.Done {
		t.Fatalf("Step = %+v, %v; want one that ends before all is done", step, err)
	}
	before := src.Cursor()
	ctx, cancel := context.WithTimeout(t.Context(), stepTime/4)
	defer cancel()
	if _, err := src.Step(ctx, func(source.Entry) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Step = %v, want the deadline", err)
	}
	if !bytes.Equal(before, src.Cursor()) {
		t.Error("a step that failed has moved the cursor")
	}
}
