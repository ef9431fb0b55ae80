package canned

import (
	"strconv"
	"sync/atomic"
)

// blockKeys is how many keys are rendered together: a page, unless somebody
// begins in the middle.
const blockKeys = 1000

// block is the XML of up to blockKeys objects. That of the j-th is
// xml[at[j]:at[j+1]], so that a page can begin and end anywhere without being
// rendered again.
type block struct {
	xml []byte
	at  []uint32
}

// blocks renders objects and keeps what it rendered, while there is room.
type blocks struct {
	keys    Keys
	encoded bool // keys are as in a URL
	kept    []atomic.Pointer[block]
	room    *atomic.Int64 // bytes
}

func newBlocks(keys Keys, encoded bool, room *atomic.Int64) *blocks {
	return &blocks{keys: keys, encoded: encoded, kept: make([]atomic.Pointer[block], (keys.n+blockKeys-1)/blockKeys), room: room}
}

func (b *blocks) block(number int) *block {
	if kept := b.kept[number].Load(); kept != nil {
		return kept
	}
	made := b.render(number)
	if b.room.Load() > 0 && b.kept[number].CompareAndSwap(nil, made) {
		b.room.Add(-int64(len(made.xml) + 4*len(made.at)))
	}
	return made
}

func (b *blocks) render(number int) *block {
	begin := number * blockKeys
	n := min(blockKeys, b.keys.n-begin)
	made := &block{at: make([]uint32, 0, n+1)}
	var key []byte
	for i := begin; i < begin+n; i++ {
		made.at = append(made.at, uint32(len(made.xml)))
		key = b.keys.key(key[:0], i)
		made.xml = appendContents(made.xml, key, b.encoded, i, b.keys.size(i))
		if i == begin { // the others are about as long
			made.xml = append(make([]byte, 0, (len(made.xml)+8)*n), made.xml...)
		}
	}
	made.at = append(made.at, uint32(len(made.xml)))
	return made
}

// run appends the XML of the objects from place i to before end, in pieces.
func (b *blocks) run(pieces [][]byte, i, end int) [][]byte {
	for i < end {
		number := i / blockKeys
		last := min(end, (number+1)*blockKeys)
		made := b.block(number)
		pieces = append(pieces, made.xml[made.at[i-number*blockKeys]:made.at[last-number*blockKeys]])
		i = last
	}
	return pieces
}

// appendContents renders one object as AWS does since 2025.
func appendContents(dst, key []byte, encoded bool, i int, size int64) []byte {
	dst = append(dst, "<Contents><Key>"...)
	dst = appendText(dst, key, encoded)
	dst = append(dst, "</Key>"...)
	dst = appendProperties(dst, hash(i, saltTime), hash(i, saltETag), hash(i, saltETag2), size)
	return append(dst, "</Contents>"...)
}

func appendProperties(dst []byte, when, etag, etag2 uint64, size int64) []byte {
	dst = append(dst, "<LastModified>"...)
	dst = appendTime(dst, when)
	dst = append(dst, "</LastModified><ETag>&quot;"...)
	dst = hex16(hex16(dst, etag), etag2)
	dst = append(dst, "&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>"...)
	dst = strconv.AppendInt(dst, size, 10)
	return append(dst, "</Size><StorageClass>STANDARD</StorageClass>"...)
}

// appendTime renders a moment of chance between 2020 and 2025.
func appendTime(dst []byte, h uint64) []byte {
	two := func(v uint64) {
		dst = append(dst, '0'+byte(v/10), '0'+byte(v%10))
	}
	dst = append(dst, "20"...)
	two(20 + h%6)
	dst = append(dst, '-')
	two(1 + h>>8%12)
	dst = append(dst, '-')
	two(1 + h>>16%28)
	dst = append(dst, 'T')
	two(h >> 24 % 24)
	dst = append(dst, ':')
	two(h >> 32 % 60)
	dst = append(dst, ':')
	two(h >> 40 % 60)
	return append(dst, ".000Z"...)
}

// appendText renders a text that came from outside.
func appendText[T string | []byte](dst []byte, text T, encoded bool) []byte {
	if encoded {
		return appendEncoded(dst, text)
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c == '&':
			dst = append(dst, "&amp;"...)
		case c == '<':
			dst = append(dst, "&lt;"...)
		case c == '>':
			dst = append(dst, "&gt;"...)
		case c == '"':
			dst = append(dst, "&quot;"...)
		case c < ' ': // not allowed in XML 1.0, and still what AWS sends
			dst = append(append(append(dst, "&#x"...), strconv.FormatUint(uint64(c), 16)...), ';')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendEncoded is what AWS takes encoding-type=url for: the encoding of forms,
// where a space is a plus, with slashes left alone.
func appendEncoded[T string | []byte](dst []byte, text T) []byte {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '*', c == '/':
			dst = append(dst, c)
		case c == ' ':
			dst = append(dst, '+')
		default:
			dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return dst
}
