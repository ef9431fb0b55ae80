package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

// followScan waits for a scan, unless detach is set, and shows it. It fails if
// the scan that was waited for did.
func (e *environment) followScan(ctx context.Context, c *client.Client, scan purser.Scan, detach bool) error {
	scans := []purser.Scan{scan}
	if !detach {
		if err := e.wait(ctx, c, scans); err != nil {
			return err
		}
	}
	if err := e.printScan(scans[0]); err != nil || detach {
		return err
	}
	return e.verdict(scans)
}

// followScans does for several scans what followScan does for one.
func (e *environment) followScans(ctx context.Context, c *client.Client, scans []purser.Scan, detach bool) error {
	if !detach {
		if err := e.wait(ctx, c, scans); err != nil {
			return err
		}
	}
	people, documents := newTable(scanTitles...), []scanJSON{}
	for _, scan := range scans {
		people.row(scanCells(scan)...)
		documents = append(documents, toScanJSON(scan))
	}
	if len(scans) == 0 && !e.json {
		e.say("There is nothing to measure; register a bucket with: purser provider create")
		return nil
	}
	if err := e.print(documents, people); err != nil || detach {
		return err
	}
	return e.verdict(scans)
}

// verdict tells people what was wrong with scans that have ended.
func (e *environment) verdict(scans []purser.Scan) error {
	var failed error
	for _, scan := range scans {
		if scan.Error != nil {
			e.say("%s: %s %s (%s)", scan.Source, scan.Error.Message, scan.Error.Hint, scan.Error.Code)
		}
		if scan.State != purser.ScanDone {
			e.say("purser: the scan %s of %s: %s", scan.ID, scan.Source, scan.State)
			failed = errSaid
		}
	}
	return failed
}

// watcher shows people how scans go while they are waited for.
type watcher interface {
	look(i int, scan purser.Scan)
	end()
}

// wait waits until all scans have ended, and puts what they are then into scans.
func (e *environment) wait(ctx context.Context, c *client.Client, scans []purser.Scan) error {
	w := e.newWatcher(scans)
	group, waiting := errgroup.WithContext(ctx)
	for i, scan := range scans {
		group.Go(func() error {
			ended, err := c.WaitScan(waiting, scan.ID, func(s purser.Scan) { w.look(i, s) })
			if err == nil {
				scans[i] = ended
			}
			return err
		})
	}
	err := group.Wait()
	w.end()
	if errors.Is(err, context.Canceled) && len(scans) > 0 {
		e.say("Measuring goes on; see purser scan get %s --watch, or end it with purser scan cancel %s.", scans[0].ID, scans[0].ID)
	}
	return err
}

func (e *environment) newWatcher(scans []purser.Scan) watcher {
	switch {
	case e.json:
		return blindWatcher{}
	case terminal(e.stderr) != nil && e.getenv("TERM") != "dumb":
		return newBarWatcher(e.stderr, scans)
	}
	return &lineWatcher{say: e.say, told: map[int]telling{}}
}

// blindWatcher is for programs: they see the end only.
type blindWatcher struct{}

func (blindWatcher) look(int, purser.Scan) {}
func (blindWatcher) end()                  {}

// lineInterval is how often a scan without news is worth a line.
const lineInterval = 10 * time.Second

// lineWatcher writes a line when a scan's state changes, and now and then.
type lineWatcher struct {
	say func(string, ...any)

	mu   sync.Mutex // guards told, and keeps lines whole
	told map[int]telling
}

type telling struct {
	state purser.ScanState
	at    time.Time
}

func (w *lineWatcher) look(i int, s purser.Scan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, now := w.told[i], time.Now()
	if s.State == last.state && now.Sub(last.at) < lineInterval {
		return
	}
	w.told[i] = telling{s.State, now}
	w.say("%s: %s", s.Source, progressText(s))
}

func (w *lineWatcher) end() {}

// progressText says how far a scan is. How much there is to count is not known
// before it has been counted, so there is no percentage.
func progressText(s purser.Scan) string {
	text := fmt.Sprintf("%s, %s, %s, %s", s.State, several(s.Objects, "object"), s.Bytes.Human(), several(s.Requests, "request"))
	if s.Error != nil && !s.State.Ended() { // what it waits for; of one that has ended the verdict tells
		text += ", waiting: " + s.Error.Message
	}
	return text
}

// barWatcher moves a line for each scan at the foot of a terminal.
type barWatcher struct {
	container *mpb.Progress
	bars      []*mpb.Bar
	scans     []atomic.Pointer[purser.Scan]
}

func newBarWatcher(out io.Writer, scans []purser.Scan) *barWatcher {
	w := &barWatcher{
		container: mpb.New(mpb.WithOutput(out), mpb.WithAutoRefresh()),
		scans:     make([]atomic.Pointer[purser.Scan], len(scans)),
	}
	for i := range scans {
		w.scans[i].Store(&scans[i])
		text := func(decor.Statistics) string {
			s := w.scans[i].Load()
			return plain(s.Source) + ": " + progressText(*s)
		}
		w.bars = append(w.bars, w.container.New(0, mpb.SpinnerStyle(), mpb.BarWidth(1),
			mpb.BarFillerOnComplete(" "), mpb.BarFillerOnAbort(" "), mpb.AppendDecorators(decor.Any(text))))
	}
	return w
}

func (w *barWatcher) look(i int, s purser.Scan) {
	w.scans[i].Store(&s)
	if s.State.Ended() {
		w.bars[i].SetTotal(-1, true)
	}
}

// end leaves the last state of each line on the screen.
func (w *barWatcher) end() {
	for _, bar := range w.bars {
		bar.Abort(false) // does nothing to those that are complete
	}
	w.container.Wait()
}
