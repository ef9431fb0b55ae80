package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/s3bucket/s3buckettest"
)

// health returns the health of the tenant's bucket.
func (c *tenant) health(t testing.TB) map[string]any {
	t.Helper()
	return c.must(t, "GET", "/storage-providers/"+c.provider+"/health", "")
}

// expectUnknown fails the test unless nothing is known of the bucket.
func (c *tenant) expectUnknown(t *testing.T, when string) {
	t.Helper()
	got := c.health(t)
	delete(got, "requestBudget")
	want := map[string]any{"state": "unknown", "since": nil, "lastCheckedAt": nil, "error": nil, "detected": map[string]any{}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// expectFound fails the test unless the bucket is in this state since then (nil is
// the end of the last scan), by what the last scan says and spent. It returns the
// health.
func (c *tenant) expectFound(t *testing.T, when, state string, since any) map[string]any {
	t.Helper()
	h, scan := c.health(t), c.look(t)
	if since == nil {
		since = scan["finishedAt"]
	}
	want := map[string]any{
		"state": state, "since": since, "lastCheckedAt": scan["finishedAt"], "error": scan["error"],
		"detected": map[string]any{"signingRegion": "us-east-1", "method": "list", "addressing": "path", "versioned": true}, "requestBudget": scan["requestBudget"],
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
	return h
}

// TestHealth takes from a bucket what scans need, and gives it back.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32", "--scan-requests-per-day", "1000"}})
	good, held := cannedBucket(t, oneObject, canned.Options{Versioned: true})
	store := newTurncoat(t, good)
	mute := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	store.turn(mute) // so that the scan that begins by itself does not end
	c := newTenant(t, s, "team", store, held)
	c.expectUnknown(t, "new")
	eventually(t, 20*time.Second, "the first scan", func() bool {
		newest, _ := c.must(t, "GET", "/scans", "")["items"].([]any)
		if len(newest) == 0 || newest[0].(map[string]any)["state"] != "running" {
			return false
		}
		c.scan = newest[0].(map[string]any)["id"].(string)
		return true
	})
	c.cancel(t)
	c.expectUnknown(t, "cancelled")

	store.turn(good.ServeHTTP)
	c.measure(t)
	budget := c.expectFound(t, "measured", "ok", nil)["requestBudget"].(map[string]any)
	renews := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).Format(time.RFC3339)
	if budget["requestsPerDay"] != 1000.0 || budget["requestsToday"].(float64) < 3 || budget["renewsAt"] != renews {
		t.Errorf("budget: %v", budget)
	}

	for _, fault := range []struct {
		name       string
		status     int
		says, code string
	}{
		{"the access key is deleted", http.StatusForbidden, "InvalidAccessKeyId", source.CodeBadCredentials},
		{"the bucket is deleted", http.StatusNotFound, "NoSuchBucket", source.CodeNoSuchBucket},
	} {
		store.turn(s3buckettest.Error(fault.status, fault.says))
		var since any
		for range 2 {
			c.begin(t)
			c.awaitFault(t, 20*time.Second, "failed", fault.code)
			since = c.expectFound(t, fault.name, "failing", since)["since"]
		}
		store.turn(good.ServeHTTP)
		c.measure(t)
		c.expectFound(t, "restored", "ok", nil)
	}

	store.turnListings(source.Uploads, s3buckettest.Error(http.StatusForbidden, "AccessDenied"))
	c.begin(t)
	c.awaitFault(t, 20*time.Second, "failed", source.CodeAccessDenied)
	before := c.expectFound(t, "a part may not be read", "degraded", nil)

	one := "/storage-providers/" + c.provider
	update := edit(t, edit(t, with(t, "isTeamDefault", "false"), "storageProviderType", ""), "s3Config.bucket", `"bucket"`)
	update = edit(t, edit(t, update, "s3Config.endpoint", `"`+store.URL+`"`), "s3Config.accessKey", `"AKTESTTESTTEST"`)
	c.must(t, "PUT", one, edit(t, edit(t, update, "name", `"another"`), "s3Config.secretAccessKey", `"********"`))
	if diff := cmp.Diff(before, c.health(t)); diff != "" {
		t.Errorf("another name (-want +got):\n%s", diff)
	}
	store.turn(mute)
	c.must(t, "PUT", one, edit(t, update, "s3Config.secretAccessKey", `"another"`))
	if got := c.health(t); got["state"] != "unknown" || got["since"] != nil || got["error"] != nil {
		t.Errorf("another secret: %v", got)
	}
}

// TestHealthIsForReaders proves that viewers may ask, and that without a budget
// none is told.
func TestHealthIsForReaders(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	team, owner := s.newTeam(t, "vision")
	provider := s.as(t, owner, "POST", "/storage-providers", valid).object(t)["id"].(string)
	a := s.as(t, s.newKey(t, team, "viewer"), "GET", "/storage-providers/"+provider+"/health", "")
	if a.Status != http.StatusOK || a.object(t)["requestBudget"].(map[string]any)["requestsPerDay"] != nil {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := s.as(t, "", "GET", "/storage-providers/"+provider+"/health", ""); a.Status != http.StatusUnauthorized {
		t.Errorf("nobody: %d %s", a.Status, a.Body)
	}
}
