package metering

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/folders"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

// errPower is a node's end in the middle of a step.
var errPower = errors.New("power cut")

// handRun runs one scan by hand: it takes the place of queue, tick and clock,
// so that workers die, sleep and wake up at every moment there is, and ranges
// are taken over without waiting for a lease to run out.
type handRun struct {
	t       *rapid.T
	f       *fixture
	service *Service
	scan    purser.Scan
	asleep  []*sleeper
}

// sleeper is a worker that was stopped in the middle of a step.
type sleeper struct{ wake, ended chan struct{} }

// offerNow offers the first of the scan's ranges that is not done, whoever holds
// it, as if the lease had run out, and returns the job; false if the scan has
// ended.
func (r *handRun) offerNow() (args sliceArgs, ok bool) {
	ctx := context.Background()
	err := r.f.store.InTx(ctx, func(tx *store.Tx) error {
		ok = false
		ranges, err := tx.ListRanges(ctx, r.scan.TeamID, r.scan.ID)
		if err != nil || len(ranges) == 0 {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(ranges, func(r store.Range) bool { return !r.Done })
		if err := r.service.offer(ctx, tx, ranges[i].RangeKey, now); err != nil {
			return err
		}
		ranges, err = tx.ListRanges(ctx, r.scan.TeamID, r.scan.ID)
		args = sliceArgs{Team: r.scan.TeamID, Scan: r.scan.ID, Range: ranges[i].Number, Fence: ranges[i].Fence}
		ok = true
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return args, ok
}

// die works until a step, in which the worker vanishes: nothing of it is
// written from then on.
func (r *handRun) die(args sliceArgs, bucket *place, step int) {
	bucket.set(func(p *place) {
		p.steps = 0
		p.before = func(_ context.Context, n int) error {
			if n == step {
				return errPower
			}
			return nil
		}
	})
	ctx := context.Background()
	sl, err := r.service.claim(ctx, args, r.service.log)
	if err != nil || sl == nil {
		r.t.Fatalf("claim: %v, %v", sl, err)
	}
	if err := sl.run(ctx); !errors.Is(err, errPower) {
		sl.finish(ctx, err) // it was done, or its time over, before the step
	}
}

// sleeperKey is where the context of a sleeper's work has the sleeper.
type sleeperKey struct{}

// sleep works until a step, in which the worker is stopped until it is woken.
func (r *handRun) sleep(args sliceArgs, bucket *place, step int) {
	s := &sleeper{wake: make(chan struct{}), ended: make(chan struct{})}
	reached := make(chan struct{})
	bucket.set(func(p *place) {
		p.steps = 0
		p.before = func(ctx context.Context, n int) error {
			// Others that sleep may have steps under way, too, and are woken before this one.
			if n == step && ctx.Value(sleeperKey{}) == s {
				close(reached)
				<-s.wake
			}
			return nil
		}
	})
	go func() {
		defer close(s.ended)
		r.service.work(context.WithValue(context.Background(), sleeperKey{}, s), args)
	}()
	select {
	case <-reached:
		r.asleep = append(r.asleep, s)
	case <-s.ended:
	}
	bucket.set(func(p *place) { p.before = nil })
}

func (r *handRun) wakeOne() {
	if len(r.asleep) > 0 {
		s := r.asleep[0]
		r.asleep = r.asleep[1:]
		close(s.wake)
		<-s.ended
	}
}

// TestSumsAreExactWhateverDies has workers die, sleep through their lease and
// come back, slices end and budgets too, in every order, and compares what is published with
// what the bucket holds.
func TestSumsAreExactWhateverDies(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket")
		bucket.splits = true
		p := f.addBucket("bucket")
		folder := string(f.team) + "/"
		rapid.Check(t, func(t *rapid.T) {
			want := fill(t, bucket, folder)
			service := f.service(f.store, func(o *Options) {
				o.times.watch = time.Hour // a stopped worker watches nothing
				o.times.save = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "save")
				o.times.slice = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "slice")
				o.RequestsPerDay = rapid.SampledFrom([]int64{0, 1, 10}).Draw(t, "budget")
			})
			run := &handRun{t: t, f: f, service: service, scan: f.start(service, p.ID)}
			for {
				args, ok := run.offerNow()
				if !ok {
					break
				}
				bucket.set(func(p *place) { p.before = nil })
				step := rapid.IntRange(1, 4).Draw(t, "step")
				switch rapid.SampledFrom([]string{"work", "work", "die", "sleep", "wake", "midnight"}).Draw(t, "event") {
				case "work":
					service.work(context.Background(), args)
				case "die":
					run.die(args, bucket, step)
				case "sleep":
					run.sleep(args, bucket, step)
				case "wake":
					run.wakeOne()
				case "midnight":
					f.midnight()
				}
			}
			published := f.usage(p.ID)
			for len(run.asleep) > 0 {
				run.wakeOne()
			}
			scan := f.await(service, run.scan, ended)
			if scan.State != purser.ScanDone {
				t.Fatalf("%+v, %+v", scan, scan.Error)
			}
			if diff := cmp.Diff(map[purser.Category]purser.Tally(want), published.Tallies); diff != "" {
				t.Fatalf("published is not what is there: %s", diff)
			}
			if diff := cmp.Diff(foldersOf(bucket, folder), published.Folders, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("the folders are not what is there: %s", diff)
			}
			if diff := cmp.Diff(published, f.usage(p.ID)); diff != "" {
				t.Fatalf("a worker that woke up afterwards changed the figures: %s", diff)
			}
			if total := f.teamUsage().Total(); total != scan.Bytes {
				t.Fatalf("the team's total is %d, the scan's %d", total, scan.Bytes)
			}
		})
	})
}

