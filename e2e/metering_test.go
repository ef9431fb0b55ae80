package e2e

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

// awaitScan waits until a scan has ended in a state, and returns it.
func awaitScan(t testing.TB, s *server, id, state string) map[string]any {
	t.Helper()
	var scan map[string]any
	eventually(t, 2*time.Minute, "scan "+id+" "+state, func() bool {
		scan = s.must(t, "GET", "/scans/"+id, "")
		switch scan["state"] {
		case state:
			return true
		case "queued", "running":
			return false
		}
		t.Fatalf("scan %s: %v", id, scan)
		return false
	})
	return scan
}

// truth is what a team stores, by the contract's name of the category.
type truth map[string]int64

func (w truth) total() (sum int64) {
	for _, n := range w {
		sum += n
	}
	return sum
}

// expect fails the test unless the team's utilization is the truth to the byte.
func (w truth) expect(t testing.TB, s *server, state string) {
	t.Helper()
	a := s.do(t, "GET", "/storage-providers/utilization", "")
	u := a.object(t)
	for _, name := range []string{"datasetUsage", "modelUsage", "notebookWorkspaceUsage", "sharedStorageUsage"} {
		if u[name] != strconv.FormatInt(w[name], 10) {
			t.Errorf("%s is %v, the truth is %d", name, u[name], w[name])
		}
	}
	if u["totalUsage"] != strconv.FormatInt(w.total(), 10) {
		t.Errorf("totalUsage is %v, the truth is %d", u["totalUsage"], w.total())
	}
	if got := a.Header.Get("Purser-Usage-State"); got != state {
		t.Errorf("Purser-Usage-State is %q, want %q", got, state)
	}
}

// oddNames hold what listings get wrong: spaces, plus, percent, characters that
// XML, URLs and sorting treat specially, neighbours of the slash, long and
// foreign ones.
var oddNames = []string{
	"a b", " leading", "trailing ", "a+b", "a%20b", "a%2Fb", "100%", "a&b<c>d", `quo"te'`, "a#b?c=d", "a;b:c@d", "ümläut", "日本語", "🪣", "a\tb",
	"a!", "a-", "a.", "a/b", "a0", "ab", "A", "~", "=", "a\\b", "[x]{y}", "e\u0301", "\u00e9", strings.Repeat("l", 200),
	"deep/er/and/deep/er/still/x", ".hidden", "..x", "x..", "-", "_", "%", "+", "&amp;", "<Key>",
}

// fill fills a bucket with about n objects of the four categories, and some that
// are nobody's, and returns the truth.
func fill(t testing.TB, store *s3servertest.Server, bucket, team string, n int) truth {
	t.Helper()
	store.CreateBucket(t, bucket)
	random := rand.New(rand.NewPCG(25_000, 1))
	w := truth{}
	folders := []struct{ category, prefix string }{
		{"datasetUsage", "datasets/"},
		{"modelUsage", "models/"},
		{"notebookWorkspaceUsage", "notebooks/"},
		{"sharedStorageUsage", "exports/"},
		{"sharedStorageUsage", "datasets-old/"}, // begins like a category, and is none
	}
	for _, folder := range folders {
		for _, name := range oddNames {
			size := random.IntN(2000)
			store.Put(t, bucket, team+"/"+folder.prefix+name, size)
			w[folder.category] += int64(size)
		}
	}
	for i := range n {
		folder := folders[random.IntN(len(folders))]
		size := random.Int64N(1 << 20)
		store.Write(t, bucket, fmt.Sprintf("%s/%sset-%02d/file %d+%%.bin", team, folder.prefix, i%50, i), size)
		w[folder.category] += size
	}
	store.Put(t, bucket, "elsewhere/not-the-team's", 999)
	store.Put(t, bucket, team+"x/not-the-team's-either", 999)
	return w
}

