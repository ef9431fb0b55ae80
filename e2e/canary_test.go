package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

// forms are the spellings that a secret is looked for in: as it is and in pieces
// of twelve bytes, in base64 at each of its three alignments, in hex, escaped
// for URLs and for JSON.
func forms(secret string) map[string]string {
	list := map[string]string{
		"raw": secret, "hex": hex.EncodeToString([]byte(secret)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"URL-encoded": url.QueryEscape(secret), "path-encoded": url.PathEscape(secret),
	}
	for i := 0; i+12 <= len(secret); i += 6 {
		list[fmt.Sprintf("piece at %d", i)] = secret[i : i+12]
	}
	for offset := range 3 {
		whole := secret[offset : offset+(len(secret)-offset)/3*3]
		list[fmt.Sprintf("base64 at %d", offset)] = base64.RawStdEncoding.EncodeToString([]byte(whole))
		list[fmt.Sprintf("base64url at %d", offset)] = base64.RawURLEncoding.EncodeToString([]byte(whole))
	}
	if quoted, err := json.Marshal(secret); err == nil {
		list["JSON"] = string(quoted[1 : len(quoted)-1])
	}
	return list
}

// canaries looks for secrets in places.
type canaries map[string]string // name → secret

func (c canaries) check(t *testing.T, place string, content []byte) {
	t.Helper()
	for name, secret := range c {
		for form, text := range forms(secret) {
			if bytes.Contains(content, []byte(text)) {
				t.Errorf("%s holds the %s (%s)", place, name, form)
			}
		}
	}
}

// TestCheckFindsCanaries proves that the check can fail.
func TestCheckFindsCanaries(t *testing.T) {
	t.Parallel()
	const secret = "can/ary+0123456789abcdef"
	for name, hidden := range map[string]string{
		"raw": "x" + secret, "piece": "…" + secret[6:18] + "…", "hex": fmt.Sprintf("%x", "--"+secret),
		"base64 0": base64.StdEncoding.EncodeToString([]byte(secret)), "base64 1": base64.StdEncoding.EncodeToString([]byte("x" + secret)),
		"base64 2": base64.URLEncoding.EncodeToString([]byte("xy" + secret)), "URL": url.Values{"k": {secret}}.Encode(),
	} {
		found := false
		for _, text := range forms(secret) {
			found = found || strings.Contains(hidden, text)
		}
		if !found {
			t.Errorf("hidden as %s, it is not found", name)
		}
	}
}

// TestCanaries sends secrets through everything that the server does, right and
// wrong, and then looks for them everywhere.
func TestCanaries(t *testing.T) {
	t.Parallel()
	c := canaries{
		"secret of a create": "cnry/1+" + rand.Text(), "secret of an update": "cnry/2+" + rand.Text(),
		"secret of a refused create": "cnry/3+" + rand.Text(), "secret in broken JSON": "cnry/4+" + rand.Text(),
		"secret in a wrong field": "cnry/5+" + rand.Text(), "secret of a key that does not count": "cnry/6+" + rand.Text(),
	}
	s := start(t, options{args: []string{"--log-level", "debug", "--egress-allow", "127.0.0.1/32"}})
	var answers bytes.Buffer
	ask := func(key, method, path, body string, headers ...string) answer {
		t.Helper()
		a := s.as(t, key, method, path, body, headers...)
		for name, values := range a.Header {
			fmt.Fprintf(&answers, "%s: %s\n", name, values)
		}
		answers.Write(append(a.Body, '\n'))
		return a
	}
	secret := func(name string) string { return fmt.Sprintf("%q", c[name]) }
	store := s3servertest.Start(t) // where none of the secrets is right
	store.CreateBucket(t, "training")
	withSecret := func(name string) string {
		body := edit(t, with(t, "s3Config.secretAccessKey", secret(name)), "s3Config.endpoint", fmt.Sprintf("%q", store.Endpoint))
		return edit(t, body, "s3Config.accessKey", fmt.Sprintf("%q", store.AccessKey))
	}

	created := ask(s.Key, "POST", "/storage-providers", withSecret("secret of a create"), "Idempotency-Key: k1")
	one := "/storage-providers/" + created.object(t)["id"].(string)
	update := edit(t, edit(t, withSecret("secret of an update"), "isTeamDefault", "true"), "storageProviderType", "")
	ask(s.Key, "PUT", one, update)
	refused := withSecret("secret of a refused create")
	for _, body := range []string{edit(t, refused, "name", "1"), edit(t, refused, "s3Config.region", `"mars"`), refused[:len(refused)-1], refused + "x"} {
		ask(s.Key, "POST", "/storage-providers", body)
	}
	broken := secret("secret in broken JSON")
	for _, body := range []string{`{"name":` + broken, broken, `{` + broken + `:1,` + broken + `:2}`, `{"name":` + broken + `,"name":1}`} {
		ask(s.Key, "POST", "/storage-providers", body)
	}
	wrong := secret("secret in a wrong field")
	ask(s.Key, "POST", "/storage-providers", with(t, "storageProviderType", wrong))
	ask(s.Key, "POST", "/storage-providers", with(t, "s3Config.region", wrong))
	ask(s.Key, "POST", "/storage-providers", with(t, "s3Config.endpoint", `"https://u:`+c["secret in a wrong field"]+`@x.example"`))
	ask(s.Key, "GET", "/storage-providers?limit="+url.QueryEscape(c["secret in a wrong field"]), "")
	ask(s.Key, "GET", "/storage-providers/"+url.PathEscape(c["secret in a wrong field"]), "")
	ask(c["secret of a key that does not count"], "GET", "/storage-providers", "")
	ask("psr_key000000000000_"+c["secret of a key that does not count"], "GET", "/storage-providers", "")

	// An API key is shown once, in the answer that creates it, which is not searched.
	key := s.must(t, "POST", "/api-keys", `{"name":"k","role":"owner"}`, "Idempotency-Key: k2")
	c["API key"] = key["key"].(string)[len("psr_key000000000000_"):]
	c["operator's key"] = s.Key[len("psr_key000000000000_"):]
	scan := ask(s.Key, "POST", "/scans", `{}`).object(t)["items"].([]any)[0].(map[string]any)["id"].(string)
	awaitScan(t, s, scan, "failed") // the secret was opened and used
	for _, operation := range operations(t) {
		if path, get := strings.CutPrefix(operation, "GET "); get {
			ask(key["key"].(string), "GET", replaceID(path, one[len("/storage-providers/"):]), "")
		}
	}
	ask(key["key"].(string), "DELETE", "/api-keys/"+key["id"].(string), "")
	metrics, err := request(s.Admin+"/metrics", "", "GET", "")
	if err != nil || metrics.Status != http.StatusOK {
		t.Fatalf("metrics: %v %d", err, metrics.Status)
	}
	sealKey, err := os.ReadFile(filepath.Join(s.Dir, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(strings.TrimSpace(string(sealKey)), ":")
	if body == "" {
		body = strings.TrimSpace(string(sealKey))
	}
	c["key of the seal"] = body[len(body)-40:]
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}

	c.check(t, "the log", []byte(s.log.String()))
	c.check(t, "an answer", answers.Bytes())
	c.check(t, "the metrics", metrics.Body)
	c.check(t, "the arguments", cmdline)
	checkFiles(t, c, s.Dir)
	s.stop(t)
	checkFiles(t, c, s.Dir) // after the checkpoint too
	c.check(t, "the log", []byte(s.log.String()))
}

// checkFiles looks at every file of a data directory but the two that hold keys.
func checkFiles(t *testing.T, c canaries, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, entry := range entries {
		if entry.Name() == "seal.key" || entry.Name() == "operator.key" {
			info, err := entry.Info()
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, %v", entry.Name(), info.Mode(), err)
			}
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, entry.Name(), content)
		seen += len(content)
	}
	if seen < 100_000 {
		t.Errorf("only %d bytes of files were looked at", seen)
	}
}
