package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/purserhq/purser/internal/s3server/s3servertest"
	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

// applicationNames say in PostgreSQL whose connection is whose.
var applicationNames = [2]string{"first", "second"}

// startPair starts two servers on one PostgreSQL. The second gets the first
// one's key for sealing, as an operator would give it.
func startPair(t *testing.T, args ...string) (a, b *server) {
	t.Helper()
	o := options{database: pgtest.URL(t), args: args, env: []string{"PGAPPNAME=" + applicationNames[0]}}
	a = start(t, o)
	o.env = []string{"PGAPPNAME=" + applicationNames[1]}
	o.dataDir = filepath.Join(t.TempDir(), "second")
	key, err := os.ReadFile(filepath.Join(a.Dir, "seal.key"))
	check(t, err, os.Mkdir(o.dataDir, 0o700), os.WriteFile(filepath.Join(o.dataDir, "seal.key"), key, 0o600))
	b = start(t, o)
	if b.Key != "" {
		t.Error("the second server made an operator's key too")
	}
	b.Key = a.Key
	return a, b
}

var (
	slicesRunning = regexp.MustCompile(`(?m)^purser_scan_slices_running (\d+)$`)
	slicesCounted = regexp.MustCompile(`(?m)^purser_scan_slice_duration_seconds_count\{outcome="(\w+)"\} (\d+)$`)
)

// metrics are what a server tells about itself.
func metrics(t *testing.T, s *server) []byte {
	t.Helper()
	m, err := request(s.Admin+"/metrics", "", "GET", "")
	if err != nil || m.Status != http.StatusOK {
		t.Fatalf("metrics: %v %d", err, m.Status)
	}
	return m.Body
}

// working is how many slices a server works on.
func working(t *testing.T, s *server) int {
	t.Helper()
	n, err := strconv.Atoi(string(slicesRunning.FindSubmatch(metrics(t, s))[1]))
	check(t, err)
	return n
}

// worked is how many slices a server has worked on, by what became of them.
func worked(t *testing.T, s *server) map[string]int {
	t.Helper()
	outcomes := map[string]int{}
	for _, found := range slicesCounted.FindAllSubmatch(metrics(t, s), -1) {
		n, err := strconv.Atoi(string(found[2]))
		check(t, err)
		outcomes[string(found[1])] = n
	}
	return outcomes
}

// TestTwoServers has two servers share the work on one PostgreSQL, kills one in
// the middle of its scans, and proves that the other carries on and that all
// figures are exact.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	store := s3servertest.Start(t)
	a, b := startPair(t, "--egress-allow", "127.0.0.1/32")
	team := teamOf(t, a, a.Key)
	slow, _ := slowProxy(t, store.Endpoint, 300*time.Millisecond)

	w := truth{}
	for i := range 24 {
		bucket := fmt.Sprintf("bucket-%02d", i)
		store.CreateBucket(t, bucket)
		for j := range 20 {
			store.Write(t, bucket, fmt.Sprintf("%s/datasets/%d", team, j), int64(i*j))
			w["datasetUsage"] += int64(i * j)
		}
		register(t, []*server{a, b}[i%2], store, bucket, slow)
	}
	if got := len(idsOf(b.must(t, "GET", "/storage-providers?limit=120", ""))); got != 24 {
		t.Fatalf("the second server sees %d providers", got)
	}
	// No scan being under way does not say that every source was scanned: the first
	// scan of each is started within seconds, unless somebody asks for it.
	for try := 0; try == 0 || worked(t, a)["finished"] == 0 || worked(t, b)["finished"] == 0; try++ {
		if try == 20 {
			t.Fatalf("one of the servers does nothing: %v and %v", worked(t, a), worked(t, b))
		}
		a.must(t, "POST", "/scans", `{}`)
		awaitNoScan(t, a)
	}
	w.expect(t, a, "complete")
	w.expect(t, b, "complete")

	items := a.must(t, "POST", "/scans", `{}`)["items"].([]any)
	eventually(t, time.Minute, "scans are under way", func() bool {
		return a.must(t, "GET", "/scans/"+items[0].(map[string]any)["id"].(string), "")["state"] != "queued"
	})
	a.kill()
	killed := time.Now()
	for _, item := range items {
		awaitScan(t, b, item.(map[string]any)["id"].(string), "done")
	}
	if took := time.Since(killed); took > time.Minute {
		t.Errorf("the other server took %s to finish", took)
	}
	w.expect(t, b, "complete")
	b.must(t, "POST", "/storage-providers", valid)

	// One that is stopped in an orderly way is missed even less.
	c := a.restart(t)
	b.stop(t)
	if got := len(idsOf(c.must(t, "GET", "/storage-providers?limit=120", ""))); got != 25 {
		t.Errorf("the server that came back sees %d providers", got)
	}
}

// TestRevokedEverywhere proves that a key that is revoked on one server stops
// counting on the other within a second, however busy it keeps it.
func TestRevokedEverywhere(t *testing.T) {
	t.Parallel()
	a, b := startPair(t)
	for range 5 {
		key := a.must(t, "POST", "/api-keys", `{"name":"k","role":"viewer"}`)
		token := key["key"].(string)
		awaitStatus(t, b, token, http.StatusOK)
		a.must(t, "DELETE", "/api-keys/"+key["id"].(string), "")
		revoked := time.Now()
		if status := a.as(t, token, "GET", "/storage-providers", "").Status; status != http.StatusUnauthorized {
			t.Errorf("where it was revoked it still counts: %d", status)
		}
		awaitStatus(t, b, token, http.StatusUnauthorized)
		if took := time.Since(revoked); took > time.Second {
			t.Errorf("on the other server it counted for %s", took)
		}
	}
}
