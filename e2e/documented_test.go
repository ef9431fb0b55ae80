package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The tests of this file are written by hand from the documented contract, and
// go by its words alone: which fields an answer has, which of them may be null,
// and nothing beyond.

// shape says what a documented field must be: a type, with ? if it may be null.
type shape map[string]any

var (
	documentedConfig = shape{
		"accessKey": "string", "bucket": "string", "endpoint": "string?", "region": "string?", "retainData": "boolean?",
		"secretAccessKey": "string", "signatureVersion": "string?",
	}
	documentedProvider = shape{
		"id": "string", "isManaged": "boolean", "isTeamDefault": "boolean?", "name": "string", "s3Config": documentedConfig,
	}
	documentedUtilization = shape{
		"datasetUsage": "string", "modelUsage": "string", "notebookWorkspaceUsage": "string", "remainingFreeStorage": "string",
		"sharedStorageUsage": "string", "totalFreeStorage": "string", "totalUsage": "string",
	}
)

// conform fails the test unless value has exactly the fields of the shape.
func conform(t *testing.T, at string, value any, want shape) {
	t.Helper()
	object, ok := value.(map[string]any)
	if !ok {
		t.Errorf("%s is %v, not an object", at, value)
		return
	}
	for name := range object {
		if want[name] == nil {
			t.Errorf("%s.%s is not documented", at, name)
		}
	}
	for name, kind := range want {
		field, present := object[name]
		if !present {
			t.Errorf("%s.%s is missing", at, name)
			continue
		}
		if inner, nested := kind.(shape); nested {
			conform(t, at+"."+name, field, inner)
			continue
		}
		named, nullable := strings.CutSuffix(kind.(string), "?")
		if got := kindOf(field); got != named && (got != "null" || !nullable) {
			t.Errorf("%s.%s is a %s, want %s", at, name, got, kind)
		}
	}
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	}
	return fmt.Sprintf("%T", v)
}

func TestDocumentedOperations(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--default-free-storage", "1000"}})

	// POST /storage-providers with the documented example's fields.
	created := s.must(t, "POST", "/storage-providers", `{
  "isTeamDefault": true,
  "name": "string",
  "s3Config": {
    "accessKey": "string",
    "bucket": "string",
    "endpoint": "https://string.example",
    "region": "ny2",
    "retainData": false,
    "secretAccessKey": "string",
    "signatureVersion": "v4"
  },
  "storageProviderType": "s3"
}`)
	conform(t, "create", created, documentedProvider)
	config := created["s3Config"].(map[string]any)
	for name, want := range map[string]any{
		"accessKey": "string", "bucket": "string", "endpoint": "https://string.example", "region": "ny2", "retainData": false,
		"secretAccessKey": "********", "signatureVersion": "v4",
	} {
		if config[name] != want {
			t.Errorf("create: %s is %v, want %v", name, config[name], want)
		}
	}
	if created["isTeamDefault"] != true || created["isManaged"] != false || created["name"] != "string" {
		t.Errorf("create: %v", created)
	}
	one := "/storage-providers/" + created["id"].(string)

	// Only the required fields.
	least := s.must(t, "POST", "/storage-providers", valid)
	conform(t, "create", least, documentedProvider)
	config = least["s3Config"].(map[string]any)
	if config["endpoint"] != nil || config["region"] != nil || config["signatureVersion"] != nil || config["retainData"] != false || least["isTeamDefault"] != false {
		t.Errorf("what was left out is answered as %v", least)
	}
	// What users may not say is ignored, not obeyed.
	sly := s.must(t, "POST", "/storage-providers", edit(t, with(t, "isManaged", "true"), "id", `"spl000000000000"`))
	if sly["isManaged"] != false || sly["id"] == "spl000000000000" {
		t.Errorf("isManaged and id can be set from outside: %v", sly)
	}

	// GET /storage-providers: newest first, 20 to a page.
	list := s.must(t, "GET", "/storage-providers", "")
	if len(list) != 3 || list["hasMore"] != false || list["nextPage"] != nil || len(list["items"].([]any)) != 3 {
		t.Errorf("list: %v", list)
	}
	for _, item := range list["items"].([]any) {
		conform(t, "item", item, documentedProvider)
	}
	if ids := idsOf(list); ids[0] != sly["id"] || ids[2] != created["id"] {
		t.Errorf("not the newest first: %v", ids)
	}
	oldest := s.must(t, "GET", "/storage-providers?limit=1&orderBy=dtCreated&order=asc", "")
	if ids := idsOf(oldest); len(ids) != 1 || ids[0] != created["id"] || oldest["hasMore"] != true {
		t.Errorf("the oldest: %v", oldest)
	}

	// GET /storage-providers/{id}
	got := s.must(t, "GET", one, "")
	conform(t, "get", got, documentedProvider)

	// PUT /storage-providers/{id} replaces the whole.
	updated := s.must(t, "PUT", one, `{"isTeamDefault": false, "name": "new",
		"s3Config": {"accessKey": "string", "bucket": "string", "secretAccessKey": "another"}}`)
	conform(t, "update", updated, documentedProvider)
	config = updated["s3Config"].(map[string]any)
	if updated["name"] != "new" || updated["isTeamDefault"] != false || config["endpoint"] != nil || config["region"] != nil || config["signatureVersion"] != nil {
		t.Errorf("update: %v", updated)
	}

	// GET /storage-providers/utilization
	utilization := s.must(t, "GET", "/storage-providers/utilization", "")
	conform(t, "utilization", utilization, documentedUtilization)
	for name, want := range map[string]string{
		"datasetUsage": "0", "modelUsage": "0", "notebookWorkspaceUsage": "0", "sharedStorageUsage": "0",
		"totalUsage": "0", "totalFreeStorage": "1000", "remainingFreeStorage": "1000",
	} {
		if utilization[name] != want {
			t.Errorf("utilization: %s is %v, want %s", name, utilization[name], want)
		}
	}

	// DELETE /storage-providers/{id}
	deleted := s.must(t, "DELETE", one, "")
	conform(t, "delete", deleted, shape{"id": "string"})
	for _, method := range []string{"GET", "DELETE"} {
		if a := s.do(t, method, one, ""); a.Status != http.StatusNotFound || a.object(t)["code"] != "NOT_FOUND" {
			t.Errorf("%s after the deletion: %d %s", method, a.Status, a.Body)
		}
	}
}