// fill puts other objects into a bucket and returns what they come to.
func fill(t *rapid.T, bucket *place, folder string) store.Tallies {
	keys := rapid.SliceOfNDistinct(rapid.StringMatching(`(datasets|models|notebooks|other)/[a-c/ +%é]{0,3}`), 0, 20, rapid.ID).Draw(t, "keys")
	size := rapid.IntRange(1, 4).Draw(t, "page")
	var sums counts
	categories := map[byte]purser.Category{
		'd': purser.CategoryDataset, 'm': purser.CategoryModel, 'n': purser.CategoryNotebookWorkspace, 'o': purser.CategorySharedStorage,
	}
	bucket.set(func(p *place) { p.entries, p.pageSize = nil, size })
	for i, key := range keys {
		bucket.put(entry(folder+key, int64(1)<<i))
		sums.add(slotOf(categories[key[0]]), source.Current, int64(1)<<i)
	}
	return sums.tallies()
}

// foldersOf counts the folders of a bucket in one go.
func foldersOf(bucket *place, folder string) []purser.FolderLevel {
	page, table := folders.Page{Skip: len(folder)}, folders.Table{Skip: len(folder)}
	for _, e := range bucket.entries {
		page.Count(e.Key, 1, e.Size)
	}
	table.Merge(&page, nil)
	return table.Levels()
}

func TestAStaleWorkerCannotWrite(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		f.world.set("bucket", entry(string(f.team)+"/a", 1))
		p := f.addBucket("bucket")
		service := f.service(f.store)
		scan := f.start(service, p.ID)
		ctx := t.Context()
		first := sliceArgs{Team: f.team, Scan: scan.ID, Fence: 1}
		stale, err := service.claim(ctx, first, service.log)
		if err != nil || stale == nil {
			t.Fatal(stale, err)
		}
		f.inTx(func(ctx context.Context, tx *store.Tx) error { return service.offer(ctx, tx, first.key(), time.Now()) })
		if again, err := service.claim(ctx, first, service.log); again != nil || err != nil {
			t.Errorf("a job whose range was offered anew: %v, %v", again, err)
		}
		stale.done = true
		for name, write := range map[string]func() error{
			"save":      func() error { return stale.saveProgress(ctx, nil) },
			"hand over": func() error { return stale.handOver(ctx) },
			"wait":      func() error { return stale.wait(ctx, errSlow) },
			"fail":      func() error { return stale.fail(ctx, errAbsurd) },
			"publish":   func() error { return stale.publish(ctx) },
		} {
			if err := write(); !errors.Is(err, errLost) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if held, err := stale.held(ctx, true); held || err != nil {
			t.Errorf("the lease was renewed: %t, %v", held, err)
		}
		if got, err := f.store.GetScan(ctx, f.team, scan.ID); err != nil || got.State != purser.ScanRunning || got.Requests != 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestSleepingWorkerIsInterruptedWhenItsRangeIsTakenOver(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	bucket := f.world.set("bucket")
	inside, interrupted := make(chan struct{}), make(chan error, 1)
	bucket.before = func(ctx context.Context, step int) error {
		if step == 1 {
			close(inside)
			<-ctx.Done()
			interrupted <- context.Cause(ctx)
		}
		return ctx.Err()
	}
	p := f.addBucket("bucket")
	service, _ := f.node()
	scan := f.start(service, p.ID)
	<-inside
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		return service.offer(ctx, tx, store.RangeKey{TeamID: f.team, ScanID: scan.ID}, time.Now())
	})
	if err := <-interrupted; !errors.Is(err, errLost) {
		t.Errorf("interrupted by %v", err)
	}
	if got := f.await(service, scan, ended); got.State != purser.ScanDone {
		t.Errorf("%+v", got)
	}
}

