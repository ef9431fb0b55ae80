package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// valid is the body of a create that is accepted.
const valid = `{"name":"n","s3Config":{"accessKey":"AKIA","bucket":"training","secretAccessKey":"s3cret"},"storageProviderType":"s3"}`

// with returns the valid create with a member set to raw JSON, or removed if raw
// is empty. The path uses dots.
func with(t testing.TB, path, raw string) string {
	t.Helper()
	return edit(t, valid, path, raw)
}

func edit(t testing.TB, body, path, raw string) string {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal([]byte(body), &root); err != nil {
		t.Fatal(err)
	}
	object, names := root, strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		object = object[name].(map[string]any)
	}
	last := names[len(names)-1]
	if raw == "" {
		delete(object, last)
	} else {
		object[last] = json.RawMessage(raw)
	}
	edited, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return string(edited)
}

// invalid is the answer to a request with one fault.
func invalid(pointer, sentence string) map[string]any {
	name := strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
	if name == "" {
		name = "body"
	}
	return map[string]any{"code": "BAD_REQUEST", "message": name + ": " + sentence, "details": map[string]any{pointer: sentence}}
}

const (
	required = "is required"
	notNull  = "must not be null"
	text     = "must be a string"
	empty    = "must not be empty"
)

// TestBodies is the table of what is wrong with the body of a create, with the
// exact answer.
func TestBodies(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	long := func(n int) string { return `"` + strings.Repeat("a", n) + `"` }
	const plain = "must not contain spaces, line breaks or control characters"
	for _, c := range []struct {
		name, body string
		want       map[string]any
	}{
		{"name missing", with(t, "name", ""), invalid("/name", required)},
		{"name null", with(t, "name", "null"), invalid("/name", notNull)},
		{"name a number", with(t, "name", "1"), invalid("/name", text)},
		{"name a list", with(t, "name", `["n"]`), invalid("/name", text)},
		{"name empty", with(t, "name", `""`), invalid("/name", empty)},
		{"name blank", with(t, "name", `" \t"`), invalid("/name", empty)},
		{"name too long", with(t, "name", long(256)), invalid("/name", "must be at most 255 characters")},
		{"name with a line break", with(t, "name", `"a\nb"`), invalid("/name", "must not contain control characters")},
		{"s3Config missing", with(t, "s3Config", ""), invalid("/s3Config", required)},
		{"s3Config null", with(t, "s3Config", "null"), invalid("/s3Config", notNull)},
		{"s3Config a string", with(t, "s3Config", `"x"`), invalid("/s3Config", "must be an object")},
		{"accessKey missing", with(t, "s3Config.accessKey", ""), invalid("/s3Config/accessKey", required)},
		{"accessKey null", with(t, "s3Config.accessKey", "null"), invalid("/s3Config/accessKey", notNull)},
		{"accessKey true", with(t, "s3Config.accessKey", "true"), invalid("/s3Config/accessKey", text)},
		{"accessKey empty", with(t, "s3Config.accessKey", `""`), invalid("/s3Config/accessKey", empty)},
		{"accessKey too long", with(t, "s3Config.accessKey", long(1025)), invalid("/s3Config/accessKey", "must be at most 1024 bytes")},
		{"accessKey with a space", with(t, "s3Config.accessKey", `"a b"`), invalid("/s3Config/accessKey", plain)},
		{"bucket missing", with(t, "s3Config.bucket", ""), invalid("/s3Config/bucket", required)},
		{"bucket null", with(t, "s3Config.bucket", "null"), invalid("/s3Config/bucket", notNull)},
		{"bucket a path", with(t, "s3Config.bucket", `"a/b"`), invalid("/s3Config/bucket", "must be the name of a bucket: 3 to 63 letters, digits, dots, hyphens or underscores")},
		{"bucket too long", with(t, "s3Config.bucket", long(64)), invalid("/s3Config/bucket", "must be the name of a bucket: 3 to 63 letters, digits, dots, hyphens or underscores")},
		{"secret missing", with(t, "s3Config.secretAccessKey", ""), invalid("/s3Config/secretAccessKey", required)},
		{"secret null", with(t, "s3Config.secretAccessKey", "null"), invalid("/s3Config/secretAccessKey", notNull)},
		{"secret a number", with(t, "s3Config.secretAccessKey", "12345"), invalid("/s3Config/secretAccessKey", text)},
		{"secret empty", with(t, "s3Config.secretAccessKey", `""`), invalid("/s3Config/secretAccessKey", empty)},
		{"secret the mask", with(t, "s3Config.secretAccessKey", `"********"`), invalid("/s3Config/secretAccessKey", "must be the secret itself; ******** only stands for one that is stored already")},
		{"secret too long", with(t, "s3Config.secretAccessKey", long(1025)), invalid("/s3Config/secretAccessKey", "must be at most 1024 bytes")},
		{"secret with a line break", with(t, "s3Config.secretAccessKey", `"a\n"`), invalid("/s3Config/secretAccessKey", plain)},
		{"type missing", with(t, "storageProviderType", ""), invalid("/storageProviderType", required)},
		{"type null", with(t, "storageProviderType", "null"), invalid("/storageProviderType", notNull)},
		{"type unknown", with(t, "storageProviderType", `"gcs"`), invalid("/storageProviderType", "must be one of: s3")},
		{"isTeamDefault null", with(t, "isTeamDefault", "null"), invalid("/isTeamDefault", notNull)},
		{"isTeamDefault a string", with(t, "isTeamDefault", `"true"`), invalid("/isTeamDefault", "must be true or false")},
		{"region unknown", with(t, "s3Config.region", `"eu-west-1"`), invalid("/s3Config/region", "must be one of: ams1, ca1, ny2")},
		{"region a number", with(t, "s3Config.region", "1"), invalid("/s3Config/region", "must be a string or null")},
		{"retainData a string", with(t, "s3Config.retainData", `"yes"`), invalid("/s3Config/retainData", "must be true or false or null")},
		{"signature unknown", with(t, "s3Config.signatureVersion", `"v3"`), invalid("/s3Config/signatureVersion", "must be v4 (also s3v4, 4) or v2 (also s3v2, s3, 2)")},
		{"endpoint without a scheme", with(t, "s3Config.endpoint", `"s3.example.com"`), invalid("/s3Config/endpoint", "must be an absolute URL such as https://s3.example.com; the scheme https:// or http:// is missing")},
		{"endpoint with a path", with(t, "s3Config.endpoint", `"https://s3.example.com/b"`), invalid("/s3Config/endpoint", "must not contain a path; the bucket's name belongs into bucket")},
		{"endpoint with user info", with(t, "s3Config.endpoint", `"https://u:p@s3.example.com"`), invalid("/s3Config/endpoint", "must not contain a user name or password; put them into accessKey and secretAccessKey")},
		{"endpoint with a query", with(t, "s3Config.endpoint", `"https://s3.example.com?a"`), invalid("/s3Config/endpoint", "must not contain a query or a fragment")},
		{"endpoint of another scheme", with(t, "s3Config.endpoint", `"ftp://s3.example.com"`), invalid("/s3Config/endpoint", "must start with https:// or http://")},
		{"endpoint too long", with(t, "s3Config.endpoint", `"https://`+strings.Repeat("a", 2048)+`"`), invalid("/s3Config/endpoint", "must be at most 2048 bytes")},
		{"wrong case", with(t, "isteamdefault", "true"), invalid("/isteamdefault", "must be spelled isTeamDefault")},
		{"wrong case of a required one", edit(t, with(t, "name", ""), "Name", `"n"`), invalid("/Name", "must be spelled name")},
		{"duplicate key", strings.Replace(valid, `"name":"n"`, `"name":"n","name":"m"`, 1), invalid("/name", "is given twice")},
		{"duplicate key below", strings.Replace(valid, `"bucket":"training"`, `"bucket":"training","bucket":"b"`, 1), invalid("/s3Config/bucket", "is given twice")},
		{"a list", `[]`, invalid("", "must be an object")},
		{"null", `null`, invalid("", notNull)},
		{"U+0000", with(t, "name", `"a\u0000b"`), invalid("/name", "must not contain control characters")},
		{"nested too deeply", with(t, "x", strings.Repeat("[", 30)+strings.Repeat("]", 30)), invalid("", "must be nested at most 16 levels deep")},
		{"not JSON", `{"name":`, nil},
		{"trailing bytes", valid + "x", nil},
		{"a second value", valid + "{}", nil},
		{"single quotes", `{'name':'n'}`, nil},
		{"not UTF-8", "{\"name\":\"\xff\"}", nil},
		{"a lone surrogate", `{"name":"\ud800"}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := s.do(t, "POST", "/storage-providers", c.body)
			if a.Status != http.StatusBadRequest {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			got := a.object(t)
			if c.want == nil { // not JSON at all: the place of the fault differs
				message, _ := got["message"].(string)
				if got["code"] != "PARSE_ERROR" || !strings.HasPrefix(message, "The body is not valid JSON;") || len(got) != 2 {
					t.Errorf("%s", a.Body)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Cleanup(func() {
		if list := s.must(t, "GET", "/storage-providers", ""); len(list["items"].([]any)) != 0 {
			t.Errorf("a refused request left something: %v", list)
		}
	})
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	got := s.do(t, "POST", "/storage-providers", `{"name":"","s3Config":{"bucket":1,"region":"mars"}}`).object(t)
	want := map[string]any{
		"code": "BAD_REQUEST",
		"message": "name: must not be empty; s3Config.accessKey: is required; s3Config.bucket: must be a string; " +
			"s3Config.region: must be one of: ams1, ca1, ny2; s3Config.secretAccessKey: is required; storageProviderType: is required",
		"details": map[string]any{
			"/name": empty, "/s3Config/accessKey": required, "/s3Config/bucket": text, "/s3Config/region": "must be one of: ams1, ca1, ny2",
			"/s3Config/secretAccessKey": required, "/storageProviderType": required,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRequests is the table of everything that can be wrong with a request but
// its body's content.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "10.1.0.0/16:9000"}})
	id := s.must(t, "POST", "/storage-providers", valid)["id"].(string)
	one := "/storage-providers/" + id
	team := s.must(t, "GET", "/auth/session", "")["team"].(map[string]any)["id"].(string)
	viewer := s.newKey(t, team, "viewer")

	const (
		history  = "/storage-providers/utilization/history"
		badLimit = "must be at least 1"
		badTime  = "must be a time such as 2027-01-31T12:00:00Z"
		badAfter = "must be the nextPage of a page of this very list; leave it out to start again"
	)
	badQuery := func(name, sentence string) map[string]any {
		return map[string]any{"code": "BAD_REQUEST", "message": name + ": " + sentence, "details": map[string]any{name: sentence}}
	}
	plain := func(code, message string) map[string]any { return map[string]any{"code": code, "message": message} }
	var (
		noRoute   = plain("NOT_FOUND", "There is no such path; GET /v1/openapi.json lists those there are.")
		noMethod  = plain("METHOD_NOT_SUPPORTED", "This path does not support this method; the Allow header lists those it does.")
		tooLarge  = plain("PAYLOAD_TOO_LARGE", "The body must be at most 65536 bytes.")
		noJSON    = plain("BAD_REQUEST", "The body must be JSON in UTF-8; send it with Content-Type: application/json.")
		noKey     = plain("UNAUTHORIZED", "A valid API key is needed; send it as Authorization: Bearer KEY.")
		notFound  = plain("NOT_FOUND", "No storage provider with this id exists in your team.")
		needsBody = map[string]any{"code": "BAD_REQUEST", "message": "body: is required", "details": map[string]any{"": required}}
	)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     map[string]any
		allow                    string
	}{
		{name: "limit 0", path: "/storage-providers?limit=0", status: 400, want: badQuery("?limit", badLimit)},
		{name: "limit 121", path: "/storage-providers?limit=121", status: 400, want: badQuery("?limit", "must be at most 120")},
		{name: "limit -1", path: "/storage-providers?limit=-1", status: 400, want: badQuery("?limit", badLimit)},
		{name: "limit 1e9", path: "/storage-providers?limit=1e9", status: 400, want: badQuery("?limit", "must be a whole number")},
		{name: "limit abc", path: "/storage-providers?limit=abc", status: 400, want: badQuery("?limit", "must be a whole number")},
		{name: "limit empty", path: "/storage-providers?limit=", status: 400, want: badQuery("?limit", "must be a whole number")},
		{name: "limit 2^70", path: "/storage-providers?limit=1180591620717411303424", status: 400, want: badQuery("?limit", "must be at most 120")},
		{name: "limit twice", path: "/storage-providers?limit=1&limit=2", status: 400, want: badQuery("?limit", "must be given once only")},
		{name: "order", path: "/storage-providers?order=up", status: 400, want: badQuery("?order", "must be one of: asc, desc")},
		{name: "orderBy", path: "/storage-providers?orderBy=name;drop", status: 400},
		{name: "orderBy name", path: "/storage-providers?orderBy=name", status: 400, want: badQuery("?orderBy", "must be one of: dtCreated")},
		{name: "cursor of nobody's", path: "/storage-providers?after=AAAA", status: 400, want: badQuery("?after", badAfter)},
		{name: "cursor empty", path: "/storage-providers?after=", status: 400, want: badQuery("?after", badAfter)},
		{name: "cursor too long", path: "/storage-providers?after=" + strings.Repeat("A", 513), status: 400, want: badQuery("?after", "must be at most 512 characters")},
		{name: "from of no form", path: history + "?from=yesterday", status: 400, want: badQuery("?from", badTime)},
		{name: "from with a bare plus", path: history + "?from=2026-01-01T00:00:00+01:00", status: 400, want: badQuery("?from", badTime)},
		{name: "to empty", path: history + "?to=", status: 400, want: badQuery("?to", badTime)},
		{name: "step week", path: history + "?step=week", status: 400, want: badQuery("?step", "must be one of: hour, day")},
		{name: "from after to", path: history + "?from=2099-01-02T00:00:00Z&to=2099-01-01T00:00:00Z", status: 400, want: badQuery("?from", "must be earlier than to, and not in the future")},
		{name: "too many hours", path: history + "?from=2020-01-01T00:00:00Z", status: 400, want: badQuery("?from", "must not lead back more than 2200 hours; ask for step=day to go further")},
		{name: "too many days", path: history + "?step=day&from=1970-01-01T00:00:00Z", status: 400, want: badQuery("?from", "must not lead back more than 1830 days, for older figures are not kept")},
		{name: "all that is wrong with a history", path: history + "?step=&from=x&to=y", status: 400},
		{name: "providerId too long", path: history + "?providerId=" + strings.Repeat("s", 65), status: 400, want: badQuery("?providerId", "must be at most 64 characters")},
		{name: "history of an unknown provider", path: history + "?providerId=spl000000000000", status: 404, want: notFound},
		{name: "history of an id of no form", path: history + "?providerId=a%2Fb", status: 404, want: notFound},
		{name: "400 before 404 of a history", path: history + "?providerId=spl000000000000&step=week", status: 400},
		{name: "an error is JSON, whatever is accepted", path: history + "?step=week", headers: []string{"Accept: text/csv"}, status: 400, want: badQuery("?step", "must be one of: hour, day")},
		{name: "wrong method on the history", method: "POST", path: history, status: 405, want: noMethod, allow: "GET, HEAD, OPTIONS"},
		{name: "history has no key", path: history, headers: []string{"Authorization: "}, status: 401, want: noKey},
		{name: "unknown query parameters are ignored", path: "/storage-providers?color=blue", status: 200},
		{name: "unknown route", path: "/storage-provider", status: 404, want: noRoute},
		{name: "below a route", path: one + "/x/y", status: 404, want: noRoute},
		{name: "outside the API", path: "/../admin", status: 404, want: noRoute},
		{name: "one slash at the end is forgiven", path: one + "/", status: 200},
		{name: "unknown id", path: "/storage-providers/spl000000000000", status: 404, want: notFound},
		{name: "an id of no form", path: "/storage-providers/a%2Fb", status: 404, want: notFound},
		{name: "wrong method on the list", method: "DELETE", path: "/storage-providers", status: 405, want: noMethod, allow: "GET, HEAD, POST, OPTIONS"},
		{name: "wrong method on one", method: "PATCH", path: one, status: 405, want: noMethod, allow: "GET, HEAD, PUT, DELETE, OPTIONS"},
		{name: "wrong method on utilization", method: "PUT", path: "/storage-providers/utilization", status: 405, want: noMethod, allow: "GET, HEAD, OPTIONS"},
		{name: "a made-up method", method: "BREW", path: one, status: 405, want: noMethod, allow: "GET, HEAD, PUT, DELETE, OPTIONS"},
		{name: "OPTIONS", method: "OPTIONS", path: one, status: 204, allow: "GET, HEAD, PUT, DELETE, OPTIONS"},
		{name: "body over 64 KiB", method: "POST", path: "/storage-providers", body: `{"x":"` + strings.Repeat("a", 64<<10) + `"}`, status: 413, want: tooLarge},
		{name: "no body", method: "POST", path: "/storage-providers", status: 400, want: needsBody},
		{name: "content type text", method: "POST", path: "/storage-providers", body: valid, headers: []string{"Content-Type: text/plain"}, status: 415, want: noJSON},
		{name: "content type form", method: "POST", path: "/storage-providers", body: valid, headers: []string{"Content-Type: application/x-www-form-urlencoded"}, status: 415, want: noJSON},
		{name: "content type latin1", method: "POST", path: "/storage-providers", body: valid, headers: []string{"Content-Type: application/json; charset=latin1"}, status: 415, want: noJSON},
		{name: "content type with charset", method: "POST", path: "/storage-providers", body: `{}`, headers: []string{"Content-Type: application/json; charset=UTF-8"}, status: 400},
		{name: "http to a public address", method: "POST", path: "/storage-providers", body: with(t, "s3Config.endpoint", `"http://203.0.113.1:9000"`), status: 400},
		{name: "https to a private address", method: "POST", path: "/storage-providers", body: with(t, "s3Config.endpoint", `"https://10.2.0.1:9000"`), status: 400},
		{name: "another port than allowed", method: "POST", path: "/storage-providers", body: with(t, "s3Config.endpoint", `"http://10.1.2.3:9001"`), status: 400},
		{name: "metadata service", method: "POST", path: "/storage-providers", body: with(t, "s3Config.endpoint", `"https://169.254.169.254"`), status: 400},
		{name: "loopback by name", method: "POST", path: "/storage-providers", body: with(t, "s3Config.endpoint", `"https://localhost"`), status: 400},
		{name: "an allowed private address", method: "POST", path: "/storage-providers", body: with(t, "s3Config.endpoint", `"http://10.1.2.3:9000"`), status: 200},
		{name: "If-Match without quotes", method: "DELETE", path: one, headers: []string{"If-Match: x"}, status: 400},
		{
			name: "If-Match of another state", method: "DELETE", path: one, headers: []string{`If-Match: "x"`}, status: 412,
			want: plain("PRECONDITION_FAILED", "The storage provider has changed since you read it; read it again and decide anew."),
		},
		{name: "no key", path: one, headers: []string{"Authorization: "}, status: 401, want: noKey},
		{name: "another scheme", path: one, headers: []string{"Authorization: Basic dTpw"}, status: 401, want: noKey},
		{name: "a malformed key", path: one, headers: []string{"Authorization: Bearer x"}, status: 401, want: noKey},
		{name: "401 before 404", path: "/storage-providers/spl000000000000", headers: []string{"Authorization: Bearer x"}, status: 401, want: noKey},
		{name: "401 before 400", path: "/storage-providers?limit=0", headers: []string{"Authorization: Bearer x"}, status: 401, want: noKey},
		{name: "401 before 413", method: "POST", path: "/storage-providers", body: strings.Repeat("a", 70<<10), headers: []string{"Authorization: Bearer x"}, status: 401, want: noKey},
		{name: "400 before 404", method: "PUT", path: "/storage-providers/spl000000000000", body: `{}`, status: 400},
		{name: "400 before 403", method: "POST", path: "/storage-providers", body: `{}`, headers: []string{"Authorization: Bearer " + viewer}, status: 400},
		{
			name: "403", method: "POST", path: "/storage-providers", body: valid, headers: []string{"Authorization: Bearer " + viewer}, status: 403,
			want: plain("FORBIDDEN", "Your API key has the role viewer; this needs editor or more."),
		},
		{name: "403 before 404", method: "DELETE", path: "/storage-providers/spl000000000000", headers: []string{"Authorization: Bearer " + viewer}, status: 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.method == "" {
				c.method = "GET"
			}
			a := s.do(t, c.method, c.path, c.body, c.headers...)
			if a.Status != c.status {
				t.Fatalf("%d %s, want %d", a.Status, a.Body, c.status)
			}
			if a.Header.Get("Allow") != c.allow {
				t.Errorf("Allow: %q, want %q", a.Header.Get("Allow"), c.allow)
			}
			if got := a.Header.Get("Www-Authenticate"); (got == "Bearer") != (c.status == 401) {
				t.Errorf("WWW-Authenticate: %q", got)
			}
			if len(a.Header.Get("Purser-Request-Id")) != 16 {
				t.Errorf("Purser-Request-Id: %q", a.Header.Get("Purser-Request-Id"))
			}
			if c.want == nil {
				return
			}
			if diff := cmp.Diff(c.want, a.object(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKeysThatDoNotCount proves that a bad key's answer tells nothing about it.
func TestKeysThatDoNotCount(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	revoked := s.must(t, "POST", "/api-keys", `{"name":"k","role":"viewer"}`)
	s.must(t, "DELETE", "/api-keys/"+revoked["id"].(string), "")
	soon := time.Now().Add(time.Second).Format(time.RFC3339Nano)
	expired := s.must(t, "POST", "/api-keys", fmt.Sprintf(`{"name":"k","role":"viewer","expiresAt":%q}`, soon))
	awaitStatus(t, s, expired["key"].(string), http.StatusUnauthorized)

	key := s.Key
	flip := func(i int) string {
		b := []byte(key)
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		return string(b)
	}
	var first answer
	for i, bad := range []string{
		"", "x", "psr_", key[:len(key)-1], key + "A", flip(len(key) - 1), flip(len(key) - 20), flip(8), strings.ToUpper(key),
		revoked["key"].(string), expired["key"].(string), key + " " + key, strings.Repeat("a", 10_000),
	} {
		a := s.as(t, "", "GET", "/storage-providers", "", "Authorization: Bearer "+bad)
		if a.Status != http.StatusUnauthorized {
			t.Fatalf("key %d: %d %s", i, a.Status, a.Body)
		}
		a.Header.Del("Date")
		a.Header.Del("Purser-Request-Id")
		if i == 0 {
			first = a
			continue
		}
		if diff := cmp.Diff(first, a); diff != "" {
			t.Errorf("key %d is answered differently: %s", i, diff)
		}
	}
}
