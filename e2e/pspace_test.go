package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pspace talks as the command-line client of the hosted API does: its headers,
// its habit of dropping top-level members that are false, and its strictness
// about what comes back.
type pspace struct {
	*server
	key string
}

var pspaceCodes = []string{
	"PARSE_ERROR", "BAD_REQUEST", "UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "METHOD_NOT_SUPPORTED", "TIMEOUT", "CONFLICT",
	"PRECONDITION_FAILED", "PAYLOAD_TOO_LARGE", "TOO_MANY_REQUESTS", "CLIENT_CLOSED_REQUEST", "INTERNAL_SERVER_ERROR",
}

func (p pspace) call(t *testing.T, method, path string, body map[string]any) (int, map[string]any) {
	t.Helper()
	text := ""
	if body != nil {
		sent := map[string]any{}
		for name, value := range body {
			if value != false && value != "" {
				sent[name] = value
			}
		}
		content, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		text = string(content)
	}
	a := p.as(t, p.key, method, path, text, "Content-Type: application/json", "X-Client: paperspace-cli",
		"X-Client-Version: 0.1.0-dev", "Accept: */*")
	if !strings.Contains(a.Header.Get("Content-Type"), "application/json") {
		t.Fatalf("%s %s: content type %q: the client would see null", method, path, a.Header.Get("Content-Type"))
	}
	answer := a.object(t)
	_, code := answer["code"]
	_, message := answer["message"]
	if a.Status == 200 {
		if code && message && len(answer) <= 3 {
			t.Errorf("%s %s: the client would take %s for an error", method, path, a.Body)
		}
		return a.Status, answer
	}
	// The client parses errors strictly: these two and nothing else.
	known, _ := answer["code"].(string)
	if len(answer) != 2 || !code || !message || !slices.Contains(pspaceCodes, known) {
		t.Errorf("%s %s: the client would crash on %s", method, path, a.Body)
	}
	return a.Status, answer
}

func s3Config(bucket string) map[string]any {
	return map[string]any{
		"bucket": bucket, "accessKey": "AKIA", "secretAccessKey": "s3cret", "endpoint": "https://s3.example.com",
		"region": nil, "retainData": false,
	}
}

// TestPspace is a session with that client, request by request.
func TestPspace(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	p := pspace{s, s.Key}

	_, session := p.call(t, "GET", "/auth/session", nil) // login
	if namespace := session["team"].(map[string]any)["namespace"]; namespace != "default" {
		t.Fatalf("login would fail: namespace %v", namespace)
	}
	if strings.Trim(s.Key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		t.Error("its prompt would strip characters from the key")
	}

	var ids []string
	for i := range 7 { // storage-provider create s3
		if _, standing := p.call(t, "GET", "/billing/account-standing", nil); standing["isInGoodStanding"] != true {
			t.Fatal("create would be refused")
		}
		status, created := p.call(t, "POST", "/storage-providers", map[string]any{
			"name": fmt.Sprintf("provider %d", i), "isTeamDefault": i == 6, "storageProviderType": "s3", "s3Config": s3Config("training"),
		})
		if status != 200 || created["isTeamDefault"] != (i == 6) || created["isManaged"] != false {
			t.Fatalf("create: %d %v", status, created)
		}
		if secret := created["s3Config"].(map[string]any)["secretAccessKey"]; secret != "********" {
			t.Errorf("the secret is answered as %v", secret)
		}
		ids = append(ids, created["id"].(string))
	}

	_, list := p.call(t, "GET", "/storage-providers?limit=5&order=asc", nil) // list --limit 5 --asc
	if got := idsOf(list); !slices.Equal(got, ids[:5]) || list["hasMore"] != true || list["nextPage"] == nil {
		t.Errorf("list: %v", list)
	}
	_, rest := p.call(t, "GET", "/storage-providers?limit=5&order=asc&after="+list["nextPage"].(string), nil)
	if got := idsOf(rest); !slices.Equal(got, ids[5:]) || rest["hasMore"] != false {
		t.Errorf("second page: %v", rest)
	}
	if next, present := rest["nextPage"]; !present || next != nil {
		t.Errorf("nextPage must be there and null on the last page: %v", rest)
	}

	one := "/storage-providers/" + ids[6]
	if _, got := p.call(t, "GET", one, nil); got["name"] != "provider 6" || got["isTeamDefault"] != true { // get
		t.Errorf("get: %v", got)
	}

	// update: isTeamDefault false never arrives, and must be taken for false.
	status, updated := p.call(t, "PUT", one, map[string]any{"name": "renamed", "isTeamDefault": false, "s3Config": s3Config("training")})
	if status != 200 || updated["name"] != "renamed" || updated["isTeamDefault"] != false {
		t.Errorf("update: %d %v", status, updated)
	}
	// For everybody else its absence is a fault.
	if a := s.do(t, "PUT", one, `{"name":"n","s3Config":{"accessKey":"AKIA","bucket":"training"}}`); a.Status != 400 ||
		!strings.Contains(string(a.Body), "isTeamDefault: is required") {
		t.Errorf("PUT without isTeamDefault: %d %s", a.Status, a.Body)
	}
	// An empty name is dropped by the client, and is a 400.
	if status, e := p.call(t, "PUT", one, map[string]any{"name": "", "isTeamDefault": true, "s3Config": s3Config("training")}); status != 400 ||
		e["message"] != "name: is required" {
		t.Errorf("update with an empty name: %d %v", status, e)
	}

	if status, deleted := p.call(t, "DELETE", one, nil); status != 200 || deleted["id"] != ids[6] || len(deleted) != 1 { // delete
		t.Errorf("delete: %d %v", status, deleted)
	}
	if status, _ := p.call(t, "DELETE", one, nil); status != 404 {
		t.Errorf("a second delete: %d", status)
	}

	// Every sort of error in the shape that it can read.
	for _, c := range []struct {
		method, path string
		body         map[string]any
		status       int
	}{
		{"GET", "/nowhere", nil, 404},
		{"DELETE", "/storage-providers", nil, 405},
		{"POST", "/storage-providers", map[string]any{"name": "x"}, 400},
		{"POST", "/storage-providers", map[string]any{"name": strings.Repeat("x", 70_000)}, 413},
		{"GET", "/storage-providers?limit=1000", nil, 400},
	} {
		if status, _ := p.call(t, c.method, c.path, c.body); status != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, status, c.status)
		}
	}
	stranger := pspace{s, "psr_nobody"}
	if status, _ := stranger.call(t, "GET", "/storage-providers", nil); status != 401 {
		t.Errorf("a key of nobody's: %d", status)
	}
	if a := s.as(t, "", "GET", "/auth/session", ""); a.Status != 200 || string(a.Body) != "null" {
		t.Errorf("a session of nobody: %d %s", a.Status, a.Body)
	}
	if a := s.as(t, "", "GET", "/health", ""); a.Status != 200 || string(a.Body) != `"HEALTHY"` {
		t.Errorf("health: %d %s", a.Status, a.Body)
	}
}

// idsOf returns the ids on a page.
func idsOf(page map[string]any) []string {
	var ids []string
	for _, item := range page["items"].([]any) {
		ids = append(ids, item.(map[string]any)["id"].(string))
	}
	return ids
}