// big fills a bucket that takes some hundred steps and returns its size.
func (f *fixture) big(name string) (bucket *place, bytes purser.Bytes) {
	bucket = f.world.set(name)
	for i := range 400 {
		bucket.put(entry(fmt.Sprintf("%s/datasets/%04d", f.team, i), int64(i)))
		bytes += purser.Bytes(i)
	}
	return bucket, bytes
}

// TestADeadNodeIsReplaced takes the database away from a node in the middle of
// its scan, which is all that others see of kill -9, and lets another one go on.
func TestADeadNodeIsReplaced(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket, want := f.big("bucket")
		p := f.addBucket("bucket")
		var scan purser.Scan
		for life := range 4 {
			reached := make(chan struct{})
			var once sync.Once
			bucket.set(func(p *place) {
				p.steps = 0
				p.before = func(ctx context.Context, step int) error {
					if step == 30 {
						once.Do(func() { close(reached) })
					}
					time.Sleep(time.Millisecond) // as a network would
					return ctx.Err()
				}
			})
			service := f.service(f.store, func(o *Options) { o.times.stop = 50 * time.Millisecond })
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan struct{})
			go func() { defer close(gone); _ = service.Run(ctx) }() // what it returns without a database does not matter
			if life == 0 {
				scan = f.start(service, p.ID)
			}
			<-reached
			f.close()
			cancel()
			<-gone
			f.store = f.open()
		}
		bucket.set(func(p *place) { p.before = nil })
		survivor, _ := f.node()
		got := f.await(survivor, scan, ended)
		if got.State != purser.ScanDone || got.Objects != 400 || got.Bytes != want {
			t.Errorf("%+v, %+v; want %d bytes", got, got.Error, want)
		}
		if total := f.teamUsage().Total(); total != want {
			t.Errorf("published %d bytes, want %d", total, want)
		}
	})
}

// TestAStoppedNodeHandsOverAtOnce: with leases of an hour, only what the first
// node offers at its end lets the second one go on.
func TestAStoppedNodeHandsOverAtOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket, want := f.big("bucket")
		reached := make(chan struct{})
		bucket.before = func(ctx context.Context, step int) error {
			if step == 20 {
				close(reached)
				<-ctx.Done()
			}
			return ctx.Err()
		}
		p := f.addBucket("bucket")
		patient := func(o *Options) { o.times.lease, o.times.offer, o.times.slice = time.Hour, time.Hour, time.Hour }
		first, stop := f.node(patient)
		scan := f.start(first, p.ID)
		<-reached
		stop()
		between, err := f.store.GetScan(t.Context(), f.team, scan.ID)
		if err != nil || between.State != purser.ScanRunning || between.Objects != 19*3 {
			t.Errorf("after the stop: %+v, %v", between, err)
		}
		second, _ := f.node(patient)
		if got := f.await(second, scan, ended); got.State != purser.ScanDone || got.Bytes != want {
			t.Errorf("%+v; want %d bytes", got, want)
		}
	})
}

func TestTwoNodesShareTheWork(t *testing.T) {
	t.Parallel()
	f := onPostgres(t)
	const sources = 24
	var total purser.Bytes
	for i := range sources {
		name := fmt.Sprintf("bucket-%d", i)
		f.world.set(name, entry(string(f.team)+"/models/a", int64(i))).before = func(context.Context, int) error {
			time.Sleep(20 * time.Millisecond) // long enough for both to get some
			return nil
		}
		total += purser.Bytes(i)
		p := f.addBucket(name)
		f.inTx(func(ctx context.Context, tx *store.Tx) error {
			src, err := tx.GetSourceOfProvider(ctx, f.team, p.ID)
			if err != nil {
				return err
			}
			return tx.SetDue(ctx, f.team, src.ID, past())
		})
	}
	var ended [2]atomic.Int64
	all := make(chan struct{}, 2*sources)
	for i := range ended {
		f.run(f.service(f.open(), func(o *Options) {
			o.Workers = 2
			o.Observer.ScanEnded = func(purser.ScanState, string) { ended[i].Add(1); all <- struct{}{} }
		}))
	}
	for range sources {
		select {
		case <-all:
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d and %d scans have ended", ended[0].Load(), ended[1].Load())
		}
	}
	scans, err := f.store.ListScans(t.Context(), f.team, purser.PageRequest{Limit: 100})
	if err != nil || len(scans.Items) != sources {
		t.Fatalf("%d scans, want %d; %v", len(scans.Items), sources, err)
	}
	for _, scan := range scans.Items {
		if scan.State != purser.ScanDone {
			t.Errorf("%+v, %+v", scan, scan.Error)
		}
	}
	if u := f.teamUsage(); u.Total() != total || u.PendingSources != 0 {
		t.Errorf("%+v, want %d bytes", u, total)
	}
	if ended[0].Load() == 0 || ended[1].Load() == 0 {
		t.Errorf("the nodes ended %d and %d scans", ended[0].Load(), ended[1].Load())
	}
}

