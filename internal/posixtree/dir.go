package posixtree

import (
	"errors"

	"golang.org/x/sys/unix"
)

// dir is a directory by its place in the tree. It never changes, and neither
// holds nor needs anything open.
type dir struct {
	parent *dir   // nil for the root
	name   string // in parent; empty for the root
}

// appendPath appends the path from the root on, with a slash behind each name.
func (d *dir) appendPath(path []byte) []byte {
	var chain []*dir
	for ; d.parent != nil; d = d.parent {
		chain = append(chain, d)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		path = append(append(path, chain[i].name...), '/')
	}
	return path
}

// keptOpen is how many directories a worker keeps open besides the root and the
// one that it reads. Deeper trees are walked with the same number: what lies
// above is opened again on the way back.
const keptOpen = 8

// opened are the directories that a worker keeps open, because it will probably
// need them for what they hold; those used least lately go first. The zero value
// keeps none.
type opened struct {
	dirs [keptOpen]struct {
		dir  *dir // nil for a free place
		fd   int
		used uint64
	}
	clock uint64
}

func (o *opened) find(d *dir) (fd int, found bool) {
	for i := range o.dirs {
		if at := &o.dirs[i]; at.dir == d {
			o.clock++
			at.used = o.clock
			return at.fd, true
		}
	}
	return -1, false
}

// keep takes over fd, which is d's.
func (o *opened) keep(d *dir, fd int) {
	oldest := &o.dirs[0]
	for i := range o.dirs {
		if at := &o.dirs[i]; at.used < oldest.used {
			oldest = at
		}
	}
	if oldest.dir != nil {
		_ = unix.Close(oldest.fd)
	}
	o.clock++
	oldest.dir, oldest.fd, oldest.used = d, fd, o.clock
}

func (o *opened) closeAll() {
	for _, at := range o.dirs {
		if at.dir != nil {
			_ = unix.Close(at.fd)
		}
	}
	*o = opened{}
}

// placeError says which directory could not be entered: one on the way, perhaps.
type placeError struct {
	dir *dir
	err error
}

func (e *placeError) Error() string { return e.err.Error() }
func (e *placeError) Unwrap() error { return e.err }

// open opens d by way of the nearest directory above that is open still. The
// caller closes fd, unless kept says that the worker keeps it open.
func (w *worker) open(d *dir) (fd int, kept bool, err error) {
	if fd, found := w.opened.find(d); found {
		return fd, true, nil
	}
	if d.parent == nil {
		fd, err := openat(w.walk.rootFD, ".") // of its own, because it has a position
		return fd, false, err
	}
	above, err := w.reach(d.parent)
	if err != nil {
		return -1, false, err
	}
	fd, err = w.enter(above, d.name)
	if err != nil {
		return -1, false, &placeError{d, err}
	}
	return fd, false, nil
}

// reach opens d for the sake of what it holds, and keeps it open for a while.
func (w *worker) reach(d *dir) (fd int, err error) {
	w.chain = w.chain[:0]
	for ; d.parent != nil; d = d.parent {
		if known, found := w.opened.find(d); found {
			fd = known
			break
		}
		w.chain = append(w.chain, d)
	}
	if d.parent == nil {
		fd = w.walk.rootFD
	}
	for i := len(w.chain) - 1; i >= 0; i-- {
		d := w.chain[i]
		if fd, err = w.enter(fd, d.name); err != nil {
			return -1, &placeError{d, err}
		}
		w.opened.keep(d, fd)
	}
	return fd, nil
}

var errOtherMount = errors.New("another mount")

// enter opens a directory unless it is on another mount.
func (w *worker) enter(parent int, name string) (int, error) {
	fd, err := openat(parent, name)
	if err != nil {
		// What may not be read need not be, if it is not part of the tree.
		text := append([]byte(name), 0)
		if look(parent, text[:len(name)], &w.found) == nil && w.walk.elsewhere(&w.found) {
			return -1, errOtherMount
		}
		return -1, err
	}
	err = lookAt(fd, &w.found)
	if err == nil && w.walk.elsewhere(&w.found) {
		err = errOtherMount
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
