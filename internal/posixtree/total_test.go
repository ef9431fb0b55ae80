package posixtree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// answers are what a file system says.
type answers struct {
	attributes     map[string]string
	attributeErr   error // for those it does not have
	project, above uint32
	notInherited   bool
	projectErr     error
	bytes, inodes  uint64
	usageErr       error
}

// fileSystem returns one that gives these answers for root, and for the directory
// above it.
func (a answers) fileSystem(t *testing.T, root string) fileSystem {
	t.Helper()
	var at unix.Stat_t
	must(t, unix.Stat(root, &at))
	return fileSystem{
		attribute: func(_ int, name string) (string, error) {
			if value, known := a.attributes[name]; known {
				return value, nil
			}
			return "", a.attributeErr
		},
		project: func(fd int) (uint32, bool, error) {
			var st unix.Stat_t
			must(t, unix.Fstat(fd, &st))
			if st.Ino != at.Ino {
				return a.above, a.above != 0, a.projectErr
			}
			return a.project, a.project != 0 && !a.notInherited, a.projectErr
		},
		usage: func(_ int, id uint32) (uint64, uint64, error) {
			if id != a.project {
				return 0, 0, unix.ESRCH
			}
			return a.bytes, a.inodes, a.usageErr
		},
	}
}

func TestTotals(t *testing.T) {
	t.Parallel()
	ceph := map[string]string{"ceph.dir.rbytes": "5368709120", "ceph.dir.rfiles": "77"}
	quota := answers{attributeErr: unix.ENOTSUP, project: 7, bytes: 81920, inodes: 21}
	with := func(change func(*answers)) answers {
		a := quota
		change(&a)
		return a
	}
	byQuota := source.Entry{Size: 81920, Allocated: 81920, Objects: 20}
	for name, test := range map[string]struct {
		answers answers
		wanted  purser.TreeMethod
		method  string
		entry   source.Entry
		hint    string // of the error; empty for none
	}{
		"CephFS by itself":                           {answers: answers{attributes: ceph}, method: "ceph", entry: source.Entry{Size: 5 << 30, Objects: 77}},
		"CephFS, wanted":                             {answers: answers{attributes: ceph}, wanted: "ceph", method: "ceph", entry: source.Entry{Size: 5 << 30, Objects: 77}},
		"CephFS, not wanted":                         {answers: answers{attributes: ceph}, wanted: "walk", method: "walk"},
		"CephFS, empty":                              {answers: answers{attributes: map[string]string{"ceph.dir.rbytes": "0", "ceph.dir.rfiles": "0"}}, method: "ceph"},
		"CephFS without files":                       {answers: answers{attributes: map[string]string{"ceph.dir.rbytes": "1"}, attributeErr: unix.ENODATA}, method: "walk"},
		"CephFS with words":                          {answers: answers{attributes: map[string]string{"ceph.dir.rbytes": "much", "ceph.dir.rfiles": "1"}}, wanted: "ceph", hint: "on CephFS"},
		"CephFS with less than none":                 {answers: answers{attributes: map[string]string{"ceph.dir.rbytes": "-1", "ceph.dir.rfiles": "1"}}, method: "walk"},
		"no CephFS, but wanted":                      {answers: quota, wanted: "ceph", hint: "on CephFS"},
		"quota by itself":                            {answers: quota, method: "quota", entry: byQuota},
		"quota, wanted":                              {answers: quota, wanted: "quota", method: "quota", entry: byQuota},
		"quota, not wanted":                          {answers: quota, wanted: "walk", method: "walk"},
		"quota of an empty directory without blocks": {answers: with(func(a *answers) { a.bytes, a.inodes = 0, 1 }), method: "quota"},
		"another project above":                      {answers: with(func(a *answers) { a.above = 8 }), method: "quota", entry: byQuota},
		"the same project above":                     {answers: with(func(a *answers) { a.above = 7 }), method: "walk"},
		"the same project above, wanted":             {answers: with(func(a *answers) { a.above = 7 }), wanted: "quota", hint: "begins above"},
		"no project":                                 {answers: with(func(a *answers) { a.project = 0 }), method: "walk"},
		"no project, wanted":                         {answers: with(func(a *answers) { a.project = 0 }), wanted: "quota", hint: "chattr"},
		"a project that is not inherited":            {answers: with(func(a *answers) { a.notInherited = true }), method: "walk"},
		"a project that is not inherited, wanted":    {answers: with(func(a *answers) { a.notInherited = true }), wanted: "quota", hint: "inherited"},
		"a file system without projects":             {answers: with(func(a *answers) { a.projectErr = unix.ENOTTY }), method: "walk"},
		"a file system without projects, wanted":     {answers: with(func(a *answers) { a.projectErr = unix.ENOTTY }), wanted: "quota", hint: "chattr"},
		"no right to ask":                            {answers: with(func(a *answers) { a.usageErr = unix.EPERM }), method: "walk"},
		"no right to ask, wanted":                    {answers: with(func(a *answers) { a.usageErr = unix.EPERM }), wanted: "quota", hint: "CAP_SYS_ADMIN"},
		"no accounting":                              {answers: with(func(a *answers) { a.usageErr = unix.ESRCH }), method: "walk"},
		"no accounting, wanted":                      {answers: with(func(a *answers) { a.usageErr = unix.ESRCH }), wanted: "quota", hint: "prjquota"},
		"an old kernel, wanted":                      {answers: with(func(a *answers) { a.usageErr = unix.ENOSYS }), wanted: "quota", hint: "5.14"},
		"an absurd usage":                            {answers: with(func(a *answers) { a.bytes = 1 << 63 }), method: "walk"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "root")
			writeFile(t, filepath.Join(root, "file"), 9)
			o := New(nil)
			o.fileSystem = test.answers.fileSystem(t, root)
			src, err := o.Open(t.Context(), source.Tree{Root: root, Method: test.wanted}, nil)
			if test.hint != "" {
				checkNoSuchMethod(t, err, test.hint)
				return
			}
			must(t, err)
			defer func() { must(t, src.Close()) }()
			var got []source.Entry
			step, err := src.Step(t.Context(), func(e source.Entry) { e.Key = nil; got = append(got, e) })
			must(t, err)
			var want []source.Entry
			switch {
			case test.method == "walk":
				want = []source.Entry{{Size: 9}}
			case test.entry.Size > 0:
				want = []source.Entry{test.entry}
			}
			if diff := cmp.Diff(want, got); diff != "" || src.Method() != test.method || !step.Done || step.Incomplete != nil {
				t.Errorf("method %s, %+v, entries (-want +got):\n%s", src.Method(), step, diff)
			}
		})
	}
}

