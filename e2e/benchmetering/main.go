// Command benchmetering measures purser du beside its peers on this machine and
// in the same run, and prints the results as Markdown tables. make bench-metering
// runs it.
//
// Every run of every program must find the same bytes and objects, or it does
// not count: purser's fault ends the benchmark, a peer's is printed in its row.
// Rounds go through all programs in turn; medians count. What is measured are
// programs, their start included. A peer that is not there is named.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/s3server"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == s3Child {
		s3server.ChildMain()
	}
	log.SetFlags(0)
	var (
		b     bench
		s     serving
		cases string
	)
	flag.StringVar(&b.purser, "purser", "bin/purser", "the program to measure; empty: only peers")
	flag.StringVar(&b.timed, "timed", "bin/timed", "the program that measures")
	flag.StringVar(&b.peers, "peers", "bin/peers", "where the peers are that were built here")
	flag.StringVar(&cases, "cases", strings.Join(caseNames(), ","), "what to measure")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of each measurement")
	flag.IntVar(&b.keys, "keys", 1_000_000, "keys in canned buckets")
	flag.IntVar(&b.shapeKeys, "shape-keys", 200_000, "keys in each of the other shapes")
	flag.IntVar(&b.realObjects, "real-objects", 100_000, "objects on the real server")
	flag.IntVar(&b.files, "files", 1_000_000, "files in each tree")
	flag.StringVar(&b.dir, "dir", os.TempDir(), "where trees and buckets are made")
	flag.BoolVar(&b.slow, "slow", true, "measure the AWS command line too, for one round")
	flag.BoolVar(&s.serve, "serve", false, "be the canned server, with -keys and what follows")
	flag.StringVar(&s.listen, "listen", "127.0.0.1:0", "with -serve: the address")
	flag.StringVar(&s.shape, "shape", "flat", "with -serve: one of "+strings.Join(canned.Shapes, ", "))
	flag.StringVar(&s.quirks, "quirks", "", fmt.Sprintf("with -serve: some of %v", canned.Quirks))
	flag.DurationVar(&s.Delay, "delay", 0, "with -serve: what each page takes longer")
	flag.Float64Var(&s.RPS, "rps", 0, "with -serve: requests a second, beyond which the answer is 503 SlowDown; 0 means no limit")
	flag.IntVar(&s.PageSize, "page-size", 1000, "with -serve: the most keys of a page")
	flag.BoolVar(&s.Versioned, "versioned", false, "with -serve: objects were overwritten and deleted")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := func() error { return b.run(ctx, strings.Split(cases, ",")) }
	if s.serve {
		run = func() error { return s.run(ctx, b.keys) }
	}
	if err := run(); err != nil {
		stop()
		log.Fatal("benchmetering: ", err)
	}
}

// serving is the canned server as a process of its own.
type serving struct {
	canned.Options
	serve                 bool
	listen, shape, quirks string
}

func (s *serving) run(ctx context.Context, n int) error {
	for _, name := range strings.FieldsFunc(s.quirks, func(r rune) bool { return r == ',' }) {
		s.Quirks = append(s.Quirks, canned.Quirk(name))
	}
	keys, err := canned.Shape(s.shape, n)
	if err != nil {
		return err
	}
	bucket, err := canned.New(keys, s.Options)
	if err != nil {
		return err
	}
	bucket.Render()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: bucket, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Printf("canned: serving http://%s\n", l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type bench struct {
	purser, timed, peers               string
	rounds, keys, shapeKeys            int
	realObjects, files                 int
	dir                                string
	slow                               bool
	leanest                            string // the peer that needed the least memory
	missing                            []string
	rclone, mc, s5cmd, aws, du, gdu    string // paths, "" for what is not there
	accessKey, secret, self, configDir string
}

// cases are what can be measured, in the order in which it is.
var cases = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"plain", (*bench).plain},
	{"delayed", (*bench).delayed},
	{"shapes", (*bench).shapes},
	{"memory", (*bench).memory},
	{"real", (*bench).real},
	{"trees", (*bench).trees},
}

func caseNames() (names []string) {
	for _, c := range cases {
		names = append(names, c.name)
	}
	return names
}

func (b *bench) run(ctx context.Context, wanted []string) (err error) {
	for _, name := range wanted {
		if !slices.Contains(caseNames(), name) {
			return fmt.Errorf("there is no case %q; there are %s", name, strings.Join(caseNames(), ", "))
		}
	}
	if b.dir, err = os.MkdirTemp(b.dir, "purser-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.accessKey, b.secret = "AKBENCHMARKBENCHMARK", "secretsecretsecretsecretsecretsecretsecr"
	b.configDir = filepath.Join(b.dir, "config")
	b.find()
	if err := b.introduce(ctx); err != nil {
		return err
	}
	for _, c := range cases {
		if !slices.Contains(wanted, c.name) {
			continue
		}
		if err := c.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// introduce says what is measured, and where.
func (b *bench) introduce(ctx context.Context) error {
	fmt.Printf("%d cores (%s), %s, %s\n\n", runtime.NumCPU(), processor(), runtime.Version(), time.Now().UTC().Format("2 January 2006"))
	for _, path := range []string{b.rclone, b.mc} {
		if path == "" {
			continue
		}
		version, err := moduleVersion(path)
		if err != nil {
			return err
		}
		fmt.Printf("- %s\n", version)
	}
	for _, tool := range []struct {
		path string
		ask  []string
	}{
		{b.purser, []string{"version"}},
		{b.s5cmd, []string{"version"}},
		{b.aws, []string{"--version"}},
		{b.du, []string{"--version"}},
		{b.gdu, []string{"--version"}},
	} {
		if tool.path == "" {
			continue
		}
		version, err := firstLine(ctx, tool.path, tool.ask...)
		if err != nil {
			return err
		}
		fmt.Printf("- %s\n", version)
	}
	if len(b.missing) > 0 {
		fmt.Printf("- not measured, because not found: %s\n", strings.Join(b.missing, ", "))
	}
	floor, err := b.measure(ctx, contender{name: "nothing", command: []string{"true"}, count: func([]byte) (total, error) { return total{}, nil }})
	if err == nil {
		fmt.Printf("- measuring adds %.1f ms, and no program can show less than %.1f MiB\n", floor.Wall.Seconds()*1e3, mebibytes(floor.MaxRSS))
	}
	return err
}
