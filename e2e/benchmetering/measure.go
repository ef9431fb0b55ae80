package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// used is what a run took, as the program timed tells it.
type used struct {
	Wall, User, Sys time.Duration
	MaxRSS          int64 // bytes
}

// run is one run of a contender, and what the server had to do for it.
type run struct {
	used
	total     total
	lists     int64
	serverCPU float64 // seconds
}

func (r run) wall() float64   { return r.Wall.Seconds() }
func (r run) cpu() float64    { return (r.User + r.Sys).Seconds() }
func (r run) memory() float64 { return mebibytes(r.MaxRSS) }

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// keepOutput is how much of the end of a program's output is kept: some print a
// line for every object.
const keepOutput = 64 << 10

type tail struct{ buf []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*keepOutput {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-keepOutput:]...)
	}
	return len(b), nil
}

// measure runs a contender once.
func (b *bench) measure(ctx context.Context, c contender) (run, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return run{}, err
	}
	defer func() { _ = r.Close() }()
	var stdout, stderr tail
	cmd := exec.CommandContext(ctx, b.timed, c.command...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &stdout, &stderr, []*os.File{w}
	err = cmd.Start()
	_ = w.Close() // the child has its own
	if err != nil {
		return run{}, err
	}
	answer, readErr := io.ReadAll(r)
	if err := errors.Join(cmd.Wait(), readErr, ctx.Err()); err != nil {
		return run{}, fmt.Errorf("%s: %w: %.500s", c.name, err, stderr.buf)
	}
	var one run
	if err := json.Unmarshal(answer, &one.used); err != nil {
		return run{}, fmt.Errorf("%s: %w", c.name, err)
	}
	if one.total, err = c.count(stdout.buf); err != nil {
		err = fmt.Errorf("%s: %w", c.name, err)
	}
	return one, err
}

// row is a contender with its runs, or with what was wrong with them.
type row struct {
	contender
	runs  []run
	fault string
}

// comparison is one table.
type comparison struct {
	title      string
	truth      total
	warm       bool // with a round before that does not count
	contenders []contender
	// server tells what the server has done so far; nil if there is none.
	server func(context.Context) (lists int64, cpuSeconds float64, err error)
}

// compare runs all contenders in turn, and prints the table.
func (b *bench) compare(ctx context.Context, c comparison) ([]row, error) {
	rows := make([]row, len(c.contenders))
	for i := range rows {
		rows[i].contender = c.contenders[i]
	}
	first := 0
	if c.warm {
		first = -1
	}
	for round := first; round < b.rounds; round++ {
		for i := range rows {
			if rows[i].fault != "" || rows[i].once && len(rows[i].runs) > 0 {
				continue
			}
			if err := b.round(ctx, c, &rows[i]); err != nil {
				return nil, err
			}
			if round < 0 {
				rows[i].runs = nil
			}
		}
	}
	c.print(rows)
	return rows, nil
}

// round runs one contender once more. Purser must be right; a peer that is not
// is out of the race.
func (b *bench) round(ctx context.Context, c comparison, r *row) error {
	lists, cpu, err := c.asked(ctx)
	if err != nil {
		return err
	}
	one, fault := b.measure(ctx, r.contender)
	if fault == nil {
		fault = c.judge(r.contender, one.total)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case fault != nil && r.ours:
		return fault
	case fault != nil:
		r.fault = fault.Error()
		return nil //nolint:nilerr // a fault of a peer is printed in its row
	}
	listsAfter, cpuAfter, err := c.asked(ctx)
	one.lists, one.serverCPU = listsAfter-lists, cpuAfter-cpu
	r.runs = append(r.runs, one)
	return err
}

// judge says what is wrong with what a contender found.
func (c comparison) judge(by contender, found total) error {
	want := total{c.truth.objects, c.truth.bytes + by.adds}
	if found.objects < 0 {
		want.objects = -1 // it does not tell
	}
	if found != want {
		return fmt.Errorf("%s found %d objects with %d bytes of %d with %d", by.name, found.objects, found.bytes, want.objects, want.bytes)
	}
	return nil
}

func (c comparison) asked(ctx context.Context) (lists int64, cpuSeconds float64, err error) {
	if c.server == nil {
		return 0, 0, nil
	}
	return c.server(ctx)
}

// print prints the table: medians, with the least in brackets.
func (c comparison) print(rows []row) {
	fmt.Printf("\n| %s | wall s | CPU s | memory MiB | LISTs | server CPU s | n |\n|---|---|---|---|---|---|---|\n", c.title)
	for _, r := range rows {
		if r.fault != "" {
			fmt.Printf("| %s | fails: %s | | | | | |\n", r.name, strings.Join(strings.Fields(strings.ReplaceAll(r.fault, "|", "/")), " "))
			continue
		}
		lists, cpu := "", ""
		if n := r.median(func(r run) float64 { return float64(r.lists) }); n > 0 {
			lists = fmt.Sprintf("%.0f", n)
		}
		if s := r.median(func(r run) float64 { return r.serverCPU }); s > 0 {
			cpu = fmt.Sprintf("%.2f", s)
		}
		fmt.Printf("| %s | %s | %s | %.0f | %s | %s | %d |\n", r.name, r.cell(run.wall), r.cell(run.cpu), r.median(run.memory), lists, cpu, len(r.runs))
	}
	fmt.Println()
	for _, ours := range rows {
		if ours.ours {
			fmt.Printf("%s, best peer ÷ purser: wall %s, CPU %s, memory %s.\n", ours.name,
				against(ours, rows, run.wall), against(ours, rows, run.cpu), against(ours, rows, run.memory))
		}
	}
}

// against is how many times the best peer took of what ours takes.
func against(ours row, rows []row, of func(run) float64) string {
	best := best(rows, of)
	if best == nil {
		return "no peer"
	}
	return fmt.Sprintf("%.1f (%s)", best.median(of)/ours.median(of), best.name)
}

// best is the peer that takes least of something, nil if there is no peer.
func best(rows []row, of func(run) float64) (best *row) {
	for i, r := range rows {
		if !r.ours && r.fault == "" && (best == nil || r.median(of) < best.median(of)) {
			best = &rows[i]
		}
	}
	return best
}

func (r row) values(of func(run) float64) (values []float64) {
	for _, one := range r.runs {
		values = append(values, of(one))
	}
	slices.Sort(values)
	return values
}

func (r row) median(of func(run) float64) float64 {
	values := r.values(of)
	n := len(values)
	return (values[n/2] + values[(n-1)/2]) / 2
}

func (r row) cell(of func(run) float64) string {
	return fmt.Sprintf("%.3g (%.3g)", r.median(of), r.values(of)[0])
}
