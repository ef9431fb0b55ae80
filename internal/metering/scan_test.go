package metering

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

func TestScanPublishesWhatWasCounted(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		folder := string(f.team) + "/"
		place := f.world.set("bucket",
			entry(folder+"datasets/a", 1), entry(folder+"datasets/b", 2), entry(folder+"models/a", 10),
			entry(folder+"notebooks/a", 100), entry(folder+"readme", 1000), entry("another/a", 10_000), entry("zzz", 100_000))
		place.region = "eu-west-3"
		p := f.addBucket("bucket")
		if u := f.teamUsage(); u.PendingSources != 1 || !u.MeasuredAt.IsZero() {
			t.Fatalf("before the first scan: %+v", u)
		}
		service, _ := f.node()
		scan := f.scan(service, p.ID)

		if scan.State != purser.ScanDone || scan.Error != nil || scan.Source != "s3://bucket" || scan.ProviderID != p.ID ||
			scan.Objects != 5 || scan.Bytes != 1113 || scan.Requests != 2 {
			t.Errorf("scan %+v, error %+v", scan, scan.Error)
		}
		if scan.CreatedAt.After(scan.StartedAt) || scan.StartedAt.After(scan.FinishedAt) {
			t.Errorf("created %s, started %s, finished %s", scan.CreatedAt, scan.StartedAt, scan.FinishedAt)
		}
		usage := f.usage(p.ID)
		want := map[purser.Category]purser.Tally{
			purser.CategoryDataset:           {Objects: 2, Current: 3},
			purser.CategoryModel:             {Objects: 1, Current: 10},
			purser.CategoryNotebookWorkspace: {Objects: 1, Current: 100},
			purser.CategorySharedStorage:     {Objects: 1, Current: 1000},
		}
		if diff := cmp.Diff(want, usage.Tallies); diff != "" {
			t.Errorf("tallies: %s", diff)
		}
		if !usage.Complete || usage.Method != "list" || usage.Requests != 2 || !usage.MeasuredAt.Equal(scan.FinishedAt) {
			t.Errorf("usage %+v", usage)
		}
		team := f.teamUsage()
		if team.Total() != 1113 || team.PendingSources != 0 || team.TroubledSources != 0 || !team.MeasuredAt.Equal(scan.FinishedAt) {
			t.Errorf("team's usage %+v", team)
		}
		credential, err := f.store.GetCredential(t.Context(), f.team, p.ID)
		if err != nil || credential.DetectedRegion != "eu-west-3" {
			t.Errorf("remembered region %q, %v", credential.DetectedRegion, err)
		}
		if strings.Contains(f.logs.String(), canary) {
			t.Error("the log holds the secret")
		}
	})
}

func TestOwnRulesReportWhatTheyLeaveOut(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	f.world.set("bucket", entry("data/a", 1), entry("else/a", 10), entry("models/a", 100))
	p := f.addBucket("bucket")
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		return tx.SetMeteringRules(ctx, f.team, p.ID, []purser.MeteringRule{
			{Category: purser.CategoryDataset, Prefix: "data/"}, {Category: purser.CategoryModel, Prefix: "models/"},
		}, time.Now())
	})
	service, _ := f.node()
	if scan := f.scan(service, p.ID); scan.State != purser.ScanDone || scan.Objects != 3 || scan.Bytes != 111 {
		t.Errorf("scan %+v", scan)
	}
	want := map[purser.Category]purser.Tally{
		purser.CategoryDataset:   {Objects: 1, Current: 1},
		purser.CategoryModel:     {Objects: 1, Current: 100},
		purser.CategoryUnmatched: {Objects: 1, Current: 10},
	}
	if diff := cmp.Diff(want, f.usage(p.ID).Tallies); diff != "" {
		t.Error(diff)
	}
	if total := f.teamUsage().Total(); total != 101 {
		t.Errorf("the team's total is %d: what no rule matches must not count", total)
	}
}

