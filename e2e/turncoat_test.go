package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/s3bucket/s3buckettest"
)

// turncoat is a store that is good until it is told to be something else.
type turncoat struct {
	*httptest.Server
	good     http.Handler
	handler  atomic.Pointer[http.HandlerFunc]
	requests atomic.Int64
}

// newTurncoat starts a store.
func newTurncoat(t testing.TB, good http.Handler) *turncoat {
	t.Helper()
	s := &turncoat{good: good}
	s.turn(good.ServeHTTP)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func (s *turncoat) turn(handler http.HandlerFunc) { s.handler.Store(&handler) }

// turnListings leaves all answers good but those to one of the listings.
func (s *turncoat) turnListings(of source.Listing, handler http.HandlerFunc) {
	s.turn(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && listingOf(r) == of {
			handler(w, r)
			return
		}
		s.good.ServeHTTP(w, r)
	})
}

// listingOf says which listing a request asks for; "none" is another question.
func listingOf(r *http.Request) source.Listing {
	q := r.URL.Query()
	switch {
	case q.Has("versions"):
		return source.Versions
	case q.Has("uploads"):
		return source.Uploads
	case q.Has("max-keys"):
		return source.Objects
	}
	return "none"
}

// cannedBucket is a bucket for tenants, and what it holds.
func cannedBucket(t testing.TB, keys canned.Keys, o canned.Options) (*canned.Bucket, truth) {
	t.Helper()
	o.Name = "bucket"
	b, err := canned.New(keys, o)
	check(t, err)
	held := b.Truth("")
	return b, truth{"datasetUsage": held.Bytes + held.NoncurrentBytes}
}

// oneObject is a bucket that takes no time.
var oneObject = canned.Of(canned.Object{Key: "a", Size: 1000})

// manyObjects are keys for a bucket that takes some.
func manyObjects(t testing.TB, n int) canned.Keys {
	t.Helper()
	keys, err := canned.Shape("one-per-folder", n)
	check(t, err)
	return keys
}

// tenant is a team with one bucket, all of which counts as datasets.
type tenant struct {
	*server  // speaks with the team's key
	store    *turncoat
	stored   truth
	provider string
	scan     string // the one that was started last
}

// withKey is the server for somebody with another key.
func (s *server) withKey(key string) *server {
	other := *s
	other.Key = key
	return &other
}

func newTenant(t testing.TB, s *server, name string, store *turncoat, stored truth) *tenant {
	t.Helper()
	_, key := s.newTeam(t, name)
	c := &tenant{server: s.withKey(key), store: store, stored: stored}
	c.provider = c.must(t, "POST", "/storage-providers", fmt.Sprintf(
		`{"name":"n","storageProviderType":"s3","s3Config":{"bucket":"bucket","endpoint":%q,"accessKey":"AKTESTTESTTEST","secretAccessKey":"secretsecretsecret"}}`, store.URL))["id"].(string)
	c.must(t, "PUT", "/storage-providers/"+c.provider+"/metering", `{"rules":[{"category":"dataset","prefix":"a"},{"category":"dataset","prefix":"runs/"}]}`)
	return c
}

// begin starts a scan.
func (c *tenant) begin(t testing.TB) {
	t.Helper()
	c.scan = c.must(t, "POST", "/scans", `{"providerId":"`+c.provider+`"}`)["id"].(string)
}

// measure scans the bucket and finds what is stored there.
func (c *tenant) measure(t testing.TB) {
	t.Helper()
	c.begin(t)
	awaitScan(t, c.server, c.scan, "done")
	c.stored.expect(t, c.server, "complete")
	c.expectHealth(t, "")
}

// look returns the scan as it is.
func (c *tenant) look(t testing.TB) map[string]any {
	t.Helper()
	return c.must(t, "GET", "/scans/"+c.scan, "")
}

// cancel cancels the scan.
func (c *tenant) cancel(t testing.TB) {
	t.Helper()
	if got := c.must(t, "DELETE", "/scans/"+c.scan, ""); got["state"] != "cancelled" {
		t.Errorf("the scan cannot be cancelled: %v", got)
	}
}

// awaitFault waits until the scan says what is wrong, in words that hold nothing
// of what the store has said, and is in a state then.
func (c *tenant) awaitFault(t testing.TB, timeout time.Duration, state, code string) {
	t.Helper()
	var scan, fault map[string]any
	eventually(t, timeout, "the scan is "+state+" with "+code, func() bool {
		scan = c.look(t)
		fault, _ = scan["error"].(map[string]any)
		return fault != nil || scan["state"] != "queued" && scan["state"] != "running"
	})
	if scan["state"] != state || fault["code"] != code {
		t.Fatalf("%v; want %s with %s", scan, state, code)
	}
	message, hint := fault["message"].(string), fault["hint"].(string)
	if !strings.HasSuffix(message, ".") || !strings.HasSuffix(hint, ".") {
		t.Errorf("message %q, hint %q", message, hint)
	}
	_, address, _ := strings.Cut(c.store.URL, "//")
	for _, leak := range []string{s3buckettest.Canary, address, "secretsecretsecret", "XML"} {
		if strings.Contains(message+hint, leak) {
			t.Errorf("%q is in message %q, hint %q", leak, message, hint)
		}
	}
	c.expectHealth(t, code)
}

// expectHealth finds the provider failing, or degraded, with a code; or ok if it
// is empty.
func (c *tenant) expectHealth(t testing.TB, code string) {
	t.Helper()
	health := c.must(t, "GET", "/storage-providers/"+c.provider+"/health", "")
	fault, _ := health["error"].(map[string]any)
	if got, _ := fault["code"].(string); got != code || (health["state"] == "ok") != (code == "") || health["since"] == nil {
		t.Errorf("health %v, want one with %q", health, code)
	}
}

// memory is a figure of the process from /proc/PID/status, in bytes.
func (s *server) memory(t testing.TB, field string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	check(t, err)
	_, rest, _ := strings.Cut(string(status), field+":")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	check(t, err)
	return n << 10
}

// forgetPeak has the kernel measure the peak anew: proc(5), clear_refs.
func (s *server) forgetPeak(t testing.TB) {
	t.Helper()
	check(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0o200))
}

// mostGrowth is what a hostile store may cost the process in memory.
const mostGrowth = 64 << 20

// expectGrowth fails the test if the peak since forgetPeak is too far above
// before.
func (s *server) expectGrowth(t testing.TB, what string, before int64) {
	t.Helper()
	grown := s.memory(t, "VmHWM") - before
	t.Logf("%+6.1f MiB: %s", float64(grown)/(1<<20), what)
	if grown > mostGrowth {
		t.Errorf("%s: the process grew by %d MiB", what, grown>>20)
	}
}
