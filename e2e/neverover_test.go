package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to see and hold locks of the servers from outside

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

// The tests in this file prove that figures are never over and never under: two
// servers count one bucket together, one of them is killed or put to sleep
// meanwhile, and what the other publishes is the truth to the byte. The bucket
// holds something else each time, so that no older figure passes for a new one.

// contents is what a bucket holds for the team.
type contents struct {
	truth
	objects map[string]int64 // by category, as truth
}

// makeBucket makes a bucket of some 40,000 keys, and some that are not the
// team's. It takes two servers several seconds to list.
func makeBucket(t *testing.T, team string, random *rand.Rand) (*canned.Bucket, contents) {
	t.Helper()
	holds := contents{truth{}, map[string]int64{}}
	folders := []struct{ category, prefix string }{
		{"datasetUsage", "datasets/"},
		{"modelUsage", "models/"},
		{"notebookWorkspaceUsage", "notebooks/"},
		{"sharedStorageUsage", "exports/"},
		{"sharedStorageUsage", "datasets-old/"}, // begins like a category, and is none
	}
	objects := []canned.Object{{Key: "elsewhere/x", Size: 999}, {Key: team + "x/y", Size: 999}}
	for i := range 35_000 + random.IntN(10_000) {
		folder, size := folders[random.IntN(len(folders))], random.Int64N(1<<30)
		key := fmt.Sprintf("%s/%s%08x/%s-%d", team, folder.prefix, random.Uint32(), oddNames[i%len(oddNames)], i)
		objects = append(objects, canned.Object{Key: key, Size: size})
		holds.truth[folder.category] += size
		holds.objects[folder.category]++
	}
	bucket, err := canned.New(canned.Of(objects...), canned.Options{PageSize: 40})
	check(t, err)
	return bucket, holds
}

// duo is two servers, and a bucket that they count together.
type duo struct {
	servers  [2]*server
	team     string
	provider string
	random   *rand.Rand
	bucket   atomic.Pointer[canned.Bucket]
	holds    contents
	was      contents // what is published until a scan has counted what the bucket holds
}

func startDuo(t *testing.T, seed uint64) *duo {
	t.Helper()
	t.Logf("seed %d", seed)
	d := &duo{random: rand.New(rand.NewPCG(seed, 0))}
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(100 * time.Millisecond) // as a busy store far away would
		d.bucket.Load().ServeHTTP(w, r)
	}))
	t.Cleanup(store.Close)
	d.servers[0], d.servers[1] = startPair(t, "--egress-allow", "127.0.0.1/32", "--scan-interval", "24h")
	d.team = teamOf(t, d.servers[0], d.servers[0].Key)
	d.refill(t)
	keys := &s3servertest.Server{AccessKey: "AK", Secret: purser.NewSecret("secret")}
	d.provider = register(t, d.servers[0], keys, "bench", store.URL)
	return d
}

// refill has the bucket hold something else.
func (d *duo) refill(t *testing.T) {
	t.Helper()
	d.was = d.holds
	var bucket *canned.Bucket
	bucket, d.holds = makeBucket(t, d.team, d.random)
	d.bucket.Store(bucket)
}

func (d *duo) scan(t *testing.T, s *server, id string) (state string, objects int64) {
	t.Helper()
	scan := s.must(t, "GET", "/scans/"+id, "")
	return scan["state"].(string), int64(scan["objects"].(float64))
}

// begin starts a scan and returns it in the middle: at a moment of chance, when
// both servers work on it, or late, when one of them does. victim is one that does.
func (d *duo) begin(t *testing.T) (id string, victim int, shared bool) {
	t.Helper()
	s := d.servers[0]
	id = s.must(t, "POST", "/scans", `{"providerId":"`+d.provider+`"}`)["id"].(string)
	time.Sleep(time.Duration(d.random.IntN(3000)) * time.Millisecond) // the moment is what is random
	eventually(t, time.Minute, "half of it is counted, or it is shared", func() bool {
		_, objects := d.scan(t, s, id)
		first, second := working(t, d.servers[0]) > 0, working(t, d.servers[1]) > 0
		shared = first && second
		if victim = d.random.IntN(2); !shared && second {
			victim = 1
		} else if !shared {
			victim = 0
		}
		return shared || objects > d.holds.count()/2 && (first || second)
	})
	return id, victim, shared
}

// takesPart has a server work on a scan, and proves that the figures are exact
// with it. Which of the two takes up a scan is chance, so it is tried until it does.
func (d *duo) takesPart(t *testing.T, s *server) {
	t.Helper()
	for range 30 {
		eventually(t, 10*time.Second, "work on the scan before has ended", func() bool {
			return working(t, d.servers[0])+working(t, d.servers[1]) == 0
		})
		id := s.must(t, "POST", "/scans", `{"providerId":"`+d.provider+`"}`)["id"].(string)
		for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if working(t, s) > 0 {
				d.follow(t, s, id, 0)
				d.expect(t, s, id)
				return
			}
		}
		s.must(t, "DELETE", "/scans/"+id, "") // the other has it
	}
	t.Error("the server works no more")
}

