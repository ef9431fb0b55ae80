package purser_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/purserhq/purser"
)

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const value = "wJalrXUtnFEMI"
	type holder struct {
		Secret  purser.Secret
		Pointer *purser.Secret
		List    []purser.Secret
	}
	secret := purser.NewSecret(value)
	h := holder{secret, &secret, []purser.Secret{secret}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T%v"} {
		_, _ = fmt.Fprintf(&out, verb+"\n", secret, secret)
		_, _ = fmt.Fprintf(&out, verb+"\n", h, h)
	}
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"k": secret}); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewEncoder(&out).Encode(secret); err != nil {
		t.Fatal(err)
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("m", "secret", secret, "holder", h, "pointer", &secret)
	}
	_, _ = fmt.Fprintln(&out, fmt.Errorf("wrapped: %w, %v", errors.New("x"), secret))
	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret was printed as %q", form)
		}
	}
	if got := secret.Expose(); got != value {
		t.Errorf("Expose = %q", got)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		for prefix, id := range map[string]string{
			"tea": string(purser.NewTeamID()), "spl": string(purser.NewProviderID()), "key": string(purser.NewKeyID()),
			"src": string(purser.NewSourceID()), "scn": string(purser.NewScanID()), "evt": string(purser.NewEventID()),
		} {
			if !purser.ValidID(id) || !strings.HasPrefix(id, prefix) || seen[id] {
				t.Fatalf("%q is malformed or a repetition", id)
			}
			seen[id] = true
		}
	}
	for _, id := range []string{"", "utilization", "spl", "splgct3arqdh77", "splgct3arqdh77cc", "SPLgct3arqdh77c", "splgct3arqdh77/", "splgct3arqdh77c\n"} {
		if purser.ValidID(id) {
			t.Errorf("ValidID(%q)", id)
		}
	}
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]purser.Bytes{
		"0": 0, "1048576": 1 << 20, "5GiB": 5 << 30, "5 GiB": 5 << 30, "500MB": 500e6, "1.5KiB": 1536, "10B": 10,
		"1kB": 1000, "7EiB": 7 << 60, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := purser.ParseBytes(in); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-1", "5 Gigs", "1e9", "8EiB", "9223372036854775808", "iB", "5iB", "0x10", "١"} {
		if got, err := purser.ParseBytes(in); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", in, got)
		}
	}
	for in, want := range map[purser.Bytes]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", math.MaxInt64: "8.0 EiB"} {
		if got := in.Human(); got != want {
			t.Errorf("Human(%d) = %q, want %q", in, got, want)
		}
	}
}

func TestUtilizationArithmetic(t *testing.T) {
	t.Parallel()
	u := purser.Utilization{Usage: purser.Usage{Dataset: 1, Model: 2, NotebookWorkspace: 4, SharedStorage: 8}, TotalFreeStorage: 20}
	if u.Total() != 15 || u.RemainingFreeStorage() != 5 {
		t.Errorf("total %d, remaining %d", u.Total(), u.RemainingFreeStorage())
	}
	u.TotalFreeStorage = 10
	if u.RemainingFreeStorage() != 0 {
		t.Errorf("remaining is %d, want 0 and never less", u.RemainingFreeStorage())
	}
	u.Dataset, u.Model = math.MaxInt64, 1
	if u.Total() != math.MaxInt64 {
		t.Errorf("total is %d, want the largest number rather than a wrapped one", u.Total())
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	invalid := purser.Invalid("p.F", purser.Faults{"/s3Config/bucket": "is required", "/name": "must not be empty", "": "is required"})
	var e *purser.Error
	if !errors.As(invalid, &e) || e.Message != "body: is required; name: must not be empty; s3Config.bucket: is required" {
		t.Errorf("the message is %v", invalid)
	}
	if purser.Invalid("p.F", nil) != nil {
		t.Error("no faults are no error")
	}
	wrapped := purser.Wrap("q.G", purser.NotFound("p.F", "scan"))
	if purser.KindOf(wrapped) != purser.KindNotFound || !errors.As(wrapped, &e) || e.Message != "No scan with this id exists in your team." || e.Op != "q.G" {
		t.Errorf("wrapping lost something: %+v", e)
	}
	if purser.KindOf(fmt.Errorf("x: %w", io.EOF)) != purser.KindInternal || purser.KindOf(nil) != "" || purser.Wrap("p", nil) != nil {
		t.Error("an error of elsewhere is internal, none is none")
	}
	if internal := purser.Wrap("p.F", io.EOF); !errors.As(internal, &e) || e.Message != "" || !errors.Is(internal, io.EOF) {
		t.Errorf("an internal error keeps its cause and has no words for people: %+v", e)
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, seed := range []string{"5GiB", "0", "9223372036854775807", "1.999EB", "-", "5 iB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := purser.ParseBytes(s)
		if err != nil {
			return
		}
		if n < 0 {
			t.Errorf("ParseBytes(%q) = %d", s, n)
		}
		if again, err := purser.ParseBytes(n.String()); err != nil || again != n {
			t.Errorf("%d does not survive its own text: %d, %v", n, again, err)
		}
	})
}
