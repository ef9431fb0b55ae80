package s3bucket

import (
	"bytes"
	"unicode/utf8"
)

// alphabet is the bytes that were seen where keys differ. It makes guesses at
// keys in the middle better, and nothing depends on it being right.
type alphabet [256]bool

// learn takes in what keys look like behind what they have in common.
func (a *alphabet) learn(common int, keys ...[]byte) {
	for _, key := range keys {
		for _, b := range key[min(common, len(key)):] {
			if b < utf8.RuneSelf { // a part of a character is nothing to guess with
				a[b] = true
			}
		}
	}
}

// digits writes keys as numbers: each byte stands for its place among the bytes
// that occur, from 1, and 0 for the end of the key, which sorts before all.
type digits struct {
	place  [256]int
	symbol []byte // by place, from 1
}

func (a *alphabet) digits(also ...[]byte) *digits {
	seen := *a
	for _, key := range also {
		for _, b := range key {
			seen[b] = true
		}
	}
	d := &digits{symbol: make([]byte, 1, 64)}
	for b, occurs := range seen {
		if occurs {
			d.place[b] = len(d.symbol)
			d.symbol = append(d.symbol, byte(b))
		}
	}
	return d
}

// guessDigits is how many bytes of a key in the middle are guessed: more would
// only tell keys apart that lie next to each other.
const guessDigits = 6

// midpoint returns a key between lo and hi, about half way, or nil if there is
// none to be guessed. A nil hi is the end of all keys that begin with prefix.
func (a *alphabet) midpoint(lo, hi []byte, prefix int) []byte {
	common := min(prefix, len(lo))
	if hi != nil {
		common = commonPrefix(lo, hi)
	}
	var high []byte
	if hi != nil {
		high = hi[common:]
	}
	low := lo[common:]
	d := a.digits(low[:min(len(low), guessDigits)], high[:min(len(high), guessDigits)])
	base := len(d.symbol)
	var sum [guessDigits + 1]int // of both, with a place for the carry in front
	for i := guessDigits - 1; i >= 0; i-- {
		s := d.at(low, i) + d.at(high, i) + sum[i+1]
		if hi == nil && i == 0 {
			s += base // the end of all is one before the first place
		}
		sum[i+1] = s
		if s >= base && i > 0 {
			sum[i+1], sum[i] = s-base, 1
		}
	}
	mid := bytes.Clone(lo[:common])
	for i, rest := 1, sum[0]; i <= guessDigits; i++ {
		rest = rest*base + sum[i]
		place := min(rest/2, base-1)
		if place == 0 {
			break
		}
		mid = append(mid, d.symbol[place])
		rest %= 2
	}
	mid = validPrefix(mid)
	if bytes.Compare(mid, lo) <= 0 || hi != nil && bytes.Compare(mid, hi) >= 0 {
		return nil
	}
	return mid
}

func (d *digits) at(key []byte, i int) int {
	if i >= len(key) {
		return 0
	}
	return d.place[key[i]]
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// beyond returns the least key behind all that begin with prefix, or nil if
// there is none. It is valid UTF-8 if prefix is, but for a rune that is cut off
// at its end: servers refuse other questions.
func beyond(prefix []byte) []byte {
	for prefix = validPrefix(prefix); len(prefix) > 0; {
		r, size := utf8.DecodeLastRune(prefix)
		prefix = prefix[:len(prefix)-size]
		switch r {
		case utf8.MaxRune:
			continue
		case 0xd7ff: // what follows are surrogates, which are no characters
			r = 0xdfff
		}
		return utf8.AppendRune(bytes.Clone(prefix), r+1)
	}
	return nil
}

// validPrefix is as much of key as is UTF-8.
func validPrefix(key []byte) []byte {
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRune(key[i:])
		if r == utf8.RuneError && size == 1 {
			return key[:i]
		}
		i += size
	}
	return key
}

// share returns how far key is on the way to until, from 0 to 1, among the keys
// that have their first common bytes in common with both.
func (a *alphabet) share(key, until []byte, common int) float64 {
	key = key[common:]
	var end []byte
	if until != nil {
		end = until[common:]
	}
	d := a.digits(key[:min(len(key), guessDigits)], end[:min(len(end), guessDigits)])
	value := func(k []byte) (v float64) {
		scale := 1.0
		for i := range guessDigits {
			scale /= float64(len(d.symbol))
			v += float64(d.at(k, i)) * scale
		}
		return v
	}
	if until == nil {
		return value(key)
	}
	if v := value(end); v > 0 {
		return value(key) / v
	}
	return 1
}
