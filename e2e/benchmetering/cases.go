package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/s3server"
)

// cannedServer is a canned server that runs as a process of its own, so that
// its processor time is apart.
type cannedServer struct {
	url string
	cmd *exec.Cmd
}

func (b *bench) startCanned(ctx context.Context, keys int, shape string, delay time.Duration) (*cannedServer, error) {
	cmd := exec.CommandContext(ctx, b.self, "-serve", "-keys", strconv.Itoa(keys), "-shape", shape, "-delay", delay.String())
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n') // when all is rendered
	_, url, found := strings.Cut(strings.TrimSpace(line), "serving ")
	if err == nil && !found {
		err = fmt.Errorf("it says %q", line)
	}
	s := &cannedServer{url, cmd}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("the canned server does not serve: %w", err)
	}
	return s, nil
}

func (s *cannedServer) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt) // fails when it has ended
	_ = s.cmd.Wait()
}

func (s *cannedServer) get(ctx context.Context, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	return json.NewDecoder(response.Body).Decode(into)
}

func (s *cannedServer) stats(ctx context.Context) (lists int64, cpuSeconds float64, err error) {
	var stats canned.Stats
	err = s.get(ctx, "/_stats", &stats)
	return stats.Listings, stats.CPUSeconds, err
}

// onCanned compares on a canned server, whose truth is the measure.
func (b *bench) onCanned(ctx context.Context, keys int, shape string, delay time.Duration, title string, contenders func(url string) []contender) ([]row, error) {
	server, err := b.startCanned(ctx, keys, shape, delay)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var truth canned.Truth
	if err := server.get(ctx, "/_truth", &truth); err != nil {
		return nil, err
	}
	return b.compare(ctx, comparison{
		title: title, truth: total{truth.Objects, truth.Bytes}, contenders: contenders(server.url), server: server.stats,
	})
}

// place is the canned bucket.
const place = "bench"

func (b *bench) plain(ctx context.Context) error {
	rows, err := b.onCanned(ctx, b.keys, "flat", 0, fmt.Sprintf("canned, %d keys, flat", b.keys), func(url string) []contender {
		return append(b.ourBucket(url, place, 1, 16), b.bucketPeers(url, place)...)
	})
	if leanest := best(rows, run.memory); leanest != nil {
		b.leanest = leanest.name
	}
	return err
}

func (b *bench) delayed(ctx context.Context) error {
	const delay = 20 * time.Millisecond
	_, err := b.onCanned(ctx, b.keys, "flat", delay, fmt.Sprintf("canned, %d keys, flat, %v a page", b.keys, delay), func(url string) []contender {
		return append(b.ourBucket(url, place, 1, 16), without(b.bucketPeers(url, place), awsList, byFolder)...) // there are no folders
	})
	return err
}

func (b *bench) shapes(ctx context.Context) error {
	for _, shape := range canned.Shapes {
		if shape == "flat" {
			continue // the plain case
		}
		title := fmt.Sprintf("canned, %d keys, %s", b.shapeKeys, shape)
		if _, err := b.onCanned(ctx, b.shapeKeys, shape, 0, title, func(url string) []contender {
			peers := without(b.bucketPeers(url, place), awsList)
			for i := range peers { // a request for every object
				peers[i].once = shape == "one-per-folder" && strings.Contains(peers[i].name, byFolder)
			}
			return append(b.ourBucket(url, place, 1, 16), peers...)
		}); err != nil {
			return err
		}
	}
	return nil
}

// memory shows how memory grows with the bucket: of purser, and of the peer that
// was leanest before.
func (b *bench) memory(ctx context.Context) error {
	for _, keys := range []int{100_000, 1_000_000, 10_000_000} {
		title := fmt.Sprintf("memory, canned, %d keys, flat", keys)
		if _, err := b.onCanned(ctx, keys, "flat", 0, title, func(url string) []contender {
			made := b.ourBucket(url, place, 1, 16)
			for _, peer := range without(b.bucketPeers(url, place), awsList, byFolder) {
				if keys <= 1_000_000 && (peer.name == b.leanest || b.leanest == "") {
					made = append(made, peer)
				}
			}
			return made
		}); err != nil {
			return err
		}
	}
	return nil
}

// real compares on versitygw as the demonstration starts it. It shares the
// cores with its clients, and takes most of them.
func (b *bench) real(ctx context.Context) error {
	root := filepath.Join(b.dir, "s3")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	server, err := s3server.Start(ctx, func() *exec.Cmd { return exec.Command(b.self, s3Child) },
		s3server.Options{Root: root, Listen: "127.0.0.1:0", AccessKey: b.accessKey, Secret: purser.NewSecret(b.secret)})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }() // what was measured is measured
	client, err := minio.New(strings.TrimPrefix(server.Endpoint(), "http://"), &minio.Options{Creds: credentials.NewStaticV4(b.accessKey, b.secret, "")})
	if err != nil {
		return err
	}
	if err := client.MakeBucket(ctx, place, minio.MakeBucketOptions{}); err != nil {
		return err
	}
	t := tree{root: filepath.Join(root, place)}
	for i := range b.realObjects {
		if err := t.file(fmt.Sprintf("datasets/%03d/part-%04d.parquet", i/1000, i%1000)); err != nil {
			return err
		}
	}
	_, err = b.compare(ctx, comparison{
		title: fmt.Sprintf("versitygw, %d objects in %d folders", b.realObjects, (b.realObjects+999)/1000), truth: t.total, warm: true,
		contenders: append(b.ourBucket(server.Endpoint(), place, 1, 4, 16), without(b.bucketPeers(server.Endpoint(), place), awsList)...),
		server:     func(context.Context) (int64, float64, error) { return processorTime(server.PID()) },
	})
	return err
}

// s3Child is the first argument of the process that is the real server.
const s3Child = "s3-server"

// processorTime is what a process has used so far (proc_pid_stat(5): utime and
// stime, in ticks of which Linux makes 100 a second for user space).
func processorTime(pid int) (lists int64, seconds float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, fields, _ := strings.Cut(string(stat), ") ") // behind the name, which may hold anything
	for _, ticks := range strings.Fields(fields)[11:13] {
		n, err := strconv.ParseFloat(ticks, 64)
		if err != nil {
			return 0, 0, err
		}
		seconds += n / 100
	}
	return 0, seconds, nil
}