// register registers a bucket and returns the provider's id.
func register(t testing.TB, s *server, store *s3servertest.Server, bucket, endpoint string) string {
	t.Helper()
	return s.must(t, "POST", "/storage-providers", fmt.Sprintf(
		`{"name":%q,"storageProviderType":"s3","s3Config":{"bucket":%q,"endpoint":%q,"accessKey":%q,"secretAccessKey":%q}}`,
		bucket, bucket, endpoint, store.AccessKey, store.Secret.Expose()))["id"].(string)
}

// slowProxy stands before a store and takes its time for each listing.
func slowProxy(t testing.TB, endpoint string, delay time.Duration) (address string, listings *atomic.Int64) {
	t.Helper()
	listings = &atomic.Int64{}
	return proxyTo(t, endpoint, func(r *http.Request) {
		if r.URL.Query().Has("list-type") && r.URL.Query().Get("max-keys") != "1" {
			listings.Add(1)
			time.Sleep(delay) // a slow store is the point
		}
	}), listings
}

// forwardTo passes requests on to a store.
func forwardTo(t testing.TB, endpoint string) http.Handler {
	t.Helper()
	target, err := url.Parse(endpoint)
	check(t, err)
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}, ErrorLog: silent}
}

// silent is for servers whose clients go away or refuse them, which is the point.
var silent = log.New(io.Discard, "", 0)

