package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// demonstration starts purser demo and returns what it says as it comes.
func demonstration(t *testing.T, args ...string) (cmd *exec.Cmd, said *buffer, data *bytes.Buffer) {
	t.Helper()
	cmd = exec.Command(binary, append([]string{"demo", "--listen", "127.0.0.1:0"}, args...)...)
	said, data = newBuffer(), &bytes.Buffer{}
	cmd.Stderr, cmd.Stdout = said, data
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // fails when it has ended
	return cmd, said, data
}

var sameTotal = regexp.MustCompile(`(?m)^total +([1-9][0-9]+)  +([1-9][0-9]+) `)

// TestDemo proves that the first thing that a newcomer runs works to its end,
// also a second time in the same directory.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	for range 2 {
		cmd, said, data := demonstration(t, "--once", "--data-dir", dir)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		if m := sameTotal.FindSubmatch(data.Bytes()); m == nil || !bytes.Equal(m[1], m[2]) {
			t.Errorf("it shows:\n%s", data)
		}
	}
}

// TestDemoEndsWithCtrlC proves that leaving it is no failure.
func TestDemoEndsWithCtrlC(t *testing.T) {
	t.Parallel()
	cmd, said, _ := demonstration(t)
	done := make(chan struct{})
	var err error
	go func() { err = cmd.Wait(); close(done) }()
	if said.find(regexp.MustCompile("Ctrl-C ends"), done, time.Minute) == nil {
		t.Fatalf("it is not ready:\n%s", said)
	}
	check(t, cmd.Process.Signal(syscall.SIGINT))
	if <-done; err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
