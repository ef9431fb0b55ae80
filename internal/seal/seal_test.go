package seal_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/seal"
)

func bindings() *rapid.Generator[seal.Binding] {
	return rapid.Custom(func(t *rapid.T) seal.Binding {
		return seal.Binding{
			Team:     purser.TeamID(rapid.String().Draw(t, "team")),
			Provider: purser.ProviderID(rapid.String().Draw(t, "provider")),
			Field:    rapid.String().Draw(t, "field"),
			Version:  rapid.Int64().Draw(t, "version"),
		}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	rapid.Check(t, func(t *rapid.T) {
		secret, b := rapid.String().Draw(t, "secret"), bindings().Draw(t, "binding")
		sealed, err := k.Seal(purser.NewSecret(secret), b)
		if err != nil {
			t.Fatal(err)
		}
		if len(secret) > 3 && bytes.Contains(sealed, []byte(secret)) {
			t.Fatalf("%q shows through the seal", secret)
		}
		opened, err := k.Open(sealed, b)
		if err != nil || opened.Expose() != secret {
			t.Fatalf("opened to %q, %v; want %q", opened.Expose(), err, secret)
		}
		if other := bindings().Draw(t, "other"); other != b {
			mustNotOpen(t, k, sealed, other)
		}
	})
}

// fataler is a test or one try of a property.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustNotOpen(t fataler, k *seal.Keyring, sealed []byte, b seal.Binding) {
	t.Helper()
	opened, err := k.Open(sealed, b)
	if purser.KindOf(err) != purser.KindInternal || !opened.IsZero() {
		t.Fatalf("Open in the place %+v = %q, %v; want an internal error and nothing else", b, opened.Expose(), err)
	}
}

// Whoever can write to the database swaps sealed values between teams, providers,
// fields and versions, and moves the borders between the parts of a place.
func TestSecretOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	places := []seal.Binding{
		{Team: "tea1", Provider: "spl1", Field: "secretAccessKey", Version: 1},
		{Team: "tea2", Provider: "spl1", Field: "secretAccessKey", Version: 1},
		{Team: "tea1", Provider: "spl2", Field: "secretAccessKey", Version: 1},
		{Team: "tea1", Provider: "spl1", Field: "accessKey", Version: 1},
		{Team: "tea1", Provider: "spl1", Field: "secretAccessKey", Version: 2},
		{Team: "tea1s", Provider: "pl1", Field: "secretAccessKey", Version: 1},
		{Team: "tea1", Provider: "spl1secret", Field: "AccessKey", Version: 1},
		{Team: "tea1spl1", Field: "secretAccessKey", Version: 1},
		{},
	}
	for i, place := range places {
		sealed, err := k.Seal(purser.NewSecret("canary"), place)
		if err != nil {
			t.Fatal(err)
		}
		for j, other := range places {
			if i != j {
				mustNotOpen(t, k, sealed, other)
			}
		}
	}
}

func TestAnyFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	b := seal.Binding{Team: "tea1", Provider: "spl1", Field: "secretAccessKey", Version: 1}
	sealed, err := k.Seal(purser.NewSecret("canary"), b)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(sealed) {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		mustNotOpen(t, k, flipped, b)
	}
	for length := range sealed {
		mustNotOpen(t, k, sealed[:length], b)
	}
	mustNotOpen(t, k, append(bytes.Clone(sealed), 0), b)
}

