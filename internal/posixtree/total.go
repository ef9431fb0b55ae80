package posixtree

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// figure is what a file system says by itself that a directory holds.
type figure struct{ bytes, objects, allocated int64 }

// fileSystem is what is asked of file systems that keep sums; all of it takes the
// same time however many files there are.
type fileSystem struct {
	// attribute reads an extended attribute of what is open at fd.
	attribute func(fd int, name string) (string, error)
	// project tells which project's quota the directory at fd counts for, and
	// whether what is made in it does too.
	project func(fd int) (id uint32, inherited bool, err error)
	// usage tells what a project of the file system at fd uses, inodes included that
	// are no files.
	usage func(fd int, project uint32) (bytes, inodes uint64, err error)
}

// unavailable is why a file system's own sum cannot be had, and what to do.
type unavailable struct {
	hint string
	err  error // may be nil
}

func (u *unavailable) Error() string {
	if u.err == nil {
		return u.hint
	}
	return u.hint + " (" + u.err.Error() + ")"
}

// total returns the root of w as a Source that hands out one figure, or nil if it
// is to be walked.
func (o *Opener) total(w *walk, method purser.TreeMethod) (*total, error) {
	for _, known := range []struct {
		method purser.TreeMethod
		read   func(w *walk) (figure, error)
	}{{purser.TreeCeph, o.fileSystem.ceph}, {purser.TreeQuota, o.fileSystem.quota}} {
		if method != purser.TreeAuto && method != known.method {
			continue
		}
		f, err := known.read(w)
		if err == nil {
			return &total{method: known.method, figure: f}, nil
		}
		if method == known.method {
			return nil, methodError(method, err)
		}
		o.log.Debug("a tree's file system does not say what it holds", "tree", w.root, "method", string(known.method), "error", err)
	}
	return nil, nil //nolint:nilnil // a tree that is to be walked is the usual case
}

func methodError(method purser.TreeMethod, err error) error {
	problem := purser.ScanError{
		Code:    source.CodeNoSuchMethod,
		Message: fmt.Sprintf("The tree cannot be measured by the method %q that was asked for.", string(method)),
		Hint:    "Leave the method out of --tree, so that the tree is walked.",
	}
	var why *unavailable
	if errors.As(err, &why) {
		problem.Hint = why.hint + " Or leave the method out of --tree, so that the tree is walked."
	}
	return &source.Error{ScanError: problem, Err: err}
}

// ceph reads the recursive statistics of CephFS. They follow what was written
// within about a minute.
func (s *fileSystem) ceph(w *walk) (f figure, err error) {
	if f.bytes, err = s.cephNumber(w.rootFD, "ceph.dir.rbytes"); err == nil {
		f.objects, err = s.cephNumber(w.rootFD, "ceph.dir.rfiles")
	}
	if err != nil {
		return figure{}, &unavailable{"Put the tree on CephFS, mounted by the kernel or by ceph-fuse.", err}
	}
	return f, nil
}

func (s *fileSystem) cephNumber(fd int, name string) (int64, error) {
	text, err := s.attribute(fd, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < 0 {
		err = errors.New(name + " is negative")
	}
	return n, err
}

// quota reads what the project of the root uses. The figure is trusted only if the
// project begins at the root: with one that began above, each team would be charged
// for all of it. Whether other directories belong to it, too, cannot be seen.
func (s *fileSystem) quota(w *walk) (figure, error) {
	id, inherited, err := s.project(w.rootFD)
	if err != nil || id == 0 || !inherited {
		return figure{}, &unavailable{
			"Give each team's directory a project of its own that is inherited (chattr -R -p ID +P, or xfs_quota's project -s).", err,
		}
	}
	if err := s.begins(w, id); err != nil {
		return figure{}, err
	}
	bytes, inodes, err := s.usage(w.rootFD, id)
	switch {
	case errors.Is(err, unix.EPERM):
		return figure{}, &unavailable{"Give the Purser process the capability CAP_SYS_ADMIN, which the kernel wants of those who read project quotas.", err}
	case err != nil:
		return figure{}, &unavailable{"Mount the file system with accounting for project quotas (prjquota), on Linux 5.14 or newer.", err}
	case bytes > 1<<62 || inodes > 1<<62:
		return figure{}, &unavailable{hint: "Check the file system: the project's usage is beyond all bounds."}
	}
	f := figure{bytes: int64(bytes), objects: int64(inodes), allocated: int64(bytes)}
	f.objects = max(0, f.objects-1) // the root itself is none
	return f, nil
}

// begins makes sure that the project does not reach above the root.
func (s *fileSystem) begins(w *walk, id uint32) error {
	above, err := openat(w.rootFD, "..")
	if err != nil {
		return &unavailable{"Let the user that Purser runs as read the directory above the root of the tree.", err}
	}
	defer func() { _ = unix.Close(above) }()
	var f found
	if err := lookAt(above, &f); err == nil && w.elsewhere(&f) {
		return nil // the root of the file system
	}
	if other, _, err := s.project(above); err != nil || other == id {
		return &unavailable{"Give each team's directory a project of its own: this one's begins above the root of the tree.", err}
	}
	return nil
}

// total is a tree whose file system keeps the sum. It is one entry without a key.
type total struct {
	method purser.TreeMethod
	figure figure
	done   bool
}

// Step implements source.Source.
func (t *total) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	if err := ctx.Err(); err != nil {
		return source.Step{}, err
	}
	if !t.done && t.figure != (figure{}) {
		count(source.Entry{Size: t.figure.bytes, Allocated: t.figure.allocated, Objects: t.figure.objects})
	}
	t.done = true
	return source.Step{Done: true}, nil
}

// The cursor of a total that was handed out is one of these bytes; before, there
// is no cursor.
var totalCursors = map[purser.TreeMethod]string{purser.TreeQuota: "q", purser.TreeCeph: "c"}

// Cursor implements source.Source.
func (t *total) Cursor() []byte {
	if !t.done {
		return nil
	}
	return []byte(totalCursors[t.method])
}

// finishedTotal returns the total that a cursor is of, or nil.
func finishedTotal(cursor []byte) *total {
	for method, text := range totalCursors {
		if string(cursor) == text {
			return &total{method: method, done: true}
		}
	}
	return nil
}

// Method implements source.Source.
func (t *total) Method() string { return string(t.method) }

// Close implements source.Source.
func (t *total) Close() error { return nil }
