// Command bench measures a running Purser beside a bare net/http handler that
// answers with the same bytes, on this machine and in the same run, and prints
// the results as Markdown tables. make bench runs it.
//
// The load comes from wrk, because a Go program that makes it would take half of
// what it measures. Rounds alternate between the two servers; medians count.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	var (
		b    bench
		bare = flag.String("bare", "", "be the bare handler: answer with the content of this file")
		most = flag.Int("growth", 0, "measure growth instead, up to so many objects")
	)
	flag.StringVar(&b.binary, "purser", "bin/purser", "the program to measure")
	flag.IntVar(&b.teams, "teams", 1000, "teams in the database")
	flag.IntVar(&b.providers, "providers", 100, "providers of each team")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each measurement")
	flag.DurationVar(&b.duration, "duration", 8*time.Second, "length of a round")
	flag.Parse()
	if *bare != "" {
		log.Fatal(serveBare(*bare))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx, *most); err != nil {
		stop()
		log.Fatal("bench: ", err)
	}
}

// serveBare answers every request with the content of a file: what net/http
// itself can do.
func serveBare(path string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("bare: serving http://" + l.Addr().String())
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})}
	return server.Serve(l)
}

type bench struct {
	binary           string
	teams, providers int
	rounds           int
	duration         time.Duration
	dir              string
	purser           *process
}

func (b *bench) run(ctx context.Context, most int) (err error) {
	if b.dir, err = os.MkdirTemp("", "purser-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if most > 0 {
		return b.growth(ctx, most)
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	log.Printf("filling a database with %d providers in %d teams …", b.teams*b.providers, b.teams)
	data := filepath.Join(b.dir, "data")
	targets, err := seed(ctx, data, b.teams, b.providers)
	if err != nil {
		return err
	}
	if b.purser, err = b.serve(ctx, data); err != nil {
		return err
	}
	defer b.purser.stop()
	if err := b.reads(ctx, targets); err != nil {
		return err
	}
	return b.creates(ctx, targets)
}

// process is a server that was started here.
type process struct {
	cmd *exec.Cmd
	url string
}

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // fails when it has ended
	_ = p.cmd.Wait()
}

