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

// position is where a walk stands: the names of the directories that it is in,
// from the root's on down, and last the file that it has dealt with there, which
// is empty if there was none yet. A step never ends elsewhere than among files;
// a directory that has none is left in the same step. At the end there are no
// names.
type position []string

// state is all that a walk must know to go on. As a cursor it is, with numbers
// as minimal unsigned varints:
//
//	version     1 byte, 1
//	unreadable  number
//	left out    number
//	names       number of names, 0 at the end; then each: length, bytes
//	links       to the end, files sorted by device and inode, each:
//	              device, less the device before it
//	              inode, less the inode before it, if the device is the same
//	              names not met yet, at least 1
//
// One state has one encoding, and decodeCursor admits no other.
type state struct {
	at position
	// unreadable is how many directories and files could not be read, leftOut how
	// many names were left out for want of space, since the scan began.
	unreadable, leftOut uint64
	links               map[fileID]uint64
}

const cursorVersion = 1

func beginning() state { return state{at: position{""}} }

func (s state) encode() []byte {
	b := make([]byte, 0, 64+8*len(s.links))
	b = append(b, cursorVersion)
	b = binary.AppendUvarint(b, s.unreadable)
	b = binary.AppendUvarint(b, s.leftOut)
	b = binary.AppendUvarint(b, uint64(len(s.at)))
	for _, name := range s.at {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	var before fileID
	for _, id := range slices.SortedFunc(maps.Keys(s.links), fileID.compare) {
		if id.device != before.device {
			before.inode = 0
		}
		b = binary.AppendUvarint(b, id.device-before.device)
		b = binary.AppendUvarint(b, id.inode-before.inode)
		b = binary.AppendUvarint(b, s.links[id])
		before = id
	}
	return b
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
	// The loops cannot run long on a forged number: they end where the bytes end.
	for n := r.number(); n > 0 && !r.failed; n-- {
		s.at = append(s.at, string(r.bytes()))
	}
	s.links = r.links()
	if r.failed || version != cursorVersion || !s.at.valid() || !bytes.Equal(s.encode(), b) {
		return state{}, errCursor
	}
	return s, nil
}

// valid reports whether the names can be names. Without this a forged cursor
// could lead the walk out of the tree.
func (p position) valid() bool {
	for i, name := range p {
		last := i == len(p)-1
		if name == "" && !last || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return false
		}
	}
	return true
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
