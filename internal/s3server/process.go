package s3server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"time"
)

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 5 * time.Second
	pollInterval = 20 * time.Millisecond
	// attempts is how often a port is chosen: somebody else may take it between
	// our look and the child's.
	attempts   = 3
	keepOutput = 8 << 10
)

// Process is a server that runs as a child.
type Process struct {
	endpoint string
	cmd      *exec.Cmd
	stdin    io.Closer
	output   *tail
	done     chan struct{}
	err      error // valid when done is closed
}

// Start begins a server and returns when it answers. command makes the command
// of a child that calls RunChild; its input and output must be unset. The child
// outlives ctx, which bounds only the start: end it with Stop.
func Start(ctx context.Context, command func() *exec.Cmd, o Options) (*Process, error) {
	var err error
	for range attempts {
		var p *Process
		if p, err = start(ctx, command(), o); err == nil {
			return p, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func start(ctx context.Context, cmd *exec.Cmd, o Options) (*Process, error) {
	listen, err := freePort(o.Listen)
	if err != nil {
		return nil, err
	}
	p := &Process{endpoint: "http://" + listen, cmd: cmd, output: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the S3 server: %w", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	err = json.NewEncoder(stdin).Encode(message{Root: o.Root, Versions: o.Versions, Listen: listen, AccessKey: o.AccessKey, Secret: o.Secret.Expose(), Region: o.Region}) //nolint:gosec // over a pipe, to our own child
	if err == nil {
		err = p.wait(ctx)
	}
	if err != nil {
		_ = p.Stop() // the first error matters
		return nil, fmt.Errorf("start the S3 server: %w: %s", err, p.output)
	}
	return p, nil
}

// freePort replaces port 0 by one that is free now.
func freePort(listen string) (string, error) {
	if _, port, err := net.SplitHostPort(listen); err != nil || port != "0" {
		return listen, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// wait returns when the server answers.
func (p *Process) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: time.Second}
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.endpoint+healthPath, nil)
		if err != nil {
			return err
		}
		if response, err := client.Do(r); err == nil {
			_ = response.Body.Close() // only the status counts
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return errors.New("it does not answer")
		case <-time.After(pollInterval):
		}
	}
}

// Endpoint is where the server answers: http://HOST:PORT.
func (p *Process) Endpoint() string { return p.endpoint }

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is the end of what the child wrote.
func (p *Process) Output() string { return p.output.String() }

// Stop ends the child and waits for it. Calling it again does no harm.
func (p *Process) Stop() error {
	_ = p.stdin.Close() // the sign to end; fails when that has happened already
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill() // fails when it has just ended
		<-p.done
	}
	return p.err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if extra := len(t.buf) - keepOutput; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