func TestEmptyFolderOfAFullBucketIsPointedOut(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	f.world.set("full", entry("elsewhere/a", 1))
	f.world.set("empty")
	f.world.set("managed")
	service, _ := f.node()
	for _, c := range []struct{ bucket, code string }{{"full", source.CodeFolderEmpty}, {"empty", ""}, {"managed", ""}} {
		p := f.addBucket(c.bucket, func(p *purser.Provider) { p.Managed = c.bucket == "managed" })
		scan := f.scan(service, p.ID)
		code := ""
		if scan.Error != nil {
			code = scan.Error.Code
		}
		if scan.State != purser.ScanDone || code != c.code {
			t.Errorf("%s: %s, %+v", c.bucket, scan.State, scan.Error)
		}
		if code != "" && !strings.Contains(scan.Error.Hint, "PUT /v1/storage-providers/"+string(p.ID)+"/metering") {
			t.Errorf("hint %q", scan.Error.Hint)
		}
		if !f.usage(p.ID).Complete {
			t.Errorf("%s: nothing was published", c.bucket)
		}
	}
}

func TestOneScanPerSource(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		place := f.world.set("bucket")
		release := make(chan struct{})
		place.before = func(context.Context, int) error { <-release; return nil }
		p := f.addBucket("bucket")
		service, _ := f.node()
		var wg sync.WaitGroup
		ids := make([]purser.ScanID, 20)
		for i := range ids {
			wg.Go(func() {
				scan, err := service.Start(t.Context(), f.editor, p.ID)
				if err != nil {
					t.Error(err)
				}
				ids[i] = scan.ID
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("two scans of one source: %s and %s", ids[0], id)
			}
		}
		all, err := service.StartAll(t.Context(), f.editor)
		if err != nil || len(all) != 1 || all[0].ID != ids[0] {
			t.Errorf("StartAll: %+v, %v", all, err)
		}
		close(release)
		f.await(service, all[0], ended)
		if next := f.scan(service, p.ID); next.ID == ids[0] {
			t.Error("after the end of a scan no other one begins")
		}
	})
}

