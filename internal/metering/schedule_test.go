package metering

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

func (f *fixture) sources(team purser.TeamID) []store.Source {
	f.t.Helper()
	sources, err := f.store.ListSources(context.Background(), team)
	if err != nil {
		f.t.Fatal(err)
	}
	return sources
}

// past is a time that has come by the database's clock, which may be a moment
// behind this one.
func past() time.Time { return time.Now().Add(-time.Second) }

// awaitUsage asks for a team's usage until ok accepts it.
func (f *fixture) awaitUsage(ok func(store.TeamUsage) bool) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(f.teamUsage()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("the team's usage stays %+v\n%s", f.teamUsage(), f.logs)
		}
	}
}

func TestDueSourcesAreScannedAgainAndAgain(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket", entry(string(f.team)+"/models/a", 1))
		p := f.addBucket("bucket")
		f.inTx(func(ctx context.Context, tx *store.Tx) error {
			return tx.SetDue(ctx, f.team, f.sources(f.team)[0].ID, past())
		})
		f.node(func(o *Options) { o.ScanInterval = 100 * time.Millisecond })
		f.awaitUsage(func(u store.TeamUsage) bool { return u.Total() == 1 })
		bucket.put(entry(string(f.team)+"/models/b", 10))
		f.awaitUsage(func(u store.TeamUsage) bool { return u.Total() == 11 })
		if got := f.usage(p.ID).Tallies[purser.CategoryModel].Objects; got != 2 {
			t.Errorf("%d objects", got)
		}
	})
}

func TestTheNextScanIsDueAnIntervalLater(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	f.world.set("bucket")
	f.addBucket("bucket")
	service := f.service(f.store, func(o *Options) { o.ScanInterval = time.Hour })
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		return tx.SetDue(ctx, f.team, f.sources(f.team)[0].ID, past())
	})
	before := time.Now()
	if more, err := service.startDue(t.Context()); more || err != nil {
		t.Fatal(more, err)
	}
	src := f.sources(f.team)[0]
	if wait := src.DueAt.Sub(before); wait < 53*time.Minute || wait > 67*time.Minute {
		t.Errorf("due again after %s", wait)
	}
	scan, err := f.store.GetRunningScan(t.Context(), f.team, src.ID)
	if err != nil || scan.State != purser.ScanQueued {
		t.Errorf("%+v, %v", scan, err)
	}
	// A second node that saw the source due at the same moment starts nothing.
	if err := service.startScheduled(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if again := f.sources(f.team)[0]; !again.DueAt.Equal(src.DueAt) {
		t.Errorf("put off to %s", again.DueAt)
	}
}

func TestANodeStartsNoMoreThanItHasWorkersFor(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	f.world.set("bucket")
	for range 5 {
		f.addBucket("bucket")
	}
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		for _, src := range f.sources(f.team) {
			if err := tx.SetDue(ctx, f.team, src.ID, past()); err != nil {
				return err
			}
		}
		return nil
	})
	service := f.service(f.store, func(o *Options) { o.Workers = 2 })
	service.busy.Add(2)
	if more, err := service.startDue(t.Context()); more || err != nil || f.started() != 0 {
		t.Errorf("a busy node: %t, %v, %d started", more, err, f.started())
	}
	service.busy.Add(-2)
	for i, want := range []struct {
		started int
		more    bool
	}{{2, true}, {4, true}, {5, false}} {
		more, err := service.startDue(t.Context())
		if err != nil || more != want.more || f.started() != want.started {
			t.Errorf("tick %d: %t, %v, %d started", i, more, err, f.started())
		}
	}
}

func (f *fixture) started() int {
	f.t.Helper()
	page, err := f.store.ListScans(context.Background(), f.team, purser.PageRequest{Limit: 100})
	if err != nil {
		f.t.Fatal(err)
	}
	return len(page.Items)
}

func TestTrees(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		shared := purser.Tree{Category: purser.CategorySharedStorage, Path: "/srv/shared/{team}"}
		books := purser.Tree{Category: purser.CategoryNotebookWorkspace, Path: "/srv/books/{team}"}
		f.world.set(shared.Root(f.team), entry("a", 1), entry("datasets/b", 10))
		f.world.set(books.Root(f.team), entry("c", 100))
		service, stop := f.node(func(o *Options) { o.Trees = []purser.Tree{shared, books} })
		f.awaitUsage(func(u store.TeamUsage) bool {
			return u.SharedStorage == 11 && u.NotebookWorkspace == 100 && u.PendingSources == 0
		})
		scans, err := service.StartAll(t.Context(), f.editor)
		if err != nil || len(scans) != 2 || scans[0].ProviderID != "" {
			t.Errorf("StartAll: %+v, %v", scans, err)
		}
		for _, scan := range scans {
			got := f.await(service, scan, ended)
			if got.State != purser.ScanDone || got.Source != shared.Root(f.team) && got.Source != books.Root(f.team) {
				t.Errorf("%+v, %+v", got, got.Error)
			}
		}

		late := f.addTeam("late")
		f.world.set(shared.Root(late))
		f.world.set(books.Root(late))
		for deadline := time.Now().Add(20 * time.Second); len(f.sources(late)) != 2; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("a new team has %d trees", len(f.sources(late)))
			}
		}
		stop()

		// A tree that is no longer configured does not count any more.
		f.node(func(o *Options) { o.Trees = []purser.Tree{books} })
		f.awaitUsage(func(u store.TeamUsage) bool { return u.SharedStorage == 0 && u.NotebookWorkspace == 100 })
		if sources := f.sources(f.team); len(sources) != 1 || !isPartOf(sources[0], books) {
			t.Errorf("sources left: %+v", sources)
		}
	})
}

