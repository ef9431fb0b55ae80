package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
	"github.com/purserhq/purser/e2e/canned"
)

// growth measures what grows with what is stored, and what must not: the scan of
// a bucket, the memory of the server, and the team's utilization.
func (b *bench) growth(ctx context.Context, most int) error {
	fmt.Printf("\n| objects in a bucket | first scan s | next scan s | requests | memory MiB | GET utilization /s | p99 ms |\n|---|---|---|---|---|---|---|\n")
	var sizes []int
	var times, memory, rates []float64
	for objects := 100_000; objects <= most; objects *= 10 {
		row, err := b.grownBucket(ctx, objects)
		if err != nil {
			return fmt.Errorf("%d objects: %w", objects, err)
		}
		fmt.Printf("| %d | %.2f | %.2f | %d, %d | %.0f | %.0f | %.1f |\n", objects, row.first.seconds, row.next.seconds,
			row.first.requests, row.next.requests, row.memory, row.usage.rate, row.usage.p99)
		sizes = append(sizes, objects)
		times, memory, rates = append(times, row.next.seconds), append(memory, row.memory), append(rates, row.usage.rate)
	}
	plot("seconds for a scan", "objects", sizes, times)
	plot("MiB of memory", "objects", sizes, memory)
	plot("GET utilization a second", "objects", sizes, rates)

	fmt.Printf("\n| buckets of a team | GET utilization /s | p99 ms |\n|---|---|---|\n")
	sizes, rates = nil, nil
	for _, providers := range []int{1, 100, 10_000} {
		usage, err := b.grownTeam(ctx, providers)
		if err != nil {
			return fmt.Errorf("%d providers: %w", providers, err)
		}
		fmt.Printf("| %d | %.0f | %.1f |\n", providers, usage.rate, usage.p99)
		sizes, rates = append(sizes, providers), append(rates, usage.rate)
	}
	plot("GET utilization a second", "buckets", sizes, rates)
	return nil
}

// plot prints a chart that Markdown viewers know to draw; sizes are tenfold each
// time, so that what grows with them bends upwards and what does not is level.
func plot(what, of string, sizes []int, values []float64) {
	var x, y []string
	for i, size := range sizes {
		x = append(x, strconv.Itoa(size))
		y = append(y, strconv.FormatFloat(values[i], 'f', 2, 64))
	}
	fmt.Printf("\n```mermaid\nxychart-beta\n  title \"%s\"\n  x-axis \"%s\" [%s]\n  y-axis 0 --> %.1f\n  line [%s]\n```\n",
		what, of, strings.Join(x, ", "), 1.2*maxOf(values), strings.Join(y, ", "))
}

func maxOf(values []float64) (most float64) {
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

// grown is what a bucket of some size costs.
type grown struct {
	first, next scanned
	memory      float64 // MiB, the most that the server had
	usage       result
}

type scanned struct {
	seconds  float64 // from asking for it to its end
	requests int64
}

// grownBucket has a new server scan a canned bucket twice: the second time it
// knows where the keys lie.
func (b *bench) grownBucket(ctx context.Context, objects int) (g grown, err error) {
	endpoint, truth, err := serveCanned(ctx, objects)
	if err != nil {
		return g, err
	}
	data := filepath.Join(b.dir, fmt.Sprintf("objects-%d", objects))
	if b.purser, err = b.serve(ctx, data, "--egress-allow", "127.0.0.1/32"); err != nil {
		return g, err
	}
	defer b.purser.stop()
	key, err := os.ReadFile(filepath.Join(data, "operator.key"))
	if err != nil {
		return g, err
	}
	token := strings.TrimSpace(string(key))
	c, err := client.New(client.Config{URL: b.purser.url, APIKey: purser.NewSecret(token)})
	if err != nil {
		return g, err
	}
	draft := purser.ProviderDraft{Name: "canned", S3: purser.S3Config{Bucket: "bench", Endpoint: endpoint, AccessKey: "canned"}, Secret: purser.NewSecret("canned-secret")}
	p, _, err := c.CreateProvider(ctx, draft)
	if err != nil {
		return g, err
	}
	if _, err := c.SetMeteringRules(ctx, p.ID, []purser.MeteringRule{{Category: purser.CategoryDataset}}); err != nil {
		return g, err
	}
	for _, to := range []*scanned{&g.first, &g.next} {
		begin := time.Now()
		scan, err := c.StartScan(ctx, p.ID)
		for err == nil && !scan.State.Ended() {
			time.Sleep(10 * time.Millisecond)
			scan, err = c.GetScan(ctx, scan.ID)
		}
		if err != nil {
			return g, err
		}
		if scan.State != purser.ScanDone || scan.Objects != truth.Objects || int64(scan.Bytes) != truth.Bytes {
			return g, fmt.Errorf("the scan found %+v, the truth is %+v", scan, truth)
		}
		*to = scanned{time.Since(begin).Seconds(), scan.Requests}
	}
	if g.memory, err = b.purser.memoryMiB("VmHWM"); err != nil {
		return g, err
	}
	g.usage, err = b.utilization(ctx, token)
	return g, err
}

// serveCanned serves a bucket from this process, until ctx ends.
func serveCanned(ctx context.Context, objects int) (endpoint string, truth canned.Truth, _ error) {
	keys, err := canned.Shape("flat", objects)
	if err != nil {
		return "", truth, err
	}
	bucket, err := canned.New(keys, canned.Options{})
	if err != nil {
		return "", truth, err
	}
	bucket.Render()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", truth, err
	}
	server := &http.Server{Handler: bucket, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with the program
	return "http://" + l.Addr().String(), bucket.Truth(""), nil
}

// grownTeam measures a team's utilization.
func (b *bench) grownTeam(ctx context.Context, providers int) (r result, err error) {
	data := filepath.Join(b.dir, fmt.Sprintf("providers-%d", providers))
	targets, err := seed(ctx, data, 1, providers)
	if err != nil {
		return r, err
	}
	if b.purser, err = b.serve(ctx, data); err != nil {
		return r, err
	}
	defer b.purser.stop()
	return b.utilization(ctx, targets[0].key)
}

func (b *bench) utilization(ctx context.Context, key string) (result, error) {
	script, err := b.script([]target{{key: key}}, func(target) string { return "/v1/storage-providers/utilization" }, "")
	if err != nil {
		return result{}, err
	}
	return b.wrk(ctx, b.purser.url, script, 32)
}
