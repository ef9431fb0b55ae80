package posixtree

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sort"

	"golang.org/x/sys/unix"
)

// openDirs is how many directories a walk keeps open besides the root. Deeper
// trees are walked with the same number: what lies above is opened again on the
// way back.
const openDirs = 32

// dir is a directory on the way from the root to where the walk is.
type dir struct {
	name string // in the directory above; empty for the root
	fd   int    // -1 while closed
	// inDirs says that the files have been counted and it is the directories' turn.
	inDirs bool
	// after is the last name dealt with among the files, or among the directories;
	// empty if none has been.
	after string
	// names is what is in it, nil until it is read; in the directories' turn only
	// directories are kept. next is the first that comes behind after.
	names  *names
	next   int
	prefix int // length of the path from the root, as in walk.key
}

func (d *dir) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
		d.fd = -1
	}
}

// turnToDirs forgets the names that cannot be directories.
func (d *dir) turnToDirs() {
	d.inDirs, d.after, d.next = true, "", 0
	d.names = d.names.directories()
}

// load makes sure that the names in the directory stack[i], the last one, are
// known. A directory that has vanished is dropped from the stack.
func (w *walk) load(ctx context.Context, i int) error {
	d := w.stack[i]
	if d.names != nil {
		return nil
	}
	if err := w.open(i); err != nil || len(w.stack) <= i {
		return err
	}
	list, err := w.list(ctx, d.fd)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) { // ENOENT: removed after it was opened
		if err := w.missed(err, ""); err != nil {
			return err
		}
	}
	list.sort()
	if d.inDirs {
		list = list.directories()
	}
	d.names, d.next = list, list.behind(d.after)
	return nil
}

// list reads the names in a directory. Those read before an error are returned
// with it.
func (w *walk) list(ctx context.Context, fd int) (*names, error) {
	if w.dents == nil {
		w.dents = make([]byte, 64<<10)
	}
	list := &names{}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return list, err
	}
	return list, w.opener.readNames(ctx, fd, w.dents, list.add)
}

// open makes sure that the directory stack[i] is open. If one of those on the
// way is not there any more, or must not be entered, it and all below it are
// dropped from the stack.
func (w *walk) open(i int) error {
	from := i
	for w.stack[from].fd < 0 {
		from--
	}
	for k := from + 1; k <= i; k++ {
		fd, err := w.enter(w.stack[k-1].fd, w.stack[k].name)
		if err != nil {
			name := w.stack[k].name
			w.cut(k)
			return w.missed(err, name)
		}
		w.stack[k].fd = fd
		if far := k - openDirs; far > 0 {
			w.stack[far].close()
		}
	}
	return nil
}

var errOtherMount = errors.New("another mount")

// enter opens a directory unless it is on another mount.
func (w *walk) enter(parent int, name string) (int, error) {
	fd, err := openat(parent, name)
	if err != nil {
		// What may not be read need not be, if it is not part of the tree.
		st, statErr := fstatat(parent, name)
		if statErr == nil && w.opener.device(&st) != w.device {
			return -1, errOtherMount
		}
		return -1, err
	}
	st, err := fstat(fd)
	if err == nil && w.opener.device(&st) != w.device {
		err = errOtherMount
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

type kind uint8

const (
	kindUnknown   kind = iota // the file system does not tell
	kindFile                  // regular
	kindDirectory             //
	kindOther                 // nothing to count, or counted already
)

// names is what a directory holds. One text for all keeps a directory of a
// million names small: about 16 bytes each besides the names themselves.
type names struct {
	text []byte
	list []name
}

type name struct {
	start int
	size  uint8 // NAME_MAX is 255
	kind  kind
}

func (n *names) add(text []byte, k kind) {
	n.list = append(n.list, name{start: len(n.text), size: uint8(len(text)), kind: k}) //nolint:gosec // NAME_MAX is 255
	n.text = append(n.text, text...)
}

// at returns the name number i, which stays valid as long as n.
func (n *names) at(i int) []byte { return n.text[n.list[i].start:][:n.list[i].size] }

func (n *names) sort() {
	slices.SortFunc(n.list, func(a, b name) int {
		return bytes.Compare(n.text[a.start:][:a.size], n.text[b.start:][:b.size])
	})
}

// behind returns the number of the first name that sorts behind after.
func (n *names) behind(after string) int {
	return sort.Search(len(n.list), func(i int) bool { return string(n.at(i)) > after })
}

// directories returns the names that are or may be directories.
func (n *names) directories() *names {
	kept := &names{}
	for i, name := range n.list {
		if name.kind == kindDirectory || name.kind == kindUnknown {
			kept.add(n.at(i), name.kind)
		}
	}
	return kept
}
