package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/seal"
)

// memory keeps keysets in memory, the first of each name, as the store does. The
// store itself stays out of this package: fuzzing would have to instrument all of
// SQLite.
type memory struct {
	mu      sync.Mutex
	keysets map[string][]byte
	creates int
	// failAt is the number of the creation that fails; 0 for none.
	failAt int
}

var errDown = purser.Errorf(purser.KindUnavailable, "store", "Try again.")

func (m *memory) LoadKeyset(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keysets[name], nil
}

func (m *memory) CreateKeyset(_ context.Context, name string, wrapped []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.creates++; m.creates == m.failAt {
		return nil, errDown
	}
	if m.keysets == nil {
		m.keysets = make(map[string][]byte)
	}
	if m.keysets[name] == nil {
		m.keysets[name] = wrapped
	}
	return m.keysets[name], nil
}

// setup is a database and a place for a key file.
type setup struct {
	keysets *memory
	path    string
	log     *syncBuffer
}

// syncBuffer is a log that several starts may write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newSetup(t testing.TB) *setup {
	return &setup{keysets: &memory{}, path: filepath.Join(t.TempDir(), "seal.key"), log: &syncBuffer{}}
}

func (s *setup) open(ctx context.Context) (*seal.Keyring, error) {
	logger := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return seal.Open(ctx, seal.Options{Keysets: s.keysets, KeyFile: s.path, Logger: logger})
}

func (s *setup) mustOpen(t testing.TB) *seal.Keyring {
	t.Helper()
	k, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeyring(t testing.TB) *seal.Keyring {
	t.Helper()
	return newSetup(t).mustOpen(t)
}

var place = seal.Binding{Team: "tea1", Provider: "spl1", Field: "secretAccessKey", Version: 1}

// mustAgree checks that what one keyring seals and authenticates the other opens
// and verifies.
func mustAgree(t *testing.T, a, b *seal.Keyring) {
	t.Helper()
	sealed, err := a.Seal(purser.NewSecret("canary"), place)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := b.Open(sealed, place); err != nil || opened.Expose() != "canary" {
		t.Errorf("the other keyring opens to %q, %v", opened.Expose(), err)
	}
	if !b.VerifyMAC("cursor", []byte("data"), a.MAC("cursor", []byte("data"))) {
		t.Error("the other keyring does not verify a MAC")
	}
}

// mustNotTell checks that text holds the key of a key file in no usual spelling.
func mustNotTell(t *testing.T, text string, keyFile []byte) {
	t.Helper()
	_, encoded, _ := strings.Cut(strings.TrimSpace(string(keyFile)), ":")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) != 32 {
		t.Fatalf("the key file is not what it should be (error %v)", err)
	}
	for _, spelling := range []string{
		string(key), encoded, encoded[:12], base64.URLEncoding.EncodeToString(key), hex.EncodeToString(key), hex.EncodeToString(key[:6]),
	} {
		if strings.Contains(text, spelling) {
			t.Errorf("the key is told: %q", text)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFirstStartMakesTheKeyFile(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.path = filepath.Join(filepath.Dir(s.path), "new", "seal.key")
	first := s.mustOpen(t)

	info, err := os.Stat(s.path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("the key file has mode %v (error %v), want 0600", info.Mode(), err)
	}
	log := s.log.String()
	if strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "back it up") || !strings.Contains(log, s.path) {
		t.Errorf("the log of the first start is %q, want one warning to back up the file, and its path", log)
	}
	mustNotTell(t, log, mustRead(t, s.path))
	if entries, err := os.ReadDir(filepath.Dir(s.path)); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (error %v), want the key file alone", entries, err)
	}

	mustAgree(t, first, s.mustOpen(t))
	if s.log.String() != log {
		t.Error("the second start warned again")
	}
}

func TestWhatTheDatabaseHoldsIsWrapped(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	k := s.mustOpen(t)
	sealed, err := k.Seal(purser.NewSecret("canary"), place)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"data", "mac", "check"}
	if len(s.keysets.keysets) != len(names) {
		t.Fatalf("the database holds %d keysets, want %d", len(s.keysets.keysets), len(names))
	}
	for _, name := range names {
		mustNotTell(t, string(s.keysets.keysets[name]), mustRead(t, s.path))
	}
	// The same records under another key are worth nothing.
	thief := newSetup(t)
	thief.mustOpen(t)
	thief.keysets = s.keysets
	if _, err := thief.open(t.Context()); err == nil {
		t.Error("the keysets open with another key")
	}
	if opened, err := newKeyring(t).Open(sealed, place); err == nil {
		t.Errorf("another database opens to %q", opened.Expose())
	}
}

