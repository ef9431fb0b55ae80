package posixtree

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser/internal/metering/source"
)

// batchFiles is after how many files a worker hands over what it has found; a
// directory's files stay together.
const batchFiles = 256

// batch is what a worker has found.
type batch struct {
	keys  []byte // one behind the other
	files []file
}

type file struct {
	key          int // where its key ends in keys
	size, blocks int64
	names        uint64
	id           fileID
}

// worker walks items, one after the other. Between steps it only keeps
// directories open.
type worker struct {
	walk   *walk
	crew   *crew // of the step under way
	stack  []item
	opened opened

	// What is used again and again.
	names names
	dents []byte
	found found
	path  []byte // of the directory at hand, with a slash behind each name
	chain []*dir
	batch *batch
}

// walkItem deals with one item and returns how many names that took. An error
// fails the step.
func (w *worker) walkItem(it item) (names int, err error) {
	fd, kept, err := w.open(it.dir)
	if err != nil {
		at := it.dir
		if place := (*placeError)(nil); errors.As(err, &place) {
			at, err = place.dir, place.err
		}
		return 0, w.missedDir(err, at)
	}
	before := len(w.stack)
	if it.cut != nil && it.cut.names != nil {
		names, err = w.files(it.dir, fd, it.cut.names)
	} else {
		names, err = w.read(it, fd)
	}
	switch {
	case kept:
	case len(w.stack) > before && it.dir.parent != nil:
		w.opened.keep(it.dir, fd) // what has been found there comes next
	default:
		_ = unix.Close(fd)
	}
	return names, err
}

// read reads a directory and deals with its files, or cuts it if it is large or
// has been cut before.
func (w *worker) read(it item, fd int) (names int, err error) {
	if w.dents == nil {
		w.dents = make([]byte, 64<<10)
	}
	w.names.reset()
	// One that was kept open may have been read before, in a step that failed.
	if _, err = unix.Seek(fd, 0, unix.SEEK_SET); err == nil {
		err = w.walk.opener.readNames(w.crew.ctx, fd, w.dents, w.names.add)
	}
	if err != nil && w.crew.ctx.Err() != nil {
		return 0, context.Cause(w.crew.ctx)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) { // ENOENT: removed after it was opened
		if err := w.missedDir(err, it.dir); err != nil {
			return 0, err
		}
	}
	todo := it.cut
	if parts := partsFor(len(w.names.list), w.walk.opener.partNames); todo == nil && parts > 0 {
		todo = wholeCut(parts)
	}
	if todo == nil {
		return w.files(it.dir, fd, &w.names)
	}
	split := w.names.split(todo.parts)
	for i := len(todo.left) - 1; i >= 0; i-- {
		part := todo.left[i]
		w.stack = append(w.stack, item{it.dir, &cut{parts: todo.parts, left: []uint32{part}, names: &split[part]}})
	}
	return len(w.names.list) / 8, nil // to read a name is cheaper than to look it up
}

// wholeCut is a directory cut in parts of which all are left.
func wholeCut(parts uint32) *cut {
	c := &cut{parts: parts, left: make([]uint32, parts)}
	for i := range c.left {
		c.left[i] = uint32(i)
	}
	return c
}

// files deals with names of the directory d, which is open at fd.
func (w *worker) files(d *dir, fd int, n *names) (count int, err error) {
	w.path = d.appendPath(w.path[:0])
	for i := range n.list {
		switch k := n.list[i].kind; {
		case k == kindDirectory:
			w.push(d, n.at(i))
		case k == kindOther:
		case w.crew.aborted.Load():
			return 0, context.Cause(w.crew.ctx)
		default:
			if err := w.file(d, fd, n.at(i)); err != nil {
				return 0, err
			}
		}
	}
	if w.batch != nil && len(w.batch.files) >= batchFiles {
		w.flush()
	}
	return len(n.list), nil
}

func (w *worker) push(parent *dir, name []byte) {
	w.stack = append(w.stack, item{dir: &dir{parent: parent, name: string(name)}})
}

// file deals with one name that is not known to be a directory.
func (w *worker) file(d *dir, fd int, name []byte) error {
	f := &w.found
	if err := look(fd, name, f); err != nil {
		return w.missed(err, string(w.path)+string(name))
	}
	switch f.mode & unix.S_IFMT {
	case unix.S_IFDIR: // the directory told nothing, or something has changed
		w.push(d, name)
	case unix.S_IFREG:
		if w.batch == nil {
			w.batch = w.walk.batches.Get().(*batch) //nolint:forcetypeassert // the pool holds nothing else
		}
		b := w.batch
		b.keys = append(append(b.keys, w.path...), name...)
		b.files = append(b.files, file{key: len(b.keys), size: f.size, blocks: f.blocks, names: f.names, id: f.id})
	}
	return nil
}

// flush hands over what was found. It waits if too much has been handed over
// already; the step's goroutine receives until all workers have stopped.
func (w *worker) flush() {
	if w.batch != nil {
		w.crew.full <- w.batch
		w.batch = nil
	}
}

func (w *worker) missedDir(err error, d *dir) error {
	return w.missed(err, strings.TrimSuffix(string(d.appendPath(nil)), "/"))
}

// missed deals with something that could not be looked at. It returns an error
// only if the step has to fail.
func (w *worker) missed(err error, path string) error {
	switch {
	case vanished(err), err == errOtherMount: //nolint:errorlint // never wrapped
		return nil
	case exhausted(err):
		return &source.Error{ScanError: exhaustedHere, Temporary: true, Err: err}
	}
	w.crew.mu.Lock()
	defer w.crew.mu.Unlock()
	w.crew.unreadable++
	if w.walk.logged < loggedPaths {
		w.walk.logged++
		w.walk.opener.log.Warn("part of a tree cannot be read", "tree", w.walk.root, "path", path, "error", err)
	}
	return nil
}
