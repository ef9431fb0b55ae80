package posixtree

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

const (
	// stepNames is about how many names one step deals with: so many that it does
	// not matter that at its end workers wait for each other, and so few that little
	// is lost with a step that fails. stepTime ends it sooner where the store is slow.
	stepNames = 20_000
	stepTime  = 200 * time.Millisecond
	// partNames is about how many names there are in one part of a large directory.
	partNames = 1000
	// loggedPaths is how many unreadable paths one Source writes to the log.
	loggedPaths = 20
)

// defaultWorkers is how many directories are read side by side: more than there
// are processors, so that some wait for the store while others work.
func defaultWorkers() int { return max(4, 2*runtime.GOMAXPROCS(0)) }

// walk is one slice of work on a tree. What is left of it is a set of items that
// have nothing in common, in no particular order.
type walk struct {
	opener *Opener
	root   string
	rootFD int // -1 if there is no root, or no need for it
	device uint64
	// items, unreadable and leftOut are those after the last step that succeeded.
	items               []item
	unreadable, leftOut uint64
	links               *links
	workers             []*worker
	batches             sync.Pool // of *batch
	logged              int
}

// newWalk makes a walk of what a cursor says is left.
func newWalk(o *Opener, root string, s state) *walk {
	w := &walk{
		opener: o, root: root, rootFD: -1, links: newLinks(o.maxLinks, s.links),
		items: s.items, unreadable: s.unreadable, leftOut: s.leftOut,
		batches: sync.Pool{New: func() any { return new(batch) }},
	}
	for range o.workers {
		w.workers = append(w.workers, &worker{walk: w})
	}
	return w
}

// openRoot opens the root of the tree. One that does not exist finishes the
// walk before it began.
func (w *walk) openRoot() error {
	if !filepath.IsAbs(w.root) {
		return &source.Error{ScanError: rootUnreadable, Err: errors.New("the path " + w.root + " is not absolute")}
	}
	fd, err := openat(unix.AT_FDCWD, filepath.Clean(w.root))
	if errors.Is(err, unix.ENOENT) {
		w.items = nil
		return nil
	}
	if err != nil {
		return rootError(w.root, err)
	}
	var f found
	if err := lookAt(fd, &f); err != nil {
		_ = unix.Close(fd)
		return rootError(w.root, err)
	}
	w.rootFD, w.device = fd, w.opener.device(&f)
	return nil
}

// elsewhere reports whether something is on another mount than the root.
func (w *walk) elsewhere(f *found) bool { return w.opener.device(f) != w.device }

// Method implements source.Source.
func (w *walk) Method() string { return string(purser.TreeWalk) }

// Cursor implements source.Source.
func (w *walk) Cursor() []byte {
	s := state{items: w.items, unreadable: w.unreadable, leftOut: w.leftOut}
	if len(s.items) > 0 { // at the end nothing has to be kept in mind
		s.links = w.links.left
	}
	return s.encode()
}

// Close implements source.Source.
func (w *walk) Close() error {
	for _, worker := range w.workers {
		worker.opened.closeAll()
	}
	fd := w.rootFD
	w.rootFD = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Step implements source.Source.
func (w *walk) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	if err := ctx.Err(); err != nil {
		return source.Step{}, err
	}
	defer w.links.rollback() // of what is not committed
	c := w.start(ctx, w.items)
	leftOut, err := w.hand(ctx, c, count)
	left := c.left()
	if err != nil {
		return source.Step{}, err
	}
	w.links.commit()
	w.items = left
	step := source.Step{Done: len(left) == 0}
	if c.unreadable > 0 || leftOut > 0 {
		w.unreadable += c.unreadable
		w.leftOut += leftOut
		step.Incomplete = w.incomplete()
	}
	return step, nil
}

// hand hands out what the workers find until all have stopped, and returns how
// many names had to be left out.
func (w *walk) hand(ctx context.Context, c *crew, count func(source.Entry)) (leftOut uint64, err error) {
	defer func() { err = c.end(ctx) }()
	for b := range c.full {
		start := 0
		for i := range b.files {
			f := &b.files[i]
			key := b.keys[start:f.key]
			start = f.key
			if f.names > 1 {
				first, remembered := w.links.first(f.id, f.names)
				if !remembered {
					leftOut++
				}
				if !first || !remembered {
					continue
				}
			}
			count(source.Entry{Key: key, Size: max(0, f.size), Allocated: max(0, f.blocks*512)})
		}
		b.keys, b.files = b.keys[:0], b.files[:0]
		w.batches.Put(b)
	}
	return leftOut, nil
}

// incomplete tells how much the scan has missed so far.
func (w *walk) incomplete() *purser.ScanError {
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