func TestATreeThatGoesEndsItsScan(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	tree := purser.Tree{Category: purser.CategorySharedStorage, Path: "/srv/{team}"}
	with := f.service(f.store, func(o *Options) { o.Trees = []purser.Tree{tree} })
	with.addTrees(t.Context())
	scans, err := with.StartAll(t.Context(), f.editor)
	if err != nil || len(scans) != 1 {
		t.Fatal(scans, err)
	}
	without := f.service(f.store)
	if none, err := without.StartAll(t.Context(), f.editor); err != nil || len(none) != 1 || none[0].ID != scans[0].ID {
		t.Errorf("a scan under way is answered with: %+v, %v", none, err)
	}
	without.clean(t.Context())
	got, err := f.store.GetScan(t.Context(), f.team, scans[0].ID)
	if err != nil || got.State != purser.ScanCancelled || len(f.sources(f.team)) != 0 {
		t.Errorf("%+v, %v, %+v", got, err, f.sources(f.team))
	}
}

func TestOldRecordsAreRemoved(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		f.world.set("bucket")
		p := f.addBucket("bucket")
		service := f.service(f.store)
		src := f.sources(f.team)[0]
		ctx := t.Context()
		ages := map[purser.ScanID]time.Duration{"scn000000000001": 31 * 24 * time.Hour, "scn000000000002": 29 * 24 * time.Hour}
		f.inTx(func(ctx context.Context, tx *store.Tx) error {
			for id, age := range ages {
				at := time.Now().Add(-age)
				scan := purser.Scan{ID: id, TeamID: f.team, SourceID: src.ID, ProviderID: p.ID, Source: "s3://bucket", CreatedAt: at}
				if err := tx.CreateScan(ctx, scan); err != nil {
					return err
				}
				if _, err := tx.EndScan(ctx, f.team, id, purser.ScanDone, nil, at); err != nil {
					return err
				}
				answer := store.Answer{BodyHash: []byte("h"), Sealed: []byte("s"), CreatedAt: time.Now().Add(-age / 29)}
				if err := tx.SaveAnswer(ctx, f.team, string(id), answer); err != nil {
					return err
				}
			}
			return nil
		})
		service.clean(ctx)
		if got := f.started(); got != 1 {
			t.Errorf("%d scans are left", got)
		}
		for id, age := range ages {
			answer, err := f.store.GetAnswer(ctx, f.team, string(id))
			if err != nil || (answer.Sealed == nil) != (age/29 > keepAnswers) {
				t.Errorf("answer of %s: %v, %v", age/29, answer, err)
			}
		}
	})
}

func TestMigrateTwiceChangesNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		f.close()
		f.store = f.open()
		f.world.set("bucket")
		p := f.addBucket("bucket")
		service, _ := f.node()
		if scan := f.scan(service, p.ID); scan.State != purser.ScanDone {
			t.Errorf("%+v", scan)
		}
	})
}

func TestIncompleteOptionsAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("a service without a store was made")
	}
}

// Not parallel: goleak looks at all goroutines there are.
func TestStoppingLeavesNothingBehind(t *testing.T) {
	existing := goleak.IgnoreCurrent()
	f := onSQLite(t)
	bucket := f.world.set("bucket")
	inside := make(chan struct{})
	bucket.before = func(ctx context.Context, _ int) error {
		close(inside)
		<-ctx.Done()
		return ctx.Err()
	}
	p := f.addBucket("bucket")
	service, stop := f.node()
	f.start(service, p.ID)
	<-inside
	stop()
	f.close()
	goleak.VerifyNone(t, existing)
}

// BenchmarkTick starts scans, as many as a node has workers, while a number of
// them are due.
func BenchmarkTick(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *fixture{"sqlite": onSQLite, "postgres": onPostgres} {
		for due := 1000; due <= 1_000_000; due *= 10 {
			b.Run(fmt.Sprintf("%s/due=%d", name, due), func(b *testing.B) {
				f := open(b)
				service := f.service(f.store, func(o *Options) {
					o.Workers, o.Trees = 16, f.addDue(due)
				})
				for b.Loop() {
					service.tick(b.Context())
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(16*b.N), "µs/scan")
			})
		}
	}
}

// addDue gives teams trees whose scans are due, so many all together.
func (f *fixture) addDue(due int) (trees []purser.Tree) {
	f.t.Helper()
	const each = 1000
	for i := range each {
		trees = append(trees, purser.Tree{Category: purser.CategoryModel, Path: fmt.Sprintf("/srv/%d/{team}", i)})
	}
	for team := range due / each {
		id := f.addTeam(fmt.Sprintf("team-%d", team))
		f.inTx(func(ctx context.Context, tx *store.Tx) error {
			for i, tree := range trees {
				err := tx.CreateSource(ctx, store.Source{
					TeamID: id, ID: purser.NewSourceID(), TreeCategory: tree.Category, TreePath: tree.Path, DueAt: past().Add(-time.Duration(i) * time.Second),
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return trees
}