// TestTwoNodesShareOneScan has one big bucket counted by two nodes at once, each
// time that it is counted.
func TestTwoNodesShareOneScan(t *testing.T) {
	t.Parallel()
	f := onPostgres(t)
	bucket := f.world.set("big")
	bucket.splits = true
	var want purser.Bytes
	var entries []source.Entry
	for i := range 3000 {
		entries = append(entries, entry(fmt.Sprintf("%s/models/%05d", f.team, i), int64(i)))
		want += purser.Bytes(i)
	}
	bucket.put(entries...)
	bucket.before = func(context.Context, int) error {
		time.Sleep(10 * time.Millisecond)
		return nil
	}
	p := f.addBucket("big")
	var slices [2]atomic.Int64
	var first *Service
	for i := range slices {
		service := f.service(f.open(), func(o *Options) {
			o.Observer.SliceBegan = func() { slices[i].Add(1) }
		})
		f.run(service)
		if i == 0 {
			first = service
		}
	}
	for range 3 {
		got := f.scan(first, p.ID)
		if got.State != purser.ScanDone || got.Bytes != want || got.Objects != 3000 {
			t.Fatalf("%+v; want %d bytes", got, want)
		}
		if a, b := slices[0].Swap(0), slices[1].Swap(0); a == 0 || b == 0 {
			t.Errorf("the nodes worked on %d and %d slices", a, b)
		}
	}
}

// TestANodeAloneGivesNothing: parts that nobody has asked for would only cost.
func TestANodeAloneGivesNothing(t *testing.T) {
	t.Parallel()
	f := onPostgres(t)
	bucket, want := f.big("big")
	bucket.splits = true
	bucket.before = func(context.Context, int) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	}
	p := f.addBucket("big")
	var slices atomic.Int64
	service, _ := f.node(func(o *Options) {
		o.Observer.SliceBegan = func() { slices.Add(1) }
	})
	if got := f.scan(service, p.ID); got.Bytes != want {
		t.Fatalf("%+v; want %d bytes", got, want)
	}
	if n := slices.Load(); n != 1 {
		t.Errorf("it worked on %d slices, want 1", n)
	}
}

// TestSharingFailsAsTheNodeStops has a save fail that was to leave a part of the
// work to others, while the node stops: what it saves after that must not leave
// the part out.
func TestSharingFailsAsTheNodeStops(t *testing.T) {
	t.Parallel()
	f := onPostgres(t)
	bucket, want := f.big("big")
	bucket.splits = true
	interrupted := make(chan struct{})
	var once sync.Once
	bucket.before = func(ctx context.Context, _ int) error {
		select {
		case <-ctx.Done():
			once.Do(func() { close(interrupted) })
		case <-time.After(10 * time.Millisecond):
		}
		return ctx.Err()
	}
	db := f.store.JobsDB()
	exec := func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.number > 0 THEN PERFORM pg_advisory_xact_lock(1); RAISE 'refused'; END IF;
			RETURN NEW;
		END $$`)
	exec(`CREATE TRIGGER refuse BEFORE INSERT ON ranges FOR EACH ROW EXECUTE FUNCTION refuse()`)
	lock, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.ExecContext(t.Context(), "SELECT pg_advisory_xact_lock(1)"); err != nil {
		t.Fatal(err)
	}

	p := f.addBucket("big")
	service := f.service(f.store, func(o *Options) { o.times.slice = time.Minute })
	scan := f.start(service, p.ID)
	asker := "another node"
	service.asks.Store(&asker)
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		service.work(context.Background(), sliceArgs{Team: f.team, Scan: scan.ID, Fence: 1})
	}()
	for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) { // it gives no signal
		const query = `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted`
		if err := db.QueryRowContext(t.Context(), query).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	service.stop()
	<-interrupted
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	<-worked

	exec("DROP TRIGGER refuse ON ranges")
	bucket.set(func(p *place) { p.before = nil })
	survivor, _ := f.node()
	if got := f.await(survivor, scan, ended); got.State != purser.ScanDone || got.Objects != 400 || got.Bytes != want {
		t.Errorf("%+v, %+v; want 400 objects, %d bytes", got, got.Error, want)
	}
}

// The contract of sources is kept by the model too.
var (
	_ source.Source   = (*reader)(nil)
	_ source.Prober   = (*reader)(nil)
	_ source.Detector = (*reader)(nil)
)
