package s3bucket

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var anyKey = rapid.SliceOfN(rapid.SampledFrom([]byte("\x00 09/AZaz~\x7f\xc3\xa9\xe6\x97\xa5\xff")), 0, 12)

func TestMidpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, lo, hi, want string
		prefix             int
		seen               string
	}{
		{name: "hexadecimal digits", lo: "p/00", want: "p/8", prefix: 2, seen: "0123456789abcdef"},
		{name: "between two", lo: "p/2", hi: "p/6", want: "p/4", seen: "0123456789"},
		{name: "behind what both have in common", lo: "img-000", hi: "img-900", want: "img-45", seen: "0123456789"},
		{name: "neighbours", lo: "a", hi: "b", want: "ab", seen: "abc"},
		{name: "the next key already", lo: "a", hi: "a\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var a alphabet
			a.learn(0, []byte(c.seen))
			var hi []byte
			if c.hi != "" {
				hi = []byte(c.hi)
			}
			got := a.midpoint([]byte(c.lo), hi, c.prefix)
			if c.want == "" && got == nil {
				return
			}
			if !bytes.HasPrefix(got, []byte(c.want)) {
				t.Errorf("midpoint = %q, want about %q", got, c.want)
			}
		})
	}
}

func TestGuessesLieWhereTheyShould(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var a alphabet
		a.learn(0, anyKey.Draw(t, "seen"))
		lo, hi := anyKey.Draw(t, "lo"), anyKey.Draw(t, "hi")
		switch bytes.Compare(lo, hi) {
		case 0:
			hi = nil
		case 1:
			lo, hi = hi, lo
		}
		if mid := a.midpoint(lo, hi, rapid.IntRange(0, len(lo)).Draw(t, "prefix")); mid != nil {
			if bytes.Compare(mid, lo) <= 0 || hi != nil && bytes.Compare(mid, hi) >= 0 || !utf8.Valid(mid) {
				t.Fatalf("midpoint(%q, %q) = %q", lo, hi, mid)
			}
		}
		if s := a.share(lo, hi, commonPrefix(lo, hi)); s < 0 || s > 1 {
			t.Fatalf("share(%q, %q) = %v", lo, hi, s)
		}
		behind := beyond(lo)
		if behind == nil {
			return
		}
		with := append(bytes.Clone(validPrefix(lo)), anyKey.Draw(t, "tail")...)
		if !utf8.Valid(behind) || utf8.Valid(with) && bytes.Compare(with, behind) >= 0 {
			t.Fatalf("beyond(%q) = %q, which is not behind %q", lo, behind, with)
		}
	})
}
