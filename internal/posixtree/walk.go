package posixtree

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

const (
	stepNames = 1000
	// loggedPaths is how many unreadable paths one Source writes to the log.
	loggedPaths = 20
)

// walk is one slice of work on a tree: a stack of directories, from the root
// down to the one that is being read. The stack is empty when nothing follows.
type walk struct {
	opener *Opener
	root   string
	rootFD int // -1 if there is no root, or no need for it
	device uint64
	stack  []*dir
	links  *links
	// state is the state after the last step that succeeded, but for its links.
	state state
	// unreadable and leftOut are those of state and of the step under way.
	unreadable, leftOut uint64
	logged              int

	key   []byte // path of the directory being read, with a slash behind each name
	batch batch
	dents []byte
}

// Method implements source.Source.
func (w *walk) Method() string { return "walk" }

// Cursor implements source.Source.
func (w *walk) Cursor() []byte {
	s := w.state
	if len(s.at) > 0 { // at the end nothing has to be kept in mind
		s.links = w.links.left
	}
	return s.encode()
}

// Close implements source.Source.
func (w *walk) Close() error {
	w.cut(0)
	fd := w.rootFD
	w.rootFD = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Step implements source.Source.
func (w *walk) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	if err := w.advance(ctx, count); err != nil {
		w.links.rollback()
		w.goTo(w.state.at)
		return source.Step{}, err
	}
	w.links.commit()
	step := source.Step{Done: len(w.stack) == 0, Incomplete: w.incomplete()}
	w.state = state{at: w.position(), unreadable: w.unreadable, leftOut: w.leftOut}
	return step, nil
}

// incomplete tells how much the scan has missed so far, if this step has missed
// something.
func (w *walk) incomplete() *purser.ScanError {
	if w.unreadable == w.state.unreadable && w.leftOut == w.state.leftOut {
		return nil
	}
	var messages, hints []string
	if w.unreadable > 0 {
		messages = append(messages, fmt.Sprintf("%d files or directories could not be read.", w.unreadable))
		hints = append(hints, "Let the user that Purser runs as read and search all directories; the server's log names the first ones.")
	}
	if w.leftOut > 0 {
		messages = append(messages, fmt.Sprintf("%d names of files with several names (hard links) were left out, because only %d such files can be kept in mind.",
			w.leftOut, w.links.limit))
		hints = append(hints, "Split the tree, so that fewer such files are in one.")
	}
	return &purser.ScanError{Code: source.CodeUnreadable, Message: strings.Join(messages, " "), Hint: strings.Join(hints, " ")}
}

// advance walks on until a step's worth of names has been dealt with.
func (w *walk) advance(ctx context.Context, count func(source.Entry)) error {
	for budget := w.opener.stepNames; budget > 0 && len(w.stack) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		top := len(w.stack) - 1
		if err := w.load(ctx, top); err != nil || len(w.stack) <= top {
			if err != nil {
				return err
			}
			continue // it has vanished
		}
		d, done := w.stack[top], 0
		var err error
		if d.inDirs {
			done = w.descend(d)
		} else if done, err = w.files(ctx, top, budget, count); err != nil {
			return err
		}
		budget -= done
	}
	return nil
}

// descend goes to the next directory in d, or back to where d is.
func (w *walk) descend(d *dir) (done int) {
	if d.next == len(d.names.list) {
		w.cut(len(w.stack) - 1)
		return 0
	}
	d.after = string(d.names.at(d.next))
	d.next++
	w.push(&dir{name: d.after, fd: -1})
	return 1
}

// files counts the next files of the directory at the top of the stack, at most
// limit, and turns to its directories when there are none.
func (w *walk) files(ctx context.Context, top, limit int, count func(source.Entry)) (done int, err error) {
	d := w.stack[top]
	w.batch.fill(d, limit)
	if len(w.batch.index) == 0 {
		d.turnToDirs()
		return 0, nil
	}
	if err := w.open(top); err != nil || len(w.stack) <= top {
		return 0, err
	}
	if err := w.batch.stat(ctx, d.fd, d.names); err != nil {
		return 0, err
	}
	for i, index := range w.batch.index {
		if err := w.file(d, index, &w.batch.found[i], count); err != nil {
			return 0, err
		}
	}
	last := w.batch.index[len(w.batch.index)-1]
	d.after, d.next = string(d.names.at(last)), last+1
	return len(w.batch.index), nil
}

// file deals with one name that is not known to be a directory.
func (w *walk) file(d *dir, index int, f *found, count func(source.Entry)) error {
	name := &d.names.list[index]
	switch {
	case f.err != nil:
		name.kind = kindOther
		return w.missed(f.err, string(d.names.at(index)))
	case f.mode&unix.S_IFMT == unix.S_IFDIR:
		name.kind = kindDirectory // the directory told nothing, or something has changed
	case f.mode&unix.S_IFMT == unix.S_IFREG:
		name.kind = kindOther
		if f.names > 1 && !w.firstName(f) {
			return nil
		}
		key := append(w.key, d.names.at(index)...)
		w.key = key[:len(w.key)] // with the room that key may have got
		count(source.Entry{Key: key, Size: max(0, f.size), Allocated: max(0, f.blocks*512)})
	default:
		name.kind = kindOther
	}
	return nil
}

// firstName reports whether a file with several names is to be counted here.
func (w *walk) firstName(f *found) bool {
	first, remembered := w.links.first(f.id, f.names)
	if !remembered {
		w.leftOut++
	}
	return first && remembered
}

// missed deals with a name, in the directory that w.key is the path of, which
// could not be looked at. It returns an error only if the step has to fail.
func (w *walk) missed(err error, name string) error {
	switch {
	case vanished(err), err == errOtherMount: //nolint:errorlint // never wrapped
		return nil
	case exhausted(err):
		return &source.Error{ScanError: exhaustedHere, Temporary: true, Err: err}
	}
	w.unreadable++
	if w.logged < loggedPaths {
		w.logged++
		w.opener.log.Warn("part of a tree cannot be read", "tree", w.root, "path", string(w.key)+name, "error", err)
	}
	return nil
}

// position is where the walk stands.
func (w *walk) position() position {
	var at position
	for _, d := range w.stack {
		at = append(at, d.after)
	}
	return at
}

// goTo puts the walk at a position. Nothing is read yet.
func (w *walk) goTo(at position) {
	w.cut(0)
	w.unreadable, w.leftOut = w.state.unreadable, w.state.leftOut
	for i, after := range at {
		d := &dir{fd: -1, after: after, inDirs: i < len(at)-1}
		if i == 0 {
			d.fd = w.rootFD
		} else {
			d.name = at[i-1]
		}
		w.push(d)
	}
}

func (w *walk) push(d *dir) {
	w.stack = append(w.stack, d)
	if d.name != "" {
		w.key = append(append(w.key, d.name...), '/')
	}
	d.prefix = len(w.key)
}

// cut drops the directories from stack[depth] on.
func (w *walk) cut(depth int) {
	for i := depth; i < len(w.stack); i++ {
		if i > 0 { // the root stays open, for a step that has to be taken again
			w.stack[i].close()
		}
	}
	w.stack = slices.Delete(w.stack, depth, len(w.stack))
	w.key = w.key[:0]
	if depth > 0 {
		w.key = w.key[:w.stack[depth-1].prefix]
	}
}