// follow looks at a scan through a server until it is done, and returns the
// longest time that passed without progress. It must not be longer than a minute,
// nothing that was counted may be taken back, and nothing is published before all
// is counted.
func (d *duo) follow(t *testing.T, s *server, id string, counted int64) (silence time.Duration) {
	t.Helper()
	for last := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		state, objects := d.scan(t, s, id)
		total := s.must(t, "GET", "/storage-providers/utilization", "")["totalUsage"]
		if was, is := strconv.FormatInt(d.was.total(), 10), strconv.FormatInt(d.holds.total(), 10); total != was && total != is {
			t.Fatalf("published is %v; it was %s and should become %s", total, was, is)
		}
		if state != "running" && state != "done" || objects < counted {
			t.Fatalf("the scan is %s; %d objects were counted, and %d before", state, objects, counted)
		}
		if objects > counted || state == "done" {
			silence, last, counted = max(silence, time.Since(last)), time.Now(), objects
		}
		if state == "done" {
			return silence
		}
		if time.Since(last) > time.Minute {
			t.Fatalf("the work does not go on; %d objects were counted", counted)
		}
	}
}

// expect fails the test unless what a server answers is the truth, and comes
// from the scan.
func (d *duo) expect(t *testing.T, s *server, id string) {
	t.Helper()
	d.holds.expect(t, s, "complete")
	scan, usage := s.must(t, "GET", "/scans/"+id, ""), s.must(t, "GET", "/storage-providers/"+d.provider+"/utilization", "")
	objects := int64(0)
	for category, want := range d.holds.objects {
		got := usage[strings.TrimSuffix(category, "Usage")].(map[string]any)["objects"]
		if got != float64(want) {
			t.Errorf("%s has %v objects, the truth is %d", category, got, want)
		}
		objects += want
	}
	if scan["objects"] != float64(objects) || scan["bytes"] != strconv.FormatInt(d.holds.total(), 10) || scan["error"] != nil {
		t.Errorf("%v; the truth is %d objects, %d bytes", scan, objects, d.holds.total())
	}
	expectFolders(t, s, d.provider, d.holds.truth)
	if usage["measuredAt"] != scan["finishedAt"] {
		t.Errorf("the figures are of %v, the scan ended at %v", usage["measuredAt"], scan["finishedAt"])
	}
}

// published is all that a server says of a scan and its figures.
func (d *duo) published(t *testing.T, s *server, id string) string {
	t.Helper()
	usage := s.must(t, "GET", "/storage-providers/"+d.provider+"/utilization", "")
	scan := s.must(t, "GET", "/scans/"+id, "")
	delete(usage, "staleSeconds") // it grows
	for _, answer := range []map[string]any{usage, scan} {
		delete(answer, "requestBudget") // requests that came to nothing were sent all the same
	}
	text, err := json.Marshal([]any{scan, usage, s.must(t, "GET", "/storage-providers/utilization", "")})
	check(t, err)
	return string(text)
}

// eachDuo spreads cycles over servers of their own. They mostly wait, so all run
// at once, however many tests may run in parallel.
func eachDuo(t *testing.T, cycles int, run func(t *testing.T, d *duo, cycles int)) {
	t.Helper()
	const most = 5
	seed, duos := uint64(time.Now().UnixNano()), min(cycles, most)
	var running sync.WaitGroup
	for i := range duos {
		running.Go(func() {
			t.Run(fmt.Sprintf("duo %d", i), func(t *testing.T) {
				run(t, startDuo(t, seed+uint64(i)), (cycles+i)/duos)
			})
		})
	}
	running.Wait()
}

// figures are collected from several tests at once.
type figures struct {
	mu       sync.Mutex
	silences []time.Duration
	shared   int
	ended    map[string]int // slices of servers that slept, by what became of them
}

func (f *figures) add(silence time.Duration, shared bool, ended map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if shared {
		f.shared++
	}
	f.silences = append(f.silences, silence)
	for outcome, n := range ended {
		f.ended[outcome] += n
	}
}

func (f *figures) String() string {
	if len(f.silences) == 0 {
		return "nothing was measured"
	}
	slices.Sort(f.silences)
	n := len(f.silences)
	return fmt.Sprintf("%d times exact, %d of them shared; no progress for %s at the least, %s in the median, %s at the most", n, f.shared,
		f.silences[0].Round(time.Millisecond), f.silences[n/2].Round(time.Millisecond), f.silences[n-1].Round(time.Millisecond))
}

