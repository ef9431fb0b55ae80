package canned

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
)

// Object is what a bucket keeps under a key.
type Object struct {
	Key  string
	Size int64
}

// Keys is a set of keys in the order of their bytes. Each is made from its place
// in that order whenever it is wanted, so that ten million of them need no
// memory, and any text is found among them by halving.
type Keys struct {
	n int
	// key appends the key at place i; it grows with i, strictly.
	key  func(dst []byte, i int) []byte
	size func(i int) int64
}

// Of is a set of given keys, for tests. No key may come twice.
func Of(objects ...Object) Keys {
	sorted := slices.Clone(objects)
	slices.SortFunc(sorted, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	return Keys{
		n:    len(sorted),
		key:  func(dst []byte, i int) []byte { return append(dst, sorted[i].Key...) },
		size: func(i int) int64 { return sorted[i].Size },
	}
}

// Shapes are the names that Shape knows.
var Shapes = []string{"flat", "deep", "one-per-folder", "skewed", "long", "unicode"}

// Shape is a set of n keys with sizes from 0 to 2 GiB:
//
//   - flat: 32 hexadecimal digits, as content addressed stores have;
//   - deep: 13 folders deep, 64 keys in each folder at the bottom;
//   - one-per-folder: every key in a folder of its own;
//   - skewed: nine of ten keys in one of three folders;
//   - long: 1,000 bytes, of which the first 750 are the same for all;
//   - unicode: folders in many scripts, with everything that must be escaped in XML or in a URL.
func Shape(name string, n int) (Keys, error) {
	k := Keys{n: n, size: sizeOf}
	switch name {
	case "flat":
		k.key = func(dst []byte, i int) []byte { return hex16(hex16(dst, spread(i, n)), hash(i, saltName)) }
	case "deep":
		k.key = deepKey
	case "one-per-folder":
		k.key = func(dst []byte, i int) []byte {
			return append(hex16(append(dst, "runs/"...), spread(i, n)), "/checkpoint.safetensors"...)
		}
	case "skewed":
		k.key = func(dst []byte, i int) []byte { return skewedKey(dst, i, n) }
	case "long":
		k.key = func(dst []byte, i int) []byte {
			begin := len(dst)
			dst = hex16(append(dst, longFolders...), spread(i, n))
			return append(dst, longName[:1000-(len(dst)-begin)]...)
		}
	case "unicode":
		k.key = func(dst []byte, i int) []byte { return unicodeKey(dst, spread(i, n)) }
	default:
		return Keys{}, fmt.Errorf("no shape %q; there are %s", name, strings.Join(Shapes, ", "))
	}
	return k, nil
}

// Shape's words are sorted, and none is the beginning of another: then paths of
// words sort like the numbers that chose them.
var (
	deepWords    = [4]string{"checkpoints", "experiments", "models", "training-data"}
	unicodeWords = [8]string{"\"quoted\" 'n such", "R&D <draft>", "a+b = 100%", "naïve café", "Übung", "данные", "データ", "😀 team"}
	longFolders  = strings.Repeat(strings.Repeat("a-long-name-", 21)[:249]+"/", 3)
	longName     = strings.Repeat("-and-a-long-tail", 20)
)

func deepKey(dst []byte, i int) []byte {
	const levels, inFolder = 13, 64
	for level := levels - 1; level >= 0; level-- {
		word := deepWords[i/inFolder>>(2*level)&3]
		dst = append(append(dst, word...), '/')
	}
	dst = append(dst, "part-"...)
	dst = append(dst, '0'+byte(i%inFolder/10), '0'+byte(i%inFolder%10), '-')
	return append(hex16(dst, hash(i, saltName)), ".parquet"...)
}

func skewedKey(dst []byte, i, n int) []byte {
	first, last := n/20, n-n/20
	switch {
	case i < first:
		return hex16(append(dst, "archive/"...), spread(i, first))
	case i < last:
		return hex16(append(dst, "events/"...), spread(i-first, last-first))
	}
	return hex16(append(dst, "models/"...), spread(i-last, n-last))
}

func unicodeKey(dst []byte, place uint64) []byte {
	for shift := 61; shift >= 55; shift -= 3 {
		dst = append(append(dst, unicodeWords[place>>shift&7]...), '/')
	}
	return append(hex16(dst, place), " ファイル.bin"...)
}

// spread takes the i-th of n places to the i-th of n even parts of all 64-bit
// numbers, and to a number of chance within it: sorted, and random to look at.
func spread(i, n int) uint64 {
	part := uint64(math.MaxUint64) / uint64(n)
	return uint64(i)*part + hash(i, saltPlace)%part
}

// Each property of an object has its own salt.
const (
	saltPlace = iota + 1
	saltName
	saltSize
	saltTime
	saltETag
	saltETag2
	saltVersions
	saltVersionID
)

// hash is SplitMix64 (Steele, Lea and Flood, 2014).
func hash(i int, salt uint64) uint64 {
	z := (uint64(i)+salt<<48)*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// sizeOf is 0 for one object in 64, and otherwise 1 KiB to 2 GiB, as many in
// each power of two.
func sizeOf(i int) int64 {
	h := hash(i, saltSize)
	if h%64 == 0 {
		return 0
	}
	low := int64(1024) << (h >> 8 % 21)
	return low + int64(h>>16)%low
}

const hexDigits = "0123456789abcdef"

func hex16(dst []byte, v uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[v>>shift&15])
	}
	return dst
}

// Len is how many keys there are.
func (k Keys) Len() int { return k.n }

// Object is the object at place i.
func (k Keys) Object(i int) Object { return Object{string(k.key(nil, i)), k.size(i)} }

// search is the place of the first key that is s or follows it.
func (k Keys) search(s string) int { return k.searchFrom(0, s) }

// searchFrom is search where no key before from is wanted. It takes longer
// strides as it goes, for most often the answer is near.
func (k Keys) searchFrom(from int, s string) int {
	var buf [1100]byte
	reached := func(i int) bool { return string(k.key(buf[:0], i)) >= s }
	low, stride := from, 1
	for low+stride <= k.n && !reached(low+stride-1) {
		low, stride = low+stride, stride*2
	}
	return low + sort.Search(min(stride-1, k.n-low), func(i int) bool { return reached(low + i) })
}

// after is the place of the first key that follows s.
func (k Keys) after(s string) int { return k.search(s + "\x00") }

// beyond is the place of the first key that follows all that begin with s, at
// from or later.
func (k Keys) beyond(from int, s string) int {
	end := len(s)
	for end > 0 && s[end-1] == 0xff {
		end--
	}
	if end == 0 {
		return k.n
	}
	return k.searchFrom(from, s[:end-1]+string([]byte{s[end-1] + 1}))
}

// within is the range of places whose keys begin with prefix.
func (k Keys) within(prefix string) (low, high int) {
	low = k.search(prefix)
	return low, k.beyond(low, prefix)
}