// proxyTo stands before a store and shows each request to see.
func proxyTo(t testing.TB, endpoint string, see func(*http.Request)) (address string) {
	t.Helper()
	proxy := forwardTo(t, endpoint)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		see(r)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestExactBucket measures 25,000 objects with odd keys on a real S3 server, to
// the byte, and once more with the server killed in the middle.
func TestExactBucket(t *testing.T) {
	t.Parallel()
	store := s3servertest.Start(t)
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	w := fill(t, store, "training", teamOf(t, s, s.Key), 25_000)
	id := register(t, s, store, "training", store.Endpoint)
	scan := s.must(t, "POST", "/scans", `{"providerId":"`+id+`"}`)
	done := awaitScan(t, s, scan["id"].(string), "done")
	w.expect(t, s, "complete")
	objects := 25_000 + 5*len(oddNames)
	if done["objects"] != float64(objects) || done["bytes"] != strconv.FormatInt(w.total(), 10) || done["error"] != nil {
		t.Errorf("%v; %d objects were written", done, objects)
	}
	expectFolders(t, s, id, w)

	// The same bucket through a slow connection, so that there is a middle.
	s.must(t, "DELETE", "/storage-providers/"+id, "")
	slow, listings := slowProxy(t, store.Endpoint, 250*time.Millisecond)
	id = register(t, s, store, "training", slow)
	scan = s.must(t, "POST", "/scans", `{"providerId":"`+id+`"}`)
	eventually(t, time.Minute, "half of the scan is saved", func() bool {
		return s.must(t, "GET", "/scans/"+scan["id"].(string), "")["objects"].(float64) > 5000
	})
	before := listings.Load()
	s.kill()
	s = s.restart(t)
	done = awaitScan(t, s, scan["id"].(string), "done")
	w.expect(t, s, "complete")
	if done["objects"] != float64(objects) {
		t.Errorf("after a kill %v objects were counted, %d are there", done["objects"], objects)
	}
	expectFolders(t, s, id, w)
	pages := int64(objects)/1000 + 1
	if after := listings.Load() - before; after >= pages {
		t.Errorf("%d pages were listed after the kill, %d before: it began anew", after, before)
	}
	t.Logf("%d objects, %d bytes: exact; %d pages, %d of them before the kill", objects, w.total(), listings.Load(), before)
}

// expectFolders fails the test unless the folders below the team's are as fill
// has made them, and those below add up.
func expectFolders(t *testing.T, s *server, provider string, w truth) {
	t.Helper()
	usage := s.must(t, "GET", "/storage-providers/"+provider+"/utilization", "")
	var folders []string
	shared := int64(0) // all that is in two folders of one category
	for depth, level := range usage["folders"].([]any) {
		level := level.(map[string]any)
		sum := int64(0)
		number := func(of any) int64 {
			n, err := strconv.ParseInt(of.(map[string]any)["bytes"].(string), 10, 64)
			check(t, err)
			sum += n
			return n
		}
		number(level["rest"])
		for _, folder := range level["biggest"].([]any) {
			n := number(folder)
			if depth > 0 {
				continue
			}
			_, name, _ := strings.Cut(folder.(map[string]any)["path"].(string), "/")
			folders = append(folders, name)
			switch name {
			case "models/":
				n -= w["modelUsage"]
			case "notebooks/":
				n -= w["notebookWorkspaceUsage"]
			case "datasets/":
				n -= w["datasetUsage"]
			default:
				shared += n
				n = 0
			}
			if n != 0 {
				t.Errorf("folder %s is off by %d bytes", name, n)
			}
		}
		if sum != w.total() {
			t.Errorf("the folders at depth %d and the rest hold %d bytes, all together %d", depth+1, sum, w.total())
		}
	}
	slices.Sort(folders)
	if want := []string{"datasets-old/", "datasets/", "exports/", "models/", "notebooks/"}; !slices.Equal(folders, want) || shared != w["sharedStorageUsage"] {
		t.Errorf("folders %q, %d bytes of shared storage; want %q and %d", folders, shared, want, w["sharedStorageUsage"])
	}
	if classes := usage["storageClasses"].([]any); len(classes) != 1 || classes[0].(map[string]any)["storageClass"] != "STANDARD" {
		t.Errorf("storage classes %v", classes)
	}
}

// TestExactTree measures a directory tree with all that trees have, and one that
// cannot be read in full: its figures stay, they do not sink.
func TestExactTree(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("", "purser-tree-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	data := filepath.Join(base, "data")
	check(t, os.Chmod(base, 0o755), os.Mkdir(data, 0o700), os.Chown(data, nobodyOrSelf(), -1))
	s := start(t, options{dataDir: data, nobody: true, args: []string{"--tree", "notebookWorkspace=" + base + "/srv/{team}"}})
	root := filepath.Join(base, "srv", teamOf(t, s, s.Key))
	check(t, os.MkdirAll(filepath.Join(root, "project", "locked"), 0o755))
	write := func(name string, size int64) {
		t.Helper()
		f, err := os.Create(filepath.Join(root, name))
		check(t, err)
		check(t, f.Truncate(size), f.Close()) // a sparse file counts as long as it says it is
	}
	write("a", 1000)
	write("project/b c+%", 200)
	write("project/locked/secret", 30_000)
	write("project/sparse", 5<<30)
	check(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "project", "hard")),
		os.Symlink("a", filepath.Join(root, "soft")), os.Symlink("/etc", filepath.Join(root, "out")), os.Symlink(".", filepath.Join(root, "loop")))

	w := truth{"notebookWorkspaceUsage": 1000 + 200 + 30_000 + 5<<30}
	scanTree := func(state string) map[string]any {
		t.Helper()
		var items []any
		eventually(t, time.Minute, "the tree is known", func() bool {
			items = s.must(t, "POST", "/scans", `{}`)["items"].([]any)
			return len(items) == 1
		})
		return awaitScan(t, s, items[0].(map[string]any)["id"].(string), state)
	}
	awaitNoScan(t, s)
	scanTree("done")
	w.expect(t, s, "complete")

	check(t, os.Chmod(filepath.Join(root, "project", "locked"), 0))
	write("more", 7)
	scan := scanTree("failed")
	if fault, _ := scan["error"].(map[string]any); fault["code"] != "unreadable" || fault["hint"] == "" {
		t.Errorf("the scan of a tree that cannot be read: %v", scan)
	}
	w.expect(t, s, "stale")

	check(t, os.Chmod(filepath.Join(root, "project", "locked"), 0o755))
	scanTree("done")
	w["notebookWorkspaceUsage"] += 7
	w.expect(t, s, "complete")
}