// TestANodeIsKilled kills one of two servers in the middle of a scan that they
// share, again and again; PURSER_KILL_CYCLES says how often.
func TestANodeIsKilled(t *testing.T) {
	t.Parallel()
	var all figures
	eachDuo(t, cycles(t, "PURSER_KILL_CYCLES", 2), func(t *testing.T, d *duo, cycles int) {
		for range cycles {
			id, victim, shared := d.begin(t)
			dead, alive := d.servers[victim], d.servers[1-victim]
			_, counted := d.scan(t, alive, id)
			dead.kill()
			silence := d.follow(t, alive, id, counted)
			d.expect(t, alive, id)
			d.servers[victim] = dead.restart(t)
			d.servers[victim].Key = alive.Key
			d.expect(t, d.servers[victim], id)
			if t.Failed() {
				return
			}
			t.Logf("server %d was killed when %d of %d objects were counted, shared: %t; no progress for %s", victim, counted, d.holds.count(), shared, silence)
			all.add(silence, shared, nil)
			d.refill(t)
		}
	})
	t.Log(&all)
}

func (c contents) count() (n int64) {
	for _, objects := range c.objects {
		n += objects
	}
	return n
}

// TestANodeSleeps stops one of two servers in the middle of a scan that they
// share, as when its machine is frozen, and wakes it up when the other has long
// published; PURSER_SLEEP_CYCLES says how often, and PURSER_SLEEP for how long at
// least. Every other time it falls asleep in a transaction, holding the locks that
// the other needs.
func TestANodeSleeps(t *testing.T) {
	t.Parallel()
	length := 12 * time.Second // longer than a lease
	if text := os.Getenv("PURSER_SLEEP"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		check(t, err)
	}
	all := figures{ended: map[string]int{}}
	var turn atomic.Int64
	eachDuo(t, cycles(t, "PURSER_SLEEP_CYCLES", 2), func(t *testing.T, d *duo, cycles int) {
		db, err := sql.Open("pgx", d.servers[0].opts.database)
		check(t, err)
		defer func() { _ = db.Close() }()
		for range cycles {
			id, victim, shared := d.begin(t)
			how := "anywhere"
			before := [2]map[string]int{worked(t, d.servers[0]), worked(t, d.servers[1])}
			if turn.Add(1)%2 == 0 {
				victim, how = d.stopInTransaction(t, db, id), "in a transaction"
			} else {
				signal(t, d.servers[victim], syscall.SIGSTOP)
			}
			asleep := time.Now()
			sleeper, awake := d.servers[victim], d.servers[1-victim]
			_, counted := d.scan(t, awake, id)
			silence := d.follow(t, awake, id, counted)
			d.expect(t, awake, id)
			published := d.published(t, awake, id)
			time.Sleep(time.Until(asleep.Add(length))) // it is to sleep that long

			signal(t, sleeper, syscall.SIGCONT)
			eventually(t, time.Minute, "the server that slept has dropped its work", func() bool { return working(t, sleeper) == 0 })
			ended := worked(t, sleeper)
			for outcome, n := range before[victim] {
				ended[outcome] -= n
			}
			for _, s := range d.servers {
				if now := d.published(t, s, id); now != published {
					t.Errorf("a server that woke up changed what was published from\n%s to\n%s", published, now)
				}
			}
			if t.Failed() {
				return
			}
			t.Logf("server %d fell asleep %s when %d of %d objects were counted, shared: %t; no progress for %s; what became of its work: %v",
				victim, how, counted, d.holds.count(), shared, silence, ended)
			all.add(silence, shared, ended)
			d.refill(t)
			d.takesPart(t, sleeper)
			d.refill(t)
		}
	})
	t.Logf("%s; what became of the work of those who slept: %v", &all, all.ended)
	if !t.Failed() && all.ended["lost"]+all.ended["abandoned"] == 0 {
		t.Error("nobody who slept had work to lose")
	}
}

// stopInTransaction stops the server that is the next to save what it has
// counted, between two statements of the transaction in which it does.
func (d *duo) stopInTransaction(t *testing.T, db *sql.DB, id string) (victim int) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	check(t, err)
	defer func() { _ = tx.Rollback() }()
	var own, pid int
	check(t, tx.QueryRowContext(t.Context(), "SELECT pg_backend_pid() FROM scans WHERE id = $1 FOR UPDATE", id).Scan(&own))
	var name string
	eventually(t, 20*time.Second, "a server waits for the scan's row", func() bool {
		const waiting = "SELECT pid, application_name FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
		return db.QueryRowContext(t.Context(), waiting, own).Scan(&pid, &name) == nil
	})
	victim = slices.Index(applicationNames[:], name)
	signal(t, d.servers[victim], syscall.SIGSTOP)
	check(t, tx.Rollback())
	eventually(t, 10*time.Second, "its transaction is open", func() bool {
		var state string
		err := db.QueryRowContext(t.Context(), "SELECT state FROM pg_stat_activity WHERE pid = $1", pid).Scan(&state)
		return err == nil && state == "idle in transaction"
	})
	return victim
}

func signal(t *testing.T, s *server, what syscall.Signal) {
	t.Helper()
	check(t, s.cmd.Process.Signal(what))
}
