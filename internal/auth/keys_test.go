package auth_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
)

// goodKey is a key as any version must read it.
const goodKey = "psr_key0123456789ab_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg_3LF15d"

// encode puts a key together by another way than the package does.
func encode(id, secret string) string {
	body := "psr_" + id + "_" + secret
	digits := big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))).Text(62) // small letters first: the other way round
	return body + "_" + strings.Repeat("0", 6-len(digits)) + strings.Map(func(r rune) rune {
		if unicode.IsLower(r) {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, digits)
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^psr_(key[0-9a-z]{12})_([0-9A-Za-z]{43})_[0-9A-Za-z]{6}$`)
	seen := make(map[string]bool)
	digits := make(map[rune]int)
	for range 2000 {
		id, token, hash := auth.NewKey()
		parts := form.FindStringSubmatch(token.Expose())
		if parts == nil || parts[1] != string(id) || token.Expose() != encode(parts[1], parts[2]) {
			t.Fatalf("NewKey = %q with id %q", token.Expose(), id)
		}
		if sum := sha256.Sum256([]byte(token.Expose())); !bytes.Equal(hash, sum[:]) || !bytes.Equal(hash, auth.HashKey(token.Expose())) {
			t.Fatal("the hash is not the SHA-256 of the token")
		}
		if got, ok := auth.ParseKey(token.Expose()); !ok || got != id {
			t.Fatalf("ParseKey of a new key = %q, %t", got, ok)
		}
		if seen[parts[2]] || strings.Contains(fmt.Sprintf("%v %+v", token, token), parts[2]) {
			t.Fatal("a secret came twice, or prints")
		}
		seen[parts[2]] = true
		for _, digit := range parts[2] {
			digits[digit]++
		}
	}
	// 86,000 digits: each of 62 is expected 1387 times with a deviation of 37.
	for digit, n := range digits {
		if n < 1100 || n > 1700 {
			t.Errorf("the digit %c came %d times: not random", digit, n)
		}
	}
	if len(digits) != 62 {
		t.Errorf("%d digits are in use, want 62", len(digits))
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	const id, secret = "key0123456789ab", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
	good := encode(id, secret)
	tests := map[string]struct {
		token string
		want  purser.KeyID
	}{
		"good":                   {good, id},
		"empty":                  {"", ""},
		"prefix only":            {"psr_", ""},
		"other prefix":           {"ghp" + good[3:], ""},
		"id of another kind":     {encode("tea0123456789ab", secret), ""},
		"capital in the id":      {encode("key0123456789aB", secret), ""},
		"underscore in the id":   {encode("key0123456789_b", secret), ""},
		"short secret":           {encode(id, secret[1:]), ""},
		"long secret":            {encode(id, secret+"0"), ""},
		"secret not in base 62":  {encode(id, secret[:42]+"-"), ""},
		"line break in secret":   {encode(id, secret[:42]+"\n"), ""},
		"no ASCII in the secret": {encode(id, secret[:41]+"ä"), ""},
		"wrong checksum":         {good[:len(good)-1] + "!", ""},
		"no checksum":            {good[:len(good)-7], ""},
		"other last separator":   {good[:len(good)-7] + "-" + good[len(good)-6:], ""},
		"changed id":             {strings.Replace(good, "9ab", "9ac", 1), ""},
		"changed secret":         {strings.Replace(good, "efg", "efh", 1), ""},
		"swapped letters":        {strings.Replace(good, "ABC", "BAC", 1), ""},
		"space before":           {" " + good, ""},
		"line break after":       {good + "\n", ""},
		"twice":                  {good + good, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := auth.ParseKey(test.token)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("ParseKey(%q) = %q, %t; want %q", test.token, got, ok, test.want)
			}
		})
	}
}

// The format is in people's hands: no later version may read it otherwise.
func TestKeyFormatStays(t *testing.T) {
	t.Parallel()
	if id, ok := auth.ParseKey(goodKey); !ok || id != "key0123456789ab" {
		t.Errorf("ParseKey(%q) = %q, %t", goodKey, id, ok)
	}
}

func FuzzParseKey(f *testing.F) {
	_, token, _ := auth.NewKey()
	for _, seed := range []string{"", goodKey, token.Expose(), encode("key0123456789ab", strings.Repeat("0", 43))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, ok := auth.ParseKey(token)
		if !ok {
			if id != "" {
				t.Fatalf("ParseKey(%q) refuses, and returns %q", token, id)
			}
			return
		}
		parts := strings.Split(token, "_")
		if len(parts) != 4 || parts[1] != string(id) || encode(parts[1], parts[2]) != token {
			t.Fatalf("ParseKey(%q) = %q, which does not encode back", token, id)
		}
	})
}
