package posixtree

import "math/bits"

type kind uint8

const (
	kindUnknown   kind = iota // the file system does not tell
	kindFile                  // regular
	kindDirectory             //
	kindOther                 // nothing to count
)

// names is what a directory holds, or a part of it. One text for all keeps a
// directory of a million names small: about 16 bytes each besides the names
// themselves. Behind each name in it is a zero byte, so that the kernel can be
// given the name where it lies.
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
	n.text = append(append(n.text, text...), 0)
}

// at returns the name number i, which stays valid as long as nothing is added.
func (n *names) at(i int) []byte { return n.text[n.list[i].start:][:n.list[i].size] }

// reset empties n for the next directory. What one huge directory has needed is
// not kept for all that follow.
func (n *names) reset() {
	const kept = 1 << 20
	if cap(n.text) > kept {
		*n = names{}
	}
	n.text, n.list = n.text[:0], n.list[:0]
}

// maxParts bounds what a cursor may say; a directory that needs more parts gets
// larger ones.
const maxParts = 1 << 16

// partsFor returns in how many parts a directory with so many names is walked,
// so that one has about as many names as wanted: a power of two, or 0 for a
// directory that is walked whole.
func partsFor(count, wanted int) uint32 {
	if count <= 2*wanted {
		return 0
	}
	return uint32(min(maxParts, 1<<bits.Len(uint((count-1)/wanted)))) //nolint:gosec // at most maxParts
}

// partOf returns to which of so many parts a name belongs, for ever: cursors
// rely on it. A hash (FNV-1a, 32 bits) says so and not the order of names,
// because to sort a million of them takes longer than to look them up.
func partOf(name []byte, parts uint32) uint32 {
	h := uint32(2166136261)
	for _, b := range name {
		h = (h ^ uint32(b)) * 16777619
	}
	return (h ^ h>>16) & (parts - 1)
}

// split divides n into parts.
func (n *names) split(parts uint32) []names {
	split := make([]names, parts)
	for i := range n.list {
		name := n.at(i)
		split[partOf(name, parts)].add(name, n.list[i].kind)
	}
	return split
}
