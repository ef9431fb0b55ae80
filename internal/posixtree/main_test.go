package posixtree

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// childTree names the variable that makes the test binary walk a tree, print
// what it found and exit: rights and mounts belong to a process.
const childTree, childMount = "POSIXTREE_TEST_WALK", "POSIXTREE_TEST_MOUNT"

func TestMain(m *testing.M) {
	if root := os.Getenv(childTree); root != "" {
		os.Exit(walkAsChild(root, os.Getenv(childMount)))
	}
	goleak.VerifyTestMain(m)
}

// result is what a whole walk found.
type result struct {
	Sizes      map[string]int64
	Allocated  int64
	Steps      int
	Incomplete *purser.ScanError // the last
	Failed     *purser.ScanError
	Log        string
}

// walkAll walks a tree to the end in one Source.
func walkAll(ctx context.Context, o *Opener, root string) (result, error) {
	got := result{Sizes: map[string]int64{}}
	src, err := o.Open(ctx, source.Tree{Root: root}, nil)
	if err != nil {
		return got, err
	}
	defer func() { _ = src.Close() }()
	for done := false; !done; got.Steps++ {
		step, err := src.Step(ctx, got.count)
		if err != nil {
			return got, err
		}
		if step.Incomplete != nil {
			got.Incomplete = step.Incomplete
		}
		done = step.Done
	}
	return got, nil
}

func (r *result) count(e source.Entry) {
	key := string(e.Key)
	if _, twice := r.Sizes[key]; twice {
		key += " (again)"
	}
	r.Sizes[key] = e.Size
	r.Allocated += e.Allocated
}

func walkAsChild(root, mount string) int {
	if mount != "" {
		if err := unix.Mount("tmpfs", mount, "tmpfs", 0, ""); err != nil {
			println("mount:", err.Error())
			return 3
		}
		if err := os.WriteFile(filepath.Join(mount, "on-the-mount"), []byte("1234567"), 0o600); err != nil {
			println(err.Error())
			return 1
		}
	}
	var log strings.Builder
	got, err := walkAll(context.Background(), New(textLog(&log)), root)
	var failed *source.Error
	switch {
	case errors.As(err, &failed):
		got.Failed = &failed.ScanError
	case err != nil:
		println(err.Error())
		return 1
	}
	got.Log = log.String()
	if err := json.NewEncoder(os.Stdout).Encode(got); err != nil {
		return 1
	}
	return 0
}

// child walks root in a process of its own.
func child(t *testing.T, attributes *syscall.SysProcAttr, root, mount string) (result, error) {
	t.Helper()
	// Not os.Executable: what go test builds lies in a directory that is closed to
	// other users.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childTree+"="+root, childMount+"="+mount)
	cmd.SysProcAttr = attributes
	cmd.Dir = "/"
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, errors.New(err.Error() + ": " + stderr.String())
	}
	var got result
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("the child says %q: %v", out, err)
	}
	return got, nil
}

// scratchBase is in memory where that can be had: the suites make more than
// 100,000 files.
var scratchBase = func() string {
	if unix.Access("/dev/shm", unix.W_OK|unix.X_OK) == nil {
		return "/dev/shm"
	}
	return os.TempDir()
}()

// scratch returns an empty directory that other users can search.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratchBase, "posixtree-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() && err != nil {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// writeFile makes a file of a size, with nothing in it: apparent size costs no
// disk.
func writeFile(t testing.TB, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if errors.Is(err, fs.ErrNotExist) {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		f, err = os.Create(path)
	}
	must(t, err)
	if size > 0 {
		must(t, f.Truncate(size))
	}
	must(t, f.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
