package e2e

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOtherTeamsIDs proves for every operation that takes an id that another
// team's id is answered exactly as one that nobody has.
func TestOtherTeamsIDs(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	_, ours := s.newTeam(t, "vision")
	_, theirs := s.newTeam(t, "sound")
	mine := func(method, path, body string) map[string]any {
		a := s.as(t, ours, method, path, body)
		if a.Status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Body)
		}
		return a.object(t)
	}
	provider := mine("POST", "/storage-providers", valid)["id"].(string)
	key := mine("POST", "/api-keys", `{"name":"k","role":"viewer"}`)["id"].(string)
	scan := mine("POST", "/scans", `{"providerId":"`+provider+`"}`)["id"].(string)

	update := edit(t, with(t, "isTeamDefault", "true"), "storageProviderType", "")
	for _, c := range []struct{ method, path, body, id, unknown string }{
		{"GET", "/storage-providers/{id}", "", provider, "spl000000000000"},
		{"PUT", "/storage-providers/{id}", update, provider, "spl000000000000"},
		{"DELETE", "/storage-providers/{id}", "", provider, "spl000000000000"},
		{"GET", "/storage-providers/{id}/utilization", "", provider, "spl000000000000"},
		{"GET", "/storage-providers/{id}/health", "", provider, "spl000000000000"},
		{"GET", "/storage-providers/utilization/history?providerId={id}", "", provider, "spl000000000000"},
		{"GET", "/storage-providers/{id}/metering", "", provider, "spl000000000000"},
		{"PUT", "/storage-providers/{id}/metering", `{"rules":[]}`, provider, "spl000000000000"},
		{"POST", "/scans", `{"providerId":"{id}"}`, provider, "spl000000000000"},
		{"GET", "/scans/{id}", "", scan, "scn000000000000"},
		{"DELETE", "/scans/{id}", "", scan, "scn000000000000"},
		{"DELETE", "/api-keys/{id}", "", key, "key000000000000"},
		// Not for owners at all: the role decides before any object is looked for.
		{"GET", "/teams/{id}", "", teamOf(t, s, ours), "tea000000000000"},
		{"PUT", "/teams/{id}", `{"name":"x","namespace":"x"}`, teamOf(t, s, ours), "tea000000000000"},
		{"GET", "/api-keys?teamId={id}", "", teamOf(t, s, ours), "tea000000000000"},
		{"POST", "/api-keys", `{"name":"k","role":"viewer","teamId":"{id}"}`, teamOf(t, s, ours), "tea000000000000"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			ask := func(id string) answer {
				a := s.as(t, theirs, c.method, replaceID(c.path, id), replaceID(c.body, id))
				a.Header.Del("Date")
				a.Header.Del("Purser-Request-Id")
				return a
			}
			foreign, unknown := ask(c.id), ask(c.unknown)
			if foreign.Status != http.StatusNotFound && foreign.Status != http.StatusForbidden {
				t.Errorf("%d %s", foreign.Status, foreign.Body)
			}
			if diff := cmp.Diff(unknown, foreign); diff != "" {
				t.Errorf("it can be told that the object exists: %s", diff)
			}
		})
	}
	// Nothing came of any of it.
	if got := mine("GET", "/storage-providers/"+provider, ""); got["isTeamDefault"] != false {
		t.Errorf("a stranger has changed %v", got)
	}
	if list := idsOf(mine("GET", "/api-keys", "")); len(list) != 2 {
		t.Errorf("keys: %v", list)
	}
	for _, path := range []string{"/storage-providers", "/scans"} {
		if a := s.as(t, theirs, "GET", path, ""); len(a.object(t)["items"].([]any)) != 0 {
			t.Errorf("a stranger's %s: %s", path, a.Body)
		}
	}
}