func TestKeyFileWithoutLineBreak(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	first := s.mustOpen(t)
	write(t, s.path, bytes.TrimSuffix(mustRead(t, s.path), []byte("\n")))
	mustAgree(t, first, s.mustOpen(t))
}

func TestKeyFileBehindASymbolicLink(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	first := s.mustOpen(t)
	link := s.path + ".link"
	if err := os.Symlink(s.path, link); err != nil {
		t.Fatal(err)
	}
	s.path = link
	mustAgree(t, first, s.mustOpen(t))
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A start that was cut off anywhere is completed by the next one.
func TestInterruptedFirstStart(t *testing.T) {
	t.Parallel()
	for failAt := 1; failAt <= 3; failAt++ {
		s := newSetup(t)
		s.keysets.failAt = failAt
		if _, err := s.open(t.Context()); purser.KindOf(err) != purser.KindUnavailable || !errors.Is(err, errDown) {
			t.Fatalf("start with a failing database = %v, want its error", err)
		}
		mustAgree(t, s.mustOpen(t), s.mustOpen(t))
	}
}

func TestFaultsStopTheStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// spoil gets a database that has been started, with its key file.
		spoil func(t *testing.T, s *setup)
		want  string // after "the key file PATH "
	}{
		"missing": {
			spoil: func(t *testing.T, s *setup) { remove(t, s.path) },
			want:  "is missing, and the secrets in the database cannot be opened without it; restore it from your backup",
		},
		"missing, with only part of the keysets": {
			spoil: func(t *testing.T, s *setup) { remove(t, s.path); delete(s.keysets.keysets, "check") },
			want:  "is missing",
		},
		"readable by group":   {spoil: mode(0o640), want: "can be read or changed by other users; run: chmod 600 "},
		"readable by all":     {spoil: mode(0o644), want: "can be read or changed by other users; run: chmod 600 "},
		"writable by others":  {spoil: mode(0o602), want: "can be read or changed by other users; run: chmod 600 "},
		"executable by group": {spoil: mode(0o610), want: "can be read or changed by other users; run: chmod 600 "},
		"directory": {
			spoil: func(t *testing.T, s *setup) {
				remove(t, s.path)
				if err := os.Mkdir(s.path, 0o700); err != nil {
					t.Fatal(err)
				}
			},
			want: "is not a regular file",
		},
		"pipe": {
			spoil: func(t *testing.T, s *setup) {
				remove(t, s.path)
				if err := syscall.Mkfifo(s.path, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "is not a regular file",
		},
		"below a file": {
			spoil: func(_ *testing.T, s *setup) { s.path += "/seal.key" },
			want:  "cannot be read: not a directory",
		},
		"empty": {spoil: rewrite(func([]byte) []byte { return nil }), want: "does not hold a whole key"},
		"half-written": {
			spoil: rewrite(func(text []byte) []byte { return text[:len(text)/2] }),
			want:  "does not hold a whole key",
		},
		"one character short": {
			spoil: rewrite(func(text []byte) []byte { return text[:len(text)-2] }),
			want:  "does not hold a whole key",
		},
		"longer": {
			spoil: rewrite(func(text []byte) []byte { return append(bytes.TrimSpace(text), "AAAA"...) }),
			want:  "does not hold a whole key",
		},
		"two line breaks": {
			spoil: rewrite(func(text []byte) []byte { return append(text, '\n') }),
			want:  "does not hold a whole key",
		},
		"line break inside": {
			spoil: rewrite(func(text []byte) []byte { return append(append(bytes.Clone(text[:40]), '\n'), text[40:]...) }),
			want:  "does not hold a whole key",
		},
		"key without prefix": {
			spoil: rewrite(func(text []byte) []byte { return text[bytes.IndexByte(text, ':')+1:] }),
			want:  "does not hold a whole key",
		},
		"garbage": {
			spoil: rewrite(func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 1<<20) }),
			want:  "does not hold a whole key",
		},
		"newer format": {
			spoil: rewrite(func(text []byte) []byte { return bytes.Replace(text, []byte("v1:"), []byte("v2:"), 1) }),
			want:  "has a format that this version of purser does not know",
		},
		"another database's": {
			spoil: func(t *testing.T, s *setup) {
				other := newSetup(t)
				other.mustOpen(t)
				write(t, s.path, mustRead(t, other.path))
			},
			want: "does not belong to this database; restore the right one from your backup",
		},
		"another database's, after an interrupted first start": {
			spoil: func(t *testing.T, s *setup) {
				delete(s.keysets.keysets, "check")
				other := newSetup(t)
				other.mustOpen(t)
				write(t, s.path, mustRead(t, other.path))
			},
			want: "does not belong to this database",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.mustOpen(t)
			keyFile := mustRead(t, s.path)
			test.spoil(t, s)
			left := maps.Clone(s.keysets.keysets)

			k, err := s.open(t.Context())
			var e *purser.Error
			if k != nil || !errors.As(err, &e) || e.Kind != purser.KindUnavailable || e.Op != "seal.Open" {
				t.Fatalf("Open = %v, %v; want an error that stops the start", k, err)
			}
			if want := "the key file " + s.path + " " + test.want; !strings.HasPrefix(e.Message, want) {
				t.Errorf("the message is %q, want it to begin with %q", e.Message, want)
			}
			mustNotTell(t, err.Error()+s.log.String(), keyFile)
			if !maps.EqualFunc(s.keysets.keysets, left, bytes.Equal) {
				t.Error("the failed start changed the database")
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func mode(m fs.FileMode) func(*testing.T, *setup) {
	return func(t *testing.T, s *setup) {
		t.Helper()
		if err := os.Chmod(s.path, m); err != nil {
			t.Fatal(err)
		}
	}
}

func rewrite(change func([]byte) []byte) func(*testing.T, *setup) {
	return func(t *testing.T, s *setup) {
		t.Helper()
		write(t, s.path, change(mustRead(t, s.path)))
	}
}

func TestDamagedDatabaseStopsTheStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(keysets map[string][]byte)
		want  string
	}{
		"data keyset gone": {func(k map[string][]byte) { delete(k, "data") }, "the database lacks a part of its keys (data); restore it"},
		"MAC key gone":     {func(k map[string][]byte) { delete(k, "mac") }, "the database lacks a part of its keys (mac); restore it"},
		"data keyset cut":  {func(k map[string][]byte) { k["data"] = k["data"][:9] }, "the keys in the database are damaged (data); restore it"},
		"MAC key changed":  {func(k map[string][]byte) { k["mac"][20] ^= 1 }, "the keys in the database are damaged (mac); restore it"},
		"MAC key swapped with the check": {
			func(k map[string][]byte) { k["mac"] = k["check"] }, "the keys in the database are damaged (mac); restore it",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.mustOpen(t)
			test.spoil(s.keysets.keysets)
			_, err := s.open(t.Context())
			var e *purser.Error
			if !errors.As(err, &e) || e.Kind != purser.KindUnavailable || !strings.HasPrefix(e.Message, test.want) {
				t.Errorf("Open = %v, want %q", err, test.want)
			}
		})
	}
}