func TestSealsOfOneSecretDiffer(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	first, err := k.Seal(purser.NewSecret("canary"), seal.Binding{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := k.Seal(purser.NewSecret("canary"), seal.Binding{})
	if err != nil || bytes.Equal(first, second) {
		t.Errorf("two seals are alike (error %v): they tell who has the same secret", err)
	}
	if got := k.Uses(); got != 2 {
		t.Errorf("Uses = %d, want 2", got)
	}
}

func TestAnswerOpensOnlyForItsTeamAndKey(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	plain := []byte(`{"key":"canary"}`)
	sealed, err := k.SealAnswer("tea1", "key1:a", plain)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := k.OpenAnswer("tea1", "key1:a", sealed); err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("OpenAnswer = %q, %v; want %q", opened, err, plain)
	}
	for _, place := range [][2]string{{"tea2", "key1:a"}, {"tea1", "key1:b"}, {"tea1k", "ey1:a"}, {"", "tea1key1:a"}} {
		if opened, err := k.OpenAnswer(purser.TeamID(place[0]), place[1], sealed); err == nil || opened != nil {
			t.Errorf("the answer opens for %q", place)
		}
	}
	mustNotOpen(t, k, sealed, seal.Binding{Team: "tea1", Field: "key1:a"})
}

func TestMAC(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	mac := k.MAC("cursor", []byte("data"))
	if !k.VerifyMAC("cursor", []byte("data"), mac) {
		t.Error("a MAC does not verify")
	}
	forgeries := map[string]struct {
		purpose, data string
		mac           []byte
	}{
		"other purpose":               {"other", "data", mac},
		"other data":                  {"cursor", "date", mac},
		"purpose moved into the data": {"curso", "rdata", mac},
		"data moved into the purpose": {"cursord", "ata", mac},
		"no purpose":                  {"", "data", mac},
		"empty":                       {"cursor", "data", nil},
		"cut short":                   {"cursor", "data", mac[:16]},
		"longer":                      {"cursor", "data", append(bytes.Clone(mac), 0)},
		"another database's":          {"cursor", "data", newKeyring(t).MAC("cursor", []byte("data"))},
	}
	for name, f := range forgeries {
		if k.VerifyMAC(f.purpose, []byte(f.data), f.mac) {
			t.Errorf("%s: verifies", name)
		}
	}
	for bit := range 8 * len(mac) {
		flipped := bytes.Clone(mac)
		flipped[bit/8] ^= 1 << (bit % 8)
		if k.VerifyMAC("cursor", []byte("data"), flipped) {
			t.Errorf("verifies with bit %d flipped", bit)
		}
	}
}

// FuzzOpen feeds garbage, and real seals with garbage in them, to all that opens.
func FuzzOpen(f *testing.F) {
	k := newKeyring(f)
	b := seal.Binding{Team: "tea1", Provider: "spl1", Field: "secretAccessKey", Version: 1}
	sealed, err := k.Seal(purser.NewSecret("canary"), b)
	if err != nil {
		f.Fatal(err)
	}
	answer, err := k.SealAnswer("tea1", "key1:a", []byte("canary"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{nil, {1}, sealed[:5], sealed[:33], append(bytes.Clone(sealed), 0), bytes.Repeat([]byte{0}, 40), answer[:20]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, garbage []byte) {
		if bytes.Equal(garbage, sealed) || bytes.Equal(garbage, answer) {
			return
		}
		for _, input := range [][]byte{garbage, append(bytes.Clone(sealed[:5]), garbage...)} {
			if bytes.Equal(input, sealed) {
				continue
			}
			mustNotOpen(t, k, input, b)
			if opened, err := k.OpenAnswer("tea1", "key1:a", input); err == nil {
				t.Fatalf("garbage opens to %q", opened)
			}
			if k.VerifyMAC("cursor", garbage, input) {
				t.Fatal("garbage verifies")
			}
		}
	})
}

func BenchmarkMAC(b *testing.B) {
	k, data := newKeyring(b), bytes.Repeat([]byte("x"), 80)
	b.ReportAllocs()
	for b.Loop() {
		k.MAC("cursor", data)
	}
}

func BenchmarkSeal(b *testing.B) {
	k := newKeyring(b)
	secret := purser.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Seal(secret, seal.Binding{Team: "tea1", Provider: "spl1", Field: "secretAccessKey"}); err != nil {
			b.Fatal(err)
		}
	}
}