func TestStartIsIdempotentUnderItsKey(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	f.world.set("bucket")
	p := f.addBucket("bucket")
	service, _ := f.node()
	ctx := purser.WithRequest(t.Context(), purser.Request{ID: "r1", IdempotencyKey: "once"})
	first, err := service.Start(ctx, f.editor, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	f.await(service, first, ended)
	again, err := service.Start(ctx, f.editor, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the retry is answered otherwise: %s", diff)
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	f.world.set("bucket")
	p := f.addBucket("bucket")
	service, _ := f.node()
	scan := f.scan(service, p.ID)
	viewer := auth.Principal{KeyID: purser.NewKeyID(), TeamID: f.team, Role: purser.RoleViewer}
	stranger := auth.Principal{KeyID: purser.NewKeyID(), TeamID: f.addTeam("two"), Role: purser.RoleOperator}
	ctx := t.Context()
	for _, c := range []struct {
		name string
		call func() error
		want purser.Kind
	}{
		{"a viewer gets", func() error { _, err := service.Get(ctx, viewer, scan.ID); return err }, ""},
		{"a viewer lists", func() error { _, err := service.List(ctx, viewer, purser.PageRequest{Limit: 1}); return err }, ""},
		{"a viewer starts", func() error { _, err := service.Start(ctx, viewer, p.ID); return err }, purser.KindPermissionDenied},
		{"a viewer starts all", func() error { _, err := service.StartAll(ctx, viewer); return err }, purser.KindPermissionDenied},
		{"a viewer cancels", func() error { _, err := service.Cancel(ctx, viewer, scan.ID); return err }, purser.KindPermissionDenied},
		{"nobody gets", func() error { _, err := service.Get(ctx, auth.Principal{TeamID: f.team}, scan.ID); return err }, purser.KindPermissionDenied},
		{"a stranger gets", func() error { _, err := service.Get(ctx, stranger, scan.ID); return err }, purser.KindNotFound},
		{"a stranger starts", func() error { _, err := service.Start(ctx, stranger, p.ID); return err }, purser.KindNotFound},
		{"a stranger cancels", func() error { _, err := service.Cancel(ctx, stranger, scan.ID); return err }, purser.KindNotFound},
		{"an unknown provider", func() error { _, err := service.Start(ctx, f.editor, purser.NewProviderID()); return err }, purser.KindNotFound},
		{"cancelling what has ended", func() error { _, err := service.Cancel(ctx, f.editor, scan.ID); return err }, ""},
	} {
		if got := purser.KindOf(c.call()); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := f.await(service, scan, ended); got.State != purser.ScanDone {
		t.Errorf("the scan is %s", got.State)
	}
	events, err := f.store.ListAudit(ctx, f.team, purser.PageRequest{Limit: 100, Ascending: true})
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, e := range events.Items {
		rows = append(rows, e.Action+" "+e.Result)
	}
	want := []string{
		"scan.start ok", "scan.start denied", "scan.start denied", "scan.cancel denied", "scan.get denied", "scan.cancel ok",
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("audit: %s", diff)
	}
}

func TestCancelStopsWithinASecond(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket", entry(string(f.team)+"/a", 1))
		p := f.addBucket("bucket")
		service, _ := f.node(func(o *Options) { o.times.watch = defaultTimes.watch })
		if scan := f.scan(service, p.ID); scan.State != purser.ScanDone {
			t.Fatalf("%+v", scan)
		}
		bucket.put(entry(string(f.team)+"/b", 1))
		inside, interrupted := make(chan struct{}), make(chan time.Time, 1)
		bucket.set(func(p *place) {
			p.before = func(ctx context.Context, _ int) error {
				close(inside)
				<-ctx.Done()
				interrupted <- time.Now()
				return ctx.Err()
			}
		})
		scan := f.start(service, p.ID)
		<-inside
		cancelled := time.Now()
		got, err := service.Cancel(t.Context(), f.editor, scan.ID)
		if err != nil || got.State != purser.ScanCancelled || got.FinishedAt.IsZero() {
			t.Fatalf("%+v, %v", got, err)
		}
		if took := (<-interrupted).Sub(cancelled); took > time.Second {
			t.Errorf("the step went on for %s", took)
		}
		again, err := service.Cancel(t.Context(), f.editor, scan.ID)
		again.Budget = got.Budget // what the interrupted step has cost is known by now
		if err != nil || !cmp.Equal(again, got) {
			t.Errorf("cancelling again: %+v, %v", again, err)
		}
		if u := f.usage(p.ID); u.Tallies[purser.CategorySharedStorage].Objects != 1 || !u.Complete {
			t.Errorf("a cancelled scan changed the figures: %+v", u)
		}
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	temporary := &source.Error{ScanError: purser.ScanError{Code: source.CodeThrottled, Message: "Slow down."}, Temporary: true}
	denied := &source.Error{ScanError: purser.ScanError{Code: source.CodeAccessDenied, Message: "No.", Hint: "Ask."}, Err: errors.New("cause")}
	unreadable := &purser.ScanError{Code: source.CodeUnreadable, Message: "Something could not be read.", Hint: "chmod"}
	for _, c := range []struct {
		name  string
		set   func(*place)
		state purser.ScanState
		code  string
		steps int // at least
	}{
		{"a failure that passes", func(p *place) {
			p.before = func(_ context.Context, step int) error {
				if step%3 != 0 {
					return temporary
				}
				return nil
			}
		}, purser.ScanDone, "", 9},
		{"a failure that does not pass", func(p *place) {
			p.before = func(context.Context, int) error { return temporary }
		}, purser.ScanFailed, source.CodeThrottled, maxFailures},
		{"a failure that cannot pass", func(p *place) {
			p.before = func(_ context.Context, step int) error {
				if step == 3 {
					return denied
				}
				return nil
			}
		}, purser.ScanFailed, source.CodeAccessDenied, 3},
		{"something that cannot be read", func(p *place) { p.incomplete = unreadable }, purser.ScanFailed, source.CodeUnreadable, 3},
		{"an error of no sort", func(p *place) {
			p.before = func(context.Context, int) error { return errors.New("oops") }
		}, purser.ScanFailed, source.CodeInternal, maxFailures},
		{"a panic", func(p *place) {
			p.before = func(context.Context, int) error { panic("oops") }
		}, purser.ScanFailed, source.CodeInternal, maxFailures},
		{"a negative size", func(p *place) { p.entries[1].Size = -1 }, purser.ScanFailed, source.CodeBadListing, 1},
		{"sizes that no store can hold", func(p *place) {
			p.entries[1].Size, p.entries[5].Size = maxSourceBytes-10, maxSourceBytes
		}, purser.ScanFailed, source.CodeBadListing, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := onSQLite(t)
			folder := string(f.team) + "/"
			bucket := f.world.set("bucket", entry(folder+"old", 7))
			p, fresh := f.addBucket("bucket"), f.addBucket("bucket")
			service, _ := f.node()
			if scan := f.scan(service, p.ID); scan.State != purser.ScanDone {
				t.Fatalf("%+v", scan)
			}
			before := f.usage(p.ID)
			for _, key := range strings.Split("abcdefg", "") {
				bucket.put(entry(folder+key, 1))
			}
			bucket.set(func(p *place) { p.steps = 0; c.set(p) })

			scan := f.scan(service, p.ID)
			code := ""
			if scan.Error != nil {
				code = scan.Error.Code
			}
			if scan.State != c.state || code != c.code {
				t.Fatalf("%s, %+v", scan.State, scan.Error)
			}
			bucket.set(func(p *place) {
				if p.steps < c.steps {
					t.Errorf("%d steps, want %d or more", p.steps, c.steps)
				}
			})
			after := f.usage(p.ID)
			if c.state == purser.ScanDone {
				want := purser.Tally{Objects: 8, Current: 14}
				if got := after.Tallies[purser.CategorySharedStorage]; got != want || !after.Complete {
					t.Errorf("published %+v", after)
				}
				return
			}
			if after.Complete || f.teamUsage().TroubledSources != 1 {
				t.Errorf("the figures pass as those of this scan: %+v", after)
			}
			after.Complete = true
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the last complete figures changed: %s", diff)
			}
			// A source that was never measured stays pending.
			bucket.set(func(p *place) { p.steps = 0 })
			if scan := f.scan(service, fresh.ID); scan.State != purser.ScanFailed {
				t.Errorf("the first scan of another source: %+v", scan)
			}
			if u := f.usage(fresh.ID); !u.MeasuredAt.IsZero() || len(u.Tallies) != 0 || f.teamUsage().PendingSources != 1 {
				t.Errorf("a failed first scan left %+v", u)
			}
		})
	}
}

func TestAStoreMayAskForPatience(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	bucket := f.world.set("bucket")
	steps := make(chan time.Time, 2)
	bucket.before = func(_ context.Context, step int) error {
		steps <- time.Now()
		if step == 1 {
			return &source.Error{ScanError: purser.ScanError{Code: source.CodeThrottled}, Temporary: true, RetryAfter: 300 * time.Millisecond}
		}
		return nil
	}
	p := f.addBucket("bucket")
	service, _ := f.node()
	if scan := f.scan(service, p.ID); scan.State != purser.ScanDone {
		t.Fatalf("%+v", scan)
	}
	failed, again := <-steps, <-steps
	if waited := again.Sub(failed); waited < 250*time.Millisecond {
		t.Errorf("came back after %s, asked for 300ms", waited)
	}
}

func TestAHangingStoreIsGivenUp(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	var hung, between time.Duration
	var last time.Time
	f.world.set("bucket").before = func(ctx context.Context, _ int) error {
		begin := time.Now()
		if !last.IsZero() {
			between += begin.Sub(last)
		}
		<-ctx.Done()
		last = time.Now()
		hung += last.Sub(begin)
		return ctx.Err()
	}
	p := f.addBucket("bucket")
	service, _ := f.node(func(o *Options) {
		o.times.slice, o.times.grace, o.times.most = 10*time.Millisecond, 90*time.Millisecond, 90*time.Millisecond
		o.times.tick, o.times.poll = 5*time.Millisecond, 5*time.Millisecond
	})
	scan := f.scan(service, p.ID)
	if scan.State != purser.ScanFailed || scan.Error.Code != source.CodeTimeout {
		t.Errorf("%+v, %+v", scan, scan.Error)
	}
	if between < hung/2 {
		t.Errorf("a worker stood there for %v, and others had it for %v", hung, between)
	}
}

// TestASlowPageIsWaitedFor has a store that takes longer for a page than a slice
// is given at first.
func TestASlowPageIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	bucket := f.world.set("bucket", entry(string(f.team)+"/a", 1))
	bucket.before = func(ctx context.Context, _ int) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(150 * time.Millisecond):
			return nil
		}
	}
	p := f.addBucket("bucket")
	service, _ := f.node(func(o *Options) { o.times.slice, o.times.grace = 10*time.Millisecond, 20*time.Millisecond })
	if scan := f.scan(service, p.ID); scan.State != purser.ScanDone || scan.Objects != 1 {
		t.Errorf("%+v, %+v", scan, scan.Error)
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	service, _ := f.node()
	f.world.set("sealed")
	for _, c := range []struct {
		bucket, code string
		change       func(*purser.Provider)
	}{
		{"missing", source.CodeNoSuchBucket, func(*purser.Provider) {}},
		{"site", source.CodeEndpointMissing, func(p *purser.Provider) { p.S3.Endpoint, p.S3.Region = "", "ny2" }},
	} {
		scan := f.scan(service, f.addBucket(c.bucket, c.change).ID)
		if scan.State != purser.ScanFailed || scan.Error.Code != c.code {
			t.Errorf("%s: %+v, %+v", c.bucket, scan, scan.Error)
		}
	}
	p := f.addBucket("sealed")
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		return tx.SetProviderSecret(ctx, f.team, p.ID, []byte("by another key"), 2)
	})
	if scan := f.scan(service, p.ID); scan.State != purser.ScanFailed || scan.Error.Code != source.CodeInternal {
		t.Errorf("%+v, %+v", scan, scan.Error)
	}
}

