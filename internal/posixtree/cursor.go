package posixtree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
)

// state is all that a walk must know to go on. As a cursor it is, with numbers
// as minimal unsigned varints:
//
//	version     1 byte, 2
//	unreadable  number
//	left out    number
//	root        a directory, see below
//	links       to the end, files sorted by device and inode, each:
//	              device, less the device before it
//	              inode, less the inode before it, if the device is the same
//	              names not met yet, at least 1
//
// A directory is there if something is left in it or below it; at the end only
// the root is, and nothing is left of it:
//
//	what is left  number: 0 nothing but below, 1 all of it (nothing is known of what
//	              is below), else in how many parts it was cut, a power of two
//	parts left    only if it was cut: how many, at least 1, and their numbers: the
//	              first one, then each less the one before it
//	directories   how many follow that are in it
//	              each: length of its name, the name, and again a directory; sorted
//	              by name
//
// One state has one encoding, and decodeCursor admits no other.
type state struct {
	items []item
	// unreadable is how many directories and files could not be read, leftOut how
	// many names were left out for want of space, since the scan began.
	unreadable, leftOut uint64
	links               map[fileID]uint64
}

const cursorVersion = 2

func beginning() state { return state{items: []item{{dir: new(dir)}}} }

func (s state) encode() []byte {
	b := make([]byte, 0, 64+8*len(s.links))
	b = append(b, cursorVersion)
	b = binary.AppendUvarint(b, s.unreadable)
	b = binary.AppendUvarint(b, s.leftOut)
	b = appendTree(b, growTree(s.items))
	return appendLinks(b, s.links)
}

func appendLinks(b []byte, links map[fileID]uint64) []byte {
	var before fileID
	for _, id := range slices.SortedFunc(maps.Keys(links), fileID.compare) {
		if id.device != before.device {
			before.inode = 0
		}
		b = binary.AppendUvarint(b, id.device-before.device)
		b = binary.AppendUvarint(b, id.inode-before.inode)
		b = binary.AppendUvarint(b, links[id])
		before = id
	}
	return b
}

// branch is a directory in a cursor.
type branch struct {
	name  string
	whole bool
	parts uint32
	left  []uint32
	below []*branch
}

// growTree makes one tree of what is left.
func growTree(items []item) *branch {
	root := new(branch)
	known := map[*dir]*branch{}
	for _, it := range items {
		b := root.reach(it.dir, known)
		if it.cut == nil {
			b.whole = true
			continue
		}
		b.parts = it.cut.parts
		b.left = append(b.left, it.cut.left...)
	}
	return root
}

// reach returns the branch of d, which is below b, the root. It makes no use of
// the call stack, because trees may be very deep.
func (b *branch) reach(d *dir, known map[*dir]*branch) *branch {
	if d.parent == nil {
		return b
	}
	wanted, made := known[d], (*branch)(nil)
	for ; d.parent != nil; d = d.parent {
		at, found := known[d]
		if !found {
			at = &branch{name: d.name}
			known[d] = at
		}
		if made != nil {
			at.below = append(at.below, made)
		}
		if wanted == nil {
			wanted = at
		}
		if found {
			return wanted
		}
		made = at
	}
	b.below = append(b.below, made)
	return wanted
}

// tidy sorts what is in b. A directory can be there twice, when it was renamed
// while the one above it was read: one of them is enough.
func (b *branch) tidy() {
	slices.Sort(b.left)
	b.left = slices.Compact(b.left)
	slices.SortStableFunc(b.below, func(x, y *branch) int { return cmp.Compare(x.name, y.name) })
	b.below = slices.CompactFunc(b.below, func(x, y *branch) bool { return x.name == y.name })
}

func appendTree(b []byte, root *branch) []byte {
	for rest := []*branch{root}; len(rest) > 0; {
		at := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		at.tidy()
		if at != root {
			b = binary.AppendUvarint(b, uint64(len(at.name)))
			b = append(b, at.name...)
		}
		b = at.appendWhatIsLeft(b)
		b = binary.AppendUvarint(b, uint64(len(at.below)))
		for _, below := range slices.Backward(at.below) {
			rest = append(rest, below)
		}
	}
	return b
}

func (b *branch) appendWhatIsLeft(to []byte) []byte {
	switch {
	case b.whole:
		return binary.AppendUvarint(to, 1)
	case len(b.left) == 0:
		return binary.AppendUvarint(to, 0)
	}
	to = binary.AppendUvarint(to, uint64(b.parts))
	to = binary.AppendUvarint(to, uint64(len(b.left)))
	before := uint32(0)
	for _, part := range b.left {
		to = binary.AppendUvarint(to, uint64(part-before))
		before = part
	}
	return to
}

func (id fileID) compare(other fileID) int {
	return cmp.Or(cmp.Compare(id.device, other.device), cmp.Compare(id.inode, other.inode))
}

var errCursor = errors.New("not a cursor of a walk")

// decodeCursor is the inverse of encode.
func decodeCursor(b []byte) (state, error) {
	r := &reader{rest: b}
	version := r.byte()
	s := state{unreadable: r.number(), leftOut: r.number()}
	s.items = r.items()
	s.links = r.links()
	if r.failed || version != cursorVersion || !bytes.Equal(s.encode(), b) {
		return state{}, errCursor
	}
	return s, nil
}

// possibleName reports whether a name can be one. Without this a forged cursor
// could lead the walk out of the tree.
func possibleName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// reader takes a cursor apart. After a failure it gives zero values.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.failed = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.failed = true
		return 0
	}
	r.take(uint64(size))
	return n
}

func (r *reader) bytes() []byte { return r.take(r.number()) }

// items reads the tree of what is left. It cannot run long on forged numbers: it
// ends where the bytes end.
func (r *reader) items() (items []item) {
	type level struct {
		dir  *dir
		left uint64 // how many directories follow in it
	}
	root := new(dir)
	items = r.item(items, root)
	for open := []level{{root, r.number()}}; len(open) > 0 && !r.failed; {
		at := &open[len(open)-1]
		if at.left == 0 {
			open = open[:len(open)-1]
			continue
		}
		at.left--
		d := &dir{parent: at.dir, name: string(r.bytes())}
		if !possibleName(d.name) {
			r.failed = true
		}
		items = r.item(items, d)
		open = append(open, level{d, r.number()})
	}
	return items
}

// item appends what is left of d itself, if anything is.
func (r *reader) item(items []item, d *dir) []item {
	parts := r.number()
	switch {
	case parts == 0:
		return items
	case parts == 1:
		return append(items, item{dir: d})
	case parts > maxParts || parts&(parts-1) != 0:
		r.failed = true
		return items
	}
	c := &cut{parts: uint32(parts)}
	part := uint64(0)
	for n := r.number(); n > 0 && !r.failed; n-- {
		part += r.number()
		if part >= parts {
			r.failed = true
			break
		}
		c.left = append(c.left, uint32(part)) //nolint:gosec // less than parts
	}
	return append(items, item{dir: d, cut: c})
}

func (r *reader) links() map[fileID]uint64 {
	links := map[fileID]uint64{}
	var id fileID
	for len(r.rest) > 0 && !r.failed {
		if device := r.number(); device > 0 {
			id = fileID{device: id.device + device}
		}
		id.inode += r.number()
		left := r.number()
		if left == 0 {
			r.failed = true
		}
		links[id] = left
	}
	return links
}