func checkNoSuchMethod(t *testing.T, err error, hint string) {
	t.Helper()
	var failed *source.Error
	if !errors.As(err, &failed) || failed.Code != source.CodeNoSuchMethod || failed.Temporary || !strings.Contains(failed.Hint, hint) {
		t.Errorf("Open = %v, want %s with a hint at %q", err, source.CodeNoSuchMethod, hint)
	}
}

// TestRealFileSystem asks the file system that the tests run on. Whatever it is,
// a sum of its own is only taken if it has one.
func TestRealFileSystem(t *testing.T) {
	t.Parallel()
	for _, base := range []string{scratchBase, os.TempDir()} {
		root, err := os.MkdirTemp(base, "posixtree-")
		must(t, err)
		defer func() { must(t, os.RemoveAll(root)) }()
		writeFile(t, filepath.Join(root, "file"), 9)
		for _, method := range purser.TreeMethods {
			src, err := New(nil).Open(t.Context(), source.Tree{Root: root, Method: method}, nil)
			if err != nil {
				checkNoSuchMethod(t, err, "Or leave the method out of --tree")
				continue
			}
			if src.Method() != string(method) {
				t.Errorf("%s was wanted on %s, but it is measured by %s", method, base, src.Method())
			}
			must(t, src.Close())
		}
	}
}

// TestRealQuestions: the kernel understands what it is asked, whether or not it has
// an answer.
func TestRealQuestions(t *testing.T) {
	t.Parallel()
	fd, err := openat(unix.AT_FDCWD, t.TempDir())
	must(t, err)
	defer func() { _ = unix.Close(fd) }()
	id, inherited, err := newFileSystem().project(fd)
	if err == nil && id == 0 && inherited {
		t.Error("a new directory's project is none, but inherited")
	}
	if err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("the kernel does not understand the question for a project: %v", err)
	}
	_, _, err = newFileSystem().usage(fd, id)
	allowed := []error{nil, unix.EPERM, unix.ESRCH, unix.ENOSYS, unix.ENOTSUP, unix.ENOENT, unix.ENODEV}
	if !slices.ContainsFunc(allowed, func(one error) bool { return errors.Is(err, one) }) {
		t.Errorf("the kernel does not understand the question for a usage: %v", err)
	}
}

// TestTotalsCountOnce: in one Source, or in one that goes on where another ended,
// also when the file system has lost its figure since.
func TestTotalsCountOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, a := range []answers{
		{attributes: map[string]string{"ceph.dir.rbytes": "42", "ceph.dir.rfiles": "3"}},
		{attributeErr: unix.ENOTSUP, project: 7, bytes: 42, inodes: 4},
	} {
		o := New(nil)
		o.fileSystem = a.fileSystem(t, root)
		src, err := o.Open(t.Context(), source.Tree{Root: root}, nil)
		must(t, err)
		var objects int64
		count := func(e source.Entry) { objects += e.Objects }
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := src.Step(cancelled, count); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled step: %v", err)
		}
		_, err = src.Step(t.Context(), count)
		must(t, err)
		_, err = src.Step(t.Context(), count)
		must(t, err)

		again, err := New(nil).Open(t.Context(), source.Tree{Root: root}, src.Cursor())
		must(t, err)
		step, err := again.Step(t.Context(), count)
		must(t, err)
		if objects != 3 || !step.Done || again.Method() != src.Method() || string(again.Cursor()) != string(src.Cursor()) {
			t.Errorf("%d objects after %+v by %s, want 3 by %s", objects, step, again.Method(), src.Method())
		}
		must(t, src.Close())
		must(t, again.Close())
	}
}

// TestABegunWalkGoesOn, even if there is a sum to be had meanwhile.
func TestABegunWalkGoesOn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "file"), 9)
	o := New(nil)
	o.fileSystem = answers{attributes: map[string]string{"ceph.dir.rbytes": "42", "ceph.dir.rfiles": "3"}}.fileSystem(t, root)
	src, err := o.Open(t.Context(), source.Tree{Root: root}, beginning().encode())
	must(t, err)
	defer func() { must(t, src.Close()) }()
	if src.Method() != "walk" {
		t.Errorf("a walk goes on by %s", src.Method())
	}
}