// TestSecretsInUpdates is the settled meaning of every way not to give a secret.
func TestSecretsInUpdates(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	one := "/storage-providers/" + s.must(t, "POST", "/storage-providers", valid)["id"].(string)
	update := edit(t, with(t, "isTeamDefault", "false"), "storageProviderType", "")
	for _, keep := range []string{`"********"`, `""`, "null", ""} {
		if a := s.do(t, "PUT", one, edit(t, update, "s3Config.secretAccessKey", keep)); a.Status != http.StatusOK {
			t.Errorf("secret %s: %d %s", keep, a.Status, a.Body)
		}
		moved := edit(t, edit(t, update, "s3Config.secretAccessKey", keep), "s3Config.bucket", `"stranger"`)
		a := s.do(t, "PUT", one, moved)
		if a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), "/s3Config/secretAccessKey") {
			t.Errorf("secret %s with another bucket: %d %s", keep, a.Status, a.Body)
		}
	}
}

// TestConditions is the settled use of ETag, If-Match and Idempotency-Key.
func TestConditions(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	first := s.do(t, "POST", "/storage-providers", valid, "Idempotency-Key: order-1")
	again := s.do(t, "POST", "/storage-providers", valid, "Idempotency-Key: order-1")
	if string(first.Body) != string(again.Body) || first.Header.Get("ETag") != again.Header.Get("ETag") {
		t.Errorf("a retry is answered %s, first was %s", again.Body, first.Body)
	}
	if a := s.do(t, "POST", "/storage-providers", with(t, "name", `"other"`), "Idempotency-Key: order-1"); a.Status != http.StatusConflict {
		t.Errorf("the key for another body: %d %s", a.Status, a.Body)
	}
	if n := len(s.must(t, "GET", "/storage-providers", "")["items"].([]any)); n != 1 {
		t.Errorf("%d providers were made", n)
	}

	one := "/storage-providers/" + first.object(t)["id"].(string)
	update := edit(t, with(t, "isTeamDefault", "true"), "storageProviderType", "")
	tag := s.do(t, "GET", one, "").Header.Get("ETag")
	if tag == "" || strings.HasPrefix(tag, "W/") {
		t.Fatalf("ETag %q is not a strong one", tag)
	}
	changed := s.do(t, "PUT", one, update, "If-Match: "+tag)
	if changed.Status != http.StatusOK || changed.Header.Get("ETag") == tag {
		t.Errorf("%d %s, ETag %s", changed.Status, changed.Body, changed.Header.Get("ETag"))
	}
	for name, condition := range map[string]string{"the old tag": tag, "a weak tag": "W/" + changed.Header.Get("ETag")} {
		if a := s.do(t, "PUT", one, update, "If-Match: "+condition); a.Status != http.StatusPreconditionFailed {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	changed = s.do(t, "PUT", one, update, "If-Match: *")
	if changed.Status != http.StatusOK {
		t.Errorf("any tag: %d %s", changed.Status, changed.Body)
	}
	if a := s.do(t, "PUT", one, update, "If-Match: "+tag+", "+changed.Header.Get("ETag")); a.Status != http.StatusOK {
		t.Errorf("one of two: %d %s", a.Status, a.Body)
	}
	if a := s.do(t, "PUT", one, update); a.Status != http.StatusOK {
		t.Errorf("without a condition: %d %s", a.Status, a.Body)
	}
}
