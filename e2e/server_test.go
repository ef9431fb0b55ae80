// Package e2e tests the whole program from outside: the real binary, real
// databases, a real S3 server. It knows nothing of the program's insides.
package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

// binary is the program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	s3servertest.Child()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "purser-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // some servers run as nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binary = filepath.Join(dir, "purser")
	build := exec.Command("go", "build", "-o", binary, "github.com/purserhq/purser/cmd/purser")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// options say how a server is started; the zero value is embedded defaults in a
// directory of the test's own.
type options struct {
	dataDir  string   // default: a temporary one
	database string   // --database-url; default: SQLite in dataDir
	args     []string // more arguments to serve
	env      []string // more environment
	nobody   bool     // run as a user with no rights
}

// server is a running purser process.
type server struct {
	URL   string // of the API's listener, without /v1
	Admin string // of the second listener
	Key   string // the operator's key
	Dir   string // the data directory
	log   *buffer
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
	err   error         // how it ended; valid when done is closed
	opts  options
}

// buffer collects output and lets a test wait for a line of it.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
	more chan struct{} // closed and replaced on each write
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{})} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data.Write(p)
	close(b.more)
	b.more = make(chan struct{})
	return len(p), nil
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// find waits until the output matches and returns the submatches; nil when done
// is closed first or time is up.
func (b *buffer) find(re *regexp.Regexp, done <-chan struct{}, timeout time.Duration) []string {
	limit := time.After(timeout)
	for {
		b.mu.Lock()
		text, more := b.data.String(), b.more
		b.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-more:
		case <-done:
			return re.FindStringSubmatch(b.String())
		case <-limit:
			return nil
		}
	}
}

var (
	servingLine = regexp.MustCompile(`(?m)^purser: serving (http://\S+)$`)
	adminField  = regexp.MustCompile(`"admin":"([^"]+)"`)
)

// start starts a server and waits until it serves. The test's end stops it.
func start(t testing.TB, o options) *server {
	t.Helper()
	s := launch(t, o)
	m := s.log.find(servingLine, s.done, 60*time.Second)
	if m == nil {
		t.Fatalf("the server did not start: %v\n%s", s.err, s.log)
	}
	s.URL = m[1]
	if m := adminField.FindStringSubmatch(s.log.String()); m != nil {
		s.Admin = "http://" + m[1]
	}
	key, err := os.ReadFile(filepath.Join(s.Dir, "operator.key"))
	if err != nil && o.database == "" {
		t.Fatal(err)
	}
	s.Key = strings.TrimSpace(string(key))
	return s
}

// nobody is the user with no rights.
const nobody = 65534

// launch starts a server without waiting for anything.
func launch(t testing.TB, o options) *server {
	t.Helper()
	if o.dataDir == "" {
		o.dataDir = filepath.Join(t.TempDir(), "data")
	}
	args := append([]string{
		"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", o.dataDir, "--log-format", "json",
	}, o.args...)
	s := &server{Dir: o.dataDir, log: newBuffer(), done: make(chan struct{}), opts: o, cmd: exec.Command(binary, args...)}
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, o.env...)
	if o.nobody && os.Getuid() == 0 {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if o.database != "" {
		s.cmd.Env = append(s.cmd.Env, "PURSER_DATABASE_URL="+o.database)
	}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the log of the server in %s ends:\n%s", s.Dir, tail(s.log.String(), 4000))
		}
	})
	return s
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}

// kill ends the process as a power cut would, and waits until it is gone.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // fails only when it is gone already
	<-s.done
}

// stop ends the process as an operator would, and fails the test unless that
// works.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.done:
	case <-time.After(40 * time.Second):
		t.Fatalf("the server does not stop\n%s", tail(s.log.String(), 4000))
	}
	if s.err != nil {
		t.Fatalf("the server ended with %v\n%s", s.err, tail(s.log.String(), 4000))
	}
}

// restart starts a new process on the data of one that has ended.
func (s *server) restart(t testing.TB) *server {
	t.Helper()
	o := s.opts
	o.dataDir = s.Dir
	return start(t, o)
}

// answer is what came back for a request.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// decode reads the body into v.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("status %d, body %q: %v", a.Status, a.Body, err)
	}
}

// object returns the body as a JSON object.
func (a answer) object(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	a.decode(t, &v)
	return v
}

// httpClient follows no redirects: whoever answers with one would be seen.
var httpClient = &http.Client{
	Timeout:       60 * time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// request sends one request; headers come as "Name: value". The key goes along
// unless it is empty, and bodies are sent as JSON unless a header says otherwise.
func request(url, key, method, body string, headers ...string) (answer, error) {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, url, reader)
	if err != nil {
		return answer{}, err
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	response, err := httpClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, content}, err
}

// do sends a request to the API with the operator's key.
func (s *server) do(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	return s.as(t, s.Key, method, path, body, headers...)
}

// as sends a request to the API with a key.
func (s *server) as(t testing.TB, key, method, path, body string, headers ...string) answer {
	t.Helper()
	a, err := request(s.URL+"/v1"+path, key, method, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	checkAnswer(t, method, path, a)
	return a
}

// must sends a request with the operator's key, fails the test unless it is
// answered with 200, and returns the body.
func (s *server) must(t testing.TB, method, path, body string, headers ...string) map[string]any {
	t.Helper()
	a := s.do(t, method, path, body, headers...)
	if a.Status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Body)
	}
	return a.object(t)
}

// newTeam makes a team and returns its id and an owner's key.
func (s *server) newTeam(t testing.TB, namespace string) (id, key string) {
	t.Helper()
	team := s.must(t, "POST", "/teams", fmt.Sprintf(`{"name":%q,"namespace":%q}`, namespace, namespace))
	id = team["id"].(string)
	return id, s.newKey(t, id, "owner")
}

// newKey makes a key for a team.
func (s *server) newKey(t testing.TB, team, role string) string {
	t.Helper()
	return s.must(t, "POST", "/api-keys", fmt.Sprintf(`{"name":%q,"role":%q,"teamId":%q}`, role, role, team))["key"].(string)
}

// eventually asks again until it is told yes, or fails the test: for what
// happens by itself in another process, which gives no signal.
func eventually(t testing.TB, timeout time.Duration, what string, yes func() bool) {
	t.Helper()
	limit := time.Now().Add(timeout)
	for !yes() {
		if time.Now().After(limit) {
			t.Fatalf("after %s still not: %s", timeout, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitStatus waits until a key is answered with a status.
func awaitStatus(t testing.TB, s *server, key string, status int) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("status %d", status), func() bool {
		return s.as(t, key, "GET", "/storage-providers", "").Status == status
	})
}

// replaceID puts an id into a path or a body.
func replaceID(s, id string) string { return strings.ReplaceAll(s, "{id}", id) }

// teamOf returns the team that a key acts for.
func teamOf(t testing.TB, s *server, key string) string {
	t.Helper()
	return s.as(t, key, "GET", "/auth/session", "").object(t)["team"].(map[string]any)["id"].(string)
}
