package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"purser": main})
}

// TestScripts tells the stories of testdata/script. Each runs the real program
// in a directory of its own and without anything of the user's environment.
// Beside what testscript knows, a story may say:
//
//	exits CODE COMMAND...   run a command and compare its exit code
//	canned FILE             answer requests from FILE: "METHOD /path STATUS BODY"
//	                        a line, played in order, the last one for ever; they
//	                        are noted in the file requests
//	serve FLAGS...          run a server on free ports with its data in ./data
//	                        until the story ends, and be its operator
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"canned": startCanned,
			"serve":  startServer,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		code = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if want, _ := strconv.Atoi(args[0]); code != want {
		ts.Fatalf("%s exits with %d, not %d", strings.Join(args[1:], " "), code, want)
	}
}

// startServer runs purser serve and waits until it says that it serves. At the
// end it must stop when it is asked to.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: serve FLAGS...")
	}
	self, err := exec.LookPath("purser")
	ts.Check(err)
	server := exec.Command(self, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", ts.MkAbs("data")}, args...)...)
	server.Dir = ts.MkAbs(".")
	server.Env = []string{"HOME=" + ts.Getenv("HOME")}
	stderr, err := server.StderrPipe()
	ts.Check(err)
	ts.Check(server.Start())
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	url := ""
	for url == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		_, url, _ = strings.Cut(lines.Text(), "purser: serving ")
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, stderr)
	}()
	ts.Defer(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := server.Wait(); err != nil {
			ts.Fatalf("the server ends with %v", err)
		}
	})
	if url == "" {
		ts.Fatalf("the server does not serve:\n%s", said.String())
	}
	ts.Setenv("PURSER_URL", url)
	ts.Setenv("PURSER_API_KEY_FILE", ts.MkAbs("data/operator.key"))
}

// canned is a server whose answers are written down.
type canned struct {
	log string

	mu      sync.Mutex // guards the rest
	answers map[string][]reply
}

type reply struct {
	status int
	body   string
}

func startCanned(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: canned FILE")
	}
	s := &canned{log: ts.MkAbs("requests"), answers: map[string][]reply{}}
	lines := bufio.NewScanner(strings.NewReader(ts.ReadFile(args[0])))
	for lines.Scan() {
		parts := strings.SplitN(lines.Text(), " ", 4)
		if len(parts) != 4 {
			ts.Fatalf("%s is no answer", lines.Text())
		}
		status, err := strconv.Atoi(parts[2])
		ts.Check(err)
		request := parts[0] + " " + parts[1]
		s.answers[request] = append(s.answers[request], reply{status, parts[3]})
	}
	server := httptest.NewServer(s)
	ts.Defer(server.Close)
	ts.Setenv("PURSER_URL", server.URL)
	ts.Setenv("PURSER_API_KEY", "psr_canned")
}

func (s *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.note(fmt.Sprintf("%s %s key=%s if-match=%s %s", r.Method, r.URL, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Header.Get("If-Match"), body))

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Purser-Request-Id", "request0")
	w.Header().Set("Purser-Usage-State", "complete")
	w.Header().Set("Purser-Measured-At", "2026-11-01T10:00:00Z")
	w.Header().Set("Etag", `"tag0"`)
	request := r.Method + " " + r.URL.RequestURI()
	left := s.answers[request]
	if len(left) == 0 {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"code":"NOT_FOUND","message":"There is no such thing."}`)
		return
	}
	if len(left) > 1 {
		s.answers[request] = left[1:]
	}
	if strings.HasPrefix(left[0].body, "<") {
		w.Header().Set("Content-Type", "text/html")
	}
	w.WriteHeader(left[0].status)
	_, _ = io.WriteString(w, left[0].body)
}

func (s *canned) note(line string) {
	f, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer func() { _ = f.Close() }()
	_, _ = f.WriteString(strings.TrimRight(line, " ") + "\n")
}