// memoryMiB is the memory that the process has in use (VmRSS), or the most that it
// had (VmHWM).
func (p *process) memoryMiB(which string) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(which + `:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0, errors.New("no " + which)
	}
	kib, err := strconv.ParseFloat(string(m[1]), 64)
	return kib / 1024, err
}

var servingLine = regexp.MustCompile(`serving (http://\S+)\n`)

// launch starts a server and waits for the line that says where it serves.
func launch(ctx context.Context, name string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	found := make(chan string, 1)
	go func() {
		var seen bytes.Buffer
		chunk := make([]byte, 32<<10)
		for sent := false; ; {
			n, err := r.Read(chunk)
			if err != nil {
				return
			}
			if sent {
				continue // the log is read and thrown away
			}
			seen.Write(chunk[:n])
			if m := servingLine.FindSubmatch(seen.Bytes()); m != nil {
				found <- string(m[1])
				sent = true
			}
		}
	}()
	select {
	case url := <-found:
		return &process{cmd, url}, nil
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("%s does not serve", name)
	}
}

func (b *bench) serve(ctx context.Context, data string, more ...string) (*process, error) {
	args := []string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", data, "--log-format", "json"}
	return launch(ctx, b.binary, append(args, more...)...)
}

// start measures the start of an empty server and what it needs when idle.
func (b *bench) start(ctx context.Context) error {
	var first, again, memory []float64
	for i := range 10 {
		data := filepath.Join(b.dir, fmt.Sprintf("empty-%d", i))
		for _, times := range []*[]float64{&first, &again} {
			begin := time.Now()
			p, err := b.serve(ctx, data)
			if err != nil {
				return err
			}
			*times = append(*times, float64(time.Since(begin).Milliseconds()))
			if times == &again {
				time.Sleep(2 * time.Second) // idle is what it is after the start
				mib, err := p.memoryMiB("VmRSS")
				if err != nil {
					return err
				}
				memory = append(memory, mib)
			}
			p.stop()
		}
	}
	fmt.Printf("\n| start and rest | median | worst | n |\n|---|---|---|---|\n")
	for _, row := range []struct {
		name, unit string
		values     []float64
	}{{"first start to ready", "ms", first}, {"later start to ready", "ms", again}, {"resident memory, idle", "MiB", memory}} {
		fmt.Printf("| %s | %.0f %s | %.0f %s | %d |\n", row.name, median(row.values), row.unit, slices.Max(row.values), row.unit, len(row.values))
	}
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// reads measures the three reads beside the bare handler.
func (b *bench) reads(ctx context.Context, targets []target) error {
	fmt.Printf("\n| read, 32 connections | purser /s | bare handler /s | ratio | p99 ms | bytes | n |\n|---|---|---|---|---|---|---|\n")
	one := func(t target) string { return "/v1/storage-providers/" + t.provider }
	for _, read := range []struct {
		name    string
		path    func(target) string
		targets int // how many different ones are asked for
	}{
		{"GET one by id, of those in use", one, inUse},
		{"GET one by id, of all", one, len(targets)},
		{"GET list of 20", func(target) string { return "/v1/storage-providers" }, inUse},
		{"GET utilization", func(target) string { return "/v1/storage-providers/utilization" }, inUse},
	} {
		if err := b.read(ctx, read.name, some(targets, read.targets), read.path); err != nil {
			return fmt.Errorf("%s: %w", read.name, err)
		}
	}
	return nil
}

func (b *bench) read(ctx context.Context, name string, targets []target, path func(target) string) error {
	body, err := fetch(ctx, b.purser.url+path(targets[0]), targets[0].key)
	if err != nil {
		return err
	}
	file := filepath.Join(b.dir, "body.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bare, err := launch(ctx, self, "-bare", file)
	if err != nil {
		return err
	}
	defer bare.stop()
	script, err := b.script(targets, path, "")
	if err != nil {
		return err
	}
	var ours, theirs, p99 []float64
	for range b.rounds {
		for _, round := range []struct {
			url   string
			rates *[]float64
		}{{b.purser.url, &ours}, {bare.url, &theirs}} {
			r, err := b.wrk(ctx, round.url, script, 32)
			if err != nil {
				return err
			}
			*round.rates = append(*round.rates, r.rate)
			if round.rates == &ours {
				p99 = append(p99, r.p99)
			}
		}
	}
	fmt.Printf("| %s | %.0f | %.0f | %.0f %% | %.1f | %d | %d |\n", name, median(ours), median(theirs), 100*median(ours)/median(theirs), median(p99), len(body), b.rounds)
	return nil
}

// creates measures durable creates beside the rate at which this disk can make
// one write after the other durable.
func (b *bench) creates(ctx context.Context, targets []target) error {
	const body = `{"name":"Training data","storageProviderType":"s3","s3Config":{"bucket":"training-data","accessKey":"AKIAIOSFODNN7EXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","region":"ca1"}}`
	script, err := b.script(some(targets, inUse), func(target) string { return "/v1/storage-providers" }, body)
	if err != nil {
		return err
	}
	fmt.Printf("\n| durable create | /s | p99 ms | fsyncs of 4 KiB, one after the other, /s | creates per fsync | n |\n|---|---|---|---|---|---|\n")
	for _, connections := range []int{2, 64} {
		var rates, p99, fsyncs []float64
		for range b.rounds {
			synced, err := fsyncRate(b.dir, 3*time.Second)
			if err != nil {
				return err
			}
			r, err := b.wrk(ctx, b.purser.url, script, connections)
			if err != nil {
				return err
			}
			rates, p99, fsyncs = append(rates, r.rate), append(p99, r.p99), append(fsyncs, synced)
		}
		fmt.Printf("| %d clients | %.0f | %.1f | %.0f | %.1f | %d |\n", connections, median(rates), median(p99), median(fsyncs), median(rates)/median(fsyncs), b.rounds)
	}
	return nil
}

// fsyncRate is how many appends of 4 KiB the disk makes durable in a second.
func fsyncRate(dir string, duration time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	block := make([]byte, 4096)
	begin, n := time.Now(), 0
	for ; time.Since(begin) < duration; n++ {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	rate := float64(n) / time.Since(begin).Seconds()
	return rate, errors.Join(f.Close(), os.Remove(f.Name()))
}

func fetch(ctx context.Context, url, key string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// inUse is how many targets are asked for over and over, as by clients at work.
const inUse = 5000

// some returns n targets from all over.
func some(targets []target, n int) []target {
	chosen := make([]target, min(n, len(targets)))
	for i := range chosen {
		chosen[i] = targets[(i*7919)%len(targets)] // a prime, so that none comes twice
	}
	return chosen
}

// script writes what wrk is to send: a request to a target of chance each time.
func (b *bench) script(targets []target, path func(target) string, body string) (string, error) {
	var lua, lines strings.Builder
	for _, t := range targets { // a script could not hold so many
		fmt.Fprintln(&lines, path(t), t.key)
	}
	list := filepath.Join(b.dir, "targets")
	if err := os.WriteFile(list, []byte(lines.String()), 0o600); err != nil {
		return "", err
	}
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	fmt.Fprintf(&lua, `
local body = %q
if body == "" then body = nil end
local requests = {}
init = function(args)
  for line in io.lines(%q) do
    local path, key = line:match("(%%S+) (%%S+)")
    local headers = { ["Authorization"] = "Bearer " .. key }
    if body then headers["Content-Type"] = "application/json" end
    requests[#requests + 1] = wrk.format(%q, path, headers, body)
  end
  math.randomseed(os.time())
end
request = function() return requests[math.random(#requests)] end
`, body, list, method)
	file := filepath.Join(b.dir, "wrk.lua")
	return file, os.WriteFile(file, []byte(lua.String()), 0o600)
}

type result struct{ rate, p99 float64 }

var (
	rateLine  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	p99Line   = regexp.MustCompile(`99%\s+([0-9.]+)(us|ms|s)`)
	errorLine = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

func (b *bench) wrk(ctx context.Context, url, script string, connections int) (result, error) {
	threads := min(2, connections)
	out, err := exec.CommandContext(ctx, "wrk", "-t", strconv.Itoa(threads), "-c", strconv.Itoa(connections),
		"-d", fmt.Sprintf("%ds", int(b.duration.Seconds())), "--latency", "-s", script, url).CombinedOutput()
	if err != nil {
		return result{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	if m := errorLine.FindSubmatch(out); m != nil {
		return result{}, fmt.Errorf("not every answer was right: %s", m[1])
	}
	rate, p99 := rateLine.FindSubmatch(out), p99Line.FindSubmatch(out)
	if rate == nil || p99 == nil {
		return result{}, fmt.Errorf("wrk says something new:\n%s", out)
	}
	r := result{}
	if r.rate, err = strconv.ParseFloat(string(rate[1]), 64); err != nil {
		return r, err
	}
	if r.p99, err = strconv.ParseFloat(string(p99[1]), 64); err != nil {
		return r, err
	}
	r.p99 *= map[string]float64{"us": .001, "ms": 1, "s": 1000}[string(p99[2])]
	return r, nil
}