func TestProviderChangesInTheMiddle(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		for _, c := range []struct {
			name   string
			change func(ctx context.Context, tx *store.Tx, p purser.Provider) error
			want   purser.ScanState
		}{
			{"renamed", func(ctx context.Context, tx *store.Tx, p purser.Provider) error {
				p.Name, p.Version = "new name", p.Version+1
				return tx.UpdateProvider(ctx, p)
			}, purser.ScanDone},
			{"moved", func(ctx context.Context, tx *store.Tx, p purser.Provider) error {
				p.S3.Bucket, p.Version = "another", p.Version+1
				return tx.UpdateProvider(ctx, p)
			}, purser.ScanCancelled},
			{"other rules", func(ctx context.Context, tx *store.Tx, p purser.Provider) error {
				rules := []purser.MeteringRule{{Category: purser.CategoryModel, Prefix: "m"}}
				return tx.SetMeteringRules(ctx, p.TeamID, p.ID, rules, time.Now())
			}, purser.ScanCancelled},
			{"deleted", func(ctx context.Context, tx *store.Tx, p purser.Provider) error {
				src, err := tx.GetSourceOfProvider(ctx, p.TeamID, p.ID)
				if err != nil {
					return err
				}
				return errors.Join(tx.DeleteSource(ctx, p.TeamID, src.ID), tx.DeleteProvider(ctx, p.TeamID, p.ID))
			}, purser.ScanCancelled},
		} {
			for _, when := range []string{"between slices", "in the last step"} {
				name := c.name + " " + when
				bucket := f.world.set(name, entry(string(f.team)+"/a", 1), entry(string(f.team)+"/b", 1))
				bucket.pageSize = 1
				inside, release := make(chan struct{}), make(chan struct{})
				at := map[string]int{"between slices": 1, "in the last step": 2}[when]
				bucket.before = func(_ context.Context, step int) error {
					if step == at {
						close(inside)
						<-release
					}
					return nil
				}
				p := f.addBucket(name)
				service, stop := f.node(func(o *Options) {
					if when == "between slices" {
						o.times.slice = time.Nanosecond // one step each
					}
				})
				scan := f.start(service, p.ID)
				<-inside
				f.inTx(func(ctx context.Context, tx *store.Tx) error {
					return errors.Join(tx.LockTeam(ctx, f.team), c.change(ctx, tx, p))
				})
				close(release)
				got := f.await(service, scan, ended)
				if got.State != c.want || c.want == purser.ScanCancelled && got.Error.Code != source.CodeChanged {
					t.Errorf("%s: %+v, %+v", name, got, got.Error)
				}
				if c.name == "moved" && !f.usage(p.ID).MeasuredAt.IsZero() {
					t.Errorf("%s: figures of the old place were published", name)
				}
				stop()
			}
		}
	})
}