func TestNoPlaceForTheKeyFile(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/nonexistent/seal.key", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/dev/null/seal.key":           "cannot be read: not a directory",
		"/proc/not-a-process/seal.key": "cannot be made: no such file or directory; name a place for it with --seal-key-file",
		link:                           "cannot be read: no such file or directory",
	} {
		s := newSetup(t)
		s.path = path
		_, err := s.open(t.Context())
		if err == nil || !strings.HasSuffix(err.Error(), "the key file "+path+" "+want) {
			t.Errorf("Open = %v, want %q", err, want)
		}
		if len(s.keysets.keysets) != 0 {
			t.Error("keys were stored that no file can open")
		}
	}
}

// starts opens all setups at once.
func starts(t *testing.T, setups []*setup) ([]*seal.Keyring, []error) {
	t.Helper()
	keyrings, errs := make([]*seal.Keyring, len(setups)), make([]error, len(setups))
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i, s := range setups {
		wg.Go(func() {
			<-begin
			keyrings[i], errs[i] = s.open(t.Context())
		})
	}
	close(begin)
	wg.Wait()
	return keyrings, errs
}

func TestConcurrentFirstStartsWithOneKeyFileAgree(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := newSetup(t)
		keyrings, errs := starts(t, []*setup{s, s, s, s})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for _, k := range keyrings[1:] {
			mustAgree(t, keyrings[0], k)
		}
		if n := strings.Count(s.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d starts made the key file, want 1", n)
		}
	}
}

// Nodes that share a database but no directory: one wins, and the others say what
// to do and leave no key file behind that opens nothing.
func TestConcurrentFirstStartsWithOwnKeyFiles(t *testing.T) {
	t.Parallel()
	for range 20 {
		first, second := newSetup(t), newSetup(t)
		second.keysets = first.keysets
		both := []*setup{first, second}
		keyrings, errs := starts(t, both)
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		loser := both[1-winner]
		if errs[winner] != nil || keyrings[1-winner] != nil {
			t.Fatalf("errors are %v, want exactly one", errs)
		}
		if err := errs[1-winner]; !strings.Contains(err.Error(), loser.path) {
			t.Errorf("the loser says %v, want where to put the key file", err)
		}
		if _, err := os.Stat(loser.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the loser's key file is still there (%v)", err)
		}
		write(t, loser.path, mustRead(t, both[winner].path))
		mustAgree(t, keyrings[winner], loser.mustOpen(t))
	}
}
