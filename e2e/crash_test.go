package e2e

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to check the database's integrity from outside
)

// cycles is how often something is done; a variable of the environment says
// otherwise, for a longer run.
func cycles(t *testing.T, variable string, usually int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usually
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// gone is the name of a provider that is deleted.
const gone = ""

// writer changes providers of its own and remembers what it was told. Nobody
// else touches them, so that after a crash there are at most two states that a
// provider may be in.
type writer struct {
	number int
	random *rand.Rand
	acked  map[string]string // id → name, or gone
	// What was asked for and not answered: a create under a key, or a change of a
	// provider to a name.
	creating, changing, name string
	sequence                 int
	acks                     int
}

// work changes things until the server stops answering.
func (w *writer) work(s *server) error {
	for {
		if err := w.step(s); err != nil {
			return err
		}
		if w.creating != "" || w.changing != "" {
			return nil
		}
	}
}

// step makes one change. It leaves creating or changing set if no answer came.
func (w *writer) step(s *server) error {
	w.sequence++
	w.name = fmt.Sprintf("writer %d change %d", w.number, w.sequence)
	alive := w.alive()
	switch {
	case len(alive) == 0 || w.random.IntN(3) == 0:
		w.creating = fmt.Sprintf("create-%d-%d", w.number, w.sequence)
		return w.create(s)
	case w.random.IntN(4) == 0:
		w.name = gone
	}
	w.changing = alive[w.random.IntN(len(alive))]
	return w.change(s)
}

func (w *writer) alive() (ids []string) {
	for id, name := range w.acked {
		if name != gone {
			ids = append(ids, id)
		}
	}
	return ids
}

func body(name string, update bool) string {
	if update {
		return fmt.Sprintf(`{"name":%q,"isTeamDefault":true,"s3Config":{"accessKey":"AKIA","bucket":"training"}}`, name)
	}
	return fmt.Sprintf(`{"name":%q,"storageProviderType":"s3","s3Config":{"accessKey":"AKIA","bucket":"training","secretAccessKey":"s3cret"}}`, name)
}

func (w *writer) create(s *server) error {
	a, err := request(s.URL+"/v1/storage-providers", s.Key, "POST", body(w.name, false), "Idempotency-Key: "+w.creating)
	if err != nil {
		return nil //nolint:nilerr // no answer: it may have happened or not
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("create: %d %s", a.Status, a.Body)
	}
	id := strings.Split(string(a.Body), `"id":"`)[1][:15]
	w.acked[id], w.creating = w.name, ""
	w.acks++
	return nil
}

func (w *writer) change(s *server) error {
	method, content := "PUT", body(w.name, true)
	if w.name == gone {
		method, content = "DELETE", ""
	}
	a, err := request(s.URL+"/v1/storage-providers/"+w.changing, s.Key, method, content)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("%s %s: %d %s", method, w.changing, a.Status, a.Body)
	}
	w.acked[w.changing], w.changing = w.name, ""
	w.acks++
	return nil
}

// settle finds out after a crash what became of the change without an answer. A
// create is tried again under its key: it must not happen twice.
func (w *writer) settle(t *testing.T, s *server) {
	t.Helper()
	if w.creating != "" {
		if err := w.create(s); err != nil || w.creating != "" {
			t.Fatalf("the retry of a create: %v", err)
		}
	}
	if w.changing == "" {
		return
	}
	switch name := nameOf(t, s, w.changing); name {
	case w.name, w.acked[w.changing]:
		w.acked[w.changing], w.changing = name, ""
	default:
		t.Errorf("%s is called %q; it was %q and should have become %q", w.changing, name, w.acked[w.changing], w.name)
	}
}

// nameOf returns what a provider is called, or gone.
func nameOf(t *testing.T, s *server, id string) string {
	t.Helper()
	a := s.do(t, "GET", "/storage-providers/"+id, "")
	if a.Status == http.StatusNotFound {
		return gone
	}
	return a.object(t)["name"].(string)
}

// TestKilledAtRandomMoments kills the server again and again while it is being
// written to, as a power cut would, and proves that nothing it acknowledged is
// lost, that nothing is there by half, and that nothing happened twice.
func TestKilledAtRandomMoments(t *testing.T) {
	cycles, random := cycles(t, "PURSER_CRASH_CYCLES", 100), rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	s := start(t, options{})
	writers := make([]*writer, 8)
	for i := range writers {
		writers[i] = &writer{number: i, random: rand.New(rand.NewPCG(uint64(i), 1)), acked: map[string]string{}}
	}
	for range cycles {
		crash(t, s, writers, time.Duration(random.IntN(400))*time.Millisecond)
		s = s.restart(t)
		for _, w := range writers {
			w.settle(t, s)
		}
		if t.Failed() {
			return
		}
	}
	acks := 0
	expected := map[string]string{}
	for _, w := range writers {
		acks += w.acks
		for id, name := range w.acked {
			expected[id] = name
		}
	}
	checkProviders(t, s, expected)
	checkRecorded(t, s, expected)
	s.stop(t)
	checkIntegrity(t, filepath.Join(s.Dir, "purser.db"))
	t.Logf("%d kills, %d acknowledged changes, %d providers made: nothing lost", cycles, acks, len(expected))
}

// crash lets the writers work for a while and kills the server.
func crash(t *testing.T, s *server, writers []*writer, after time.Duration) {
	t.Helper()
	var working sync.WaitGroup
	for _, w := range writers {
		working.Go(func() {
			if err := w.work(s); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(after) // the moment is what is random
	s.kill()
	working.Wait()
}

// checkProviders compares all that is there with what must be.
func checkProviders(t *testing.T, s *server, expected map[string]string) {
	t.Helper()
	defaults, seen := 0, map[string]bool{}
	eachItem(t, s, "/storage-providers?limit=120", func(p map[string]any) {
		id := p["id"].(string)
		seen[id] = true
		if expected[id] != p["name"] {
			t.Errorf("%s is called %v, want %q", id, p["name"], expected[id])
		}
		if p["isTeamDefault"] == true {
			defaults++
		}
		// Whole or not at all: its bucket is known to the metering too.
		if a := s.do(t, "GET", "/storage-providers/"+id+"/utilization", ""); a.Status != http.StatusOK {
			t.Errorf("%s is there by half: %d %s", id, a.Status, a.Body)
		}
	})
	if defaults > 1 {
		t.Errorf("%d providers are the team's default", defaults)
	}
	for id, name := range expected {
		if name != gone && !seen[id] {
			t.Errorf("%s, which was acknowledged, is lost", id)
		}
	}
}

// checkRecorded proves that every provider's creation is in the audit record
// exactly once: record and change are one transaction.
func checkRecorded(t *testing.T, s *server, expected map[string]string) {
	t.Helper()
	created := map[string]int{}
	eachItem(t, s, "/audit-events?limit=120", func(e map[string]any) {
		if e["action"] == "provider.create" {
			created[e["target"].(string)]++
		}
	})
	for id := range expected {
		if created[id] != 1 {
			t.Errorf("the creation of %s was recorded %d times", id, created[id])
		}
	}
	if len(created) != len(expected) {
		t.Errorf("%d creations were recorded, %d are known", len(created), len(expected))
	}
}

// checkIntegrity has SQLite look for damage.
func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var result string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		t.Errorf("integrity_check: %q, %v", result, err)
	}
}