// awaitNoScan waits until no scan is under way: the first begins by itself, and
// may have looked before the files were there.
func awaitNoScan(t testing.TB, s *server) {
	t.Helper()
	eventually(t, time.Minute, "no scan is under way", func() bool {
		for _, item := range s.must(t, "GET", "/scans", "")["items"].([]any) {
			if state := item.(map[string]any)["state"]; state == "queued" || state == "running" {
				return false
			}
		}
		return true
	})
}

func nobodyOrSelf() int {
	if os.Getuid() == 0 {
		return nobody
	}
	return -1
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestBudgetOfRequests has a real store count what it is sent, and a budget that
// is raised when it is spent.
func TestBudgetOfRequests(t *testing.T) {
	t.Parallel()
	const budget = 10
	store := s3servertest.Start(t)
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}, env: []string{"PURSER_SCAN_REQUESTS_PER_DAY=" + strconv.Itoa(budget)}})
	w := fill(t, store, "training", teamOf(t, s, s.Key), 15_000)
	var sent atomic.Int64
	id := register(t, s, store, "training", proxyTo(t, store.Endpoint, func(*http.Request) { sent.Add(1) }))
	scan := s.must(t, "POST", "/scans", `{"providerId":"`+id+`"}`)["id"].(string)
	var got map[string]any
	eventually(t, time.Minute, "the budget is spent", func() bool {
		got = s.must(t, "GET", "/scans/"+scan, "")
		fault, _ := got["error"].(map[string]any)
		return fault["code"] == "budget_spent"
	})
	// The region is looked for with requests that no step of the scan is expected to take.
	first := sent.Load()
	if first < budget || first > budget+4 {
		t.Errorf("the store got %d requests, %d are allowed", first, budget)
	}
	expectSpent := func(when string, total, perDay int64) {
		t.Helper()
		scan := s.must(t, "GET", "/scans/"+scan, "")
		usage := s.must(t, "GET", "/storage-providers/"+id+"/utilization", "")
		want := map[string]any{
			"requestsPerDay": float64(perDay), "requestsToday": float64(total),
			"renewsAt": time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Format(time.RFC3339),
		}
		cost := map[string]any{"currency": "USD", "amount": strings.TrimRight(fmt.Sprintf("%.6f", float64(total)*5e-6), "0")}
		if diff := cmp.Diff([]any{want, want, cost, float64(total)}, []any{scan["requestBudget"], usage["requestBudget"], scan["estimatedCost"], scan["requests"]}); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	expectSpent("spent", first, budget)
	if got["state"] != "running" || got["objects"] == float64(0) {
		t.Errorf("meanwhile the scan is %v", got)
	}
	truth{}.expect(t, s, "pending")

	s.stop(t)
	s.opts.env = []string{"PURSER_SCAN_REQUESTS_PER_DAY=1000"}
	s = s.restart(t)
	done := awaitScan(t, s, scan, "done")
	w.expect(t, s, "complete")
	expectSpent("raised", sent.Load(), 1000)
	t.Logf("%d requests of %d at first, %d in all, for %v objects", first, budget, sent.Load(), done["objects"])
}

// TestRunningScanSaysWhatItWaitsFor proves that a user who registers an endpoint
// where nobody answers is told at once, not when the last try has failed.
func TestRunningScanSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	for _, endpoint := range []string{`"http://127.0.0.1:1"`, `"https://no-such-name.invalid"`} {
		id := s.must(t, "POST", "/storage-providers", with(t, "s3Config.endpoint", endpoint))["id"].(string)
		scan := s.must(t, "POST", "/scans", `{"providerId":"`+id+`"}`)["id"].(string)
		eventually(t, 15*time.Second, "the scan says that nobody answers at "+endpoint, func() bool {
			fault, _ := s.must(t, "GET", "/scans/"+scan, "")["error"].(map[string]any)
			return fault["code"] == "unreachable" && fault["hint"] != ""
		})
		if cancelled := s.must(t, "DELETE", "/scans/"+scan, ""); cancelled["state"] != "cancelled" {
			t.Errorf("it cannot be cancelled meanwhile: %v", cancelled)
		}
	}
}
