package metering

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

func perDay(n int64) func(*Options) { return func(o *Options) { o.RequestsPerDay = n } }

// pages fills a bucket that takes n steps, each a request, and returns its size.
func (f *fixture) pages(name string, n int) (bucket *place, bytes purser.Bytes) {
	bucket = f.world.set(name)
	for i := range 3 * n {
		bucket.put(entry(fmt.Sprintf("%s/datasets/%05d", f.team, i), int64(i)))
		bytes += purser.Bytes(i)
	}
	return bucket, bytes
}

// midnight has the day end for a provider's budget, and for who waits for that.
func (f *fixture) midnight() {
	f.t.Helper()
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		_, err = tx.SQL().ExecContext(ctx, fmt.Sprintf("UPDATE sources SET spent_on = spent_on - %d", (24*time.Hour).Microseconds()))
		if err != nil {
			return err
		}
		return tx.WakeRanges(ctx, now, now.Add(5*time.Minute))
	})
}

// spent is what was spent of a provider's budget on the last day.
func (f *fixture) spent(id purser.ProviderID) int64 {
	f.t.Helper()
	usage, err := f.store.GetSourceUsage(context.Background(), f.team, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return usage.Budget.Spent
}

func waitsForBudget(s purser.Scan) bool {
	return s.State.Ended() || s.Error != nil && s.Error.Code == source.CodeBudgetSpent
}

// TestScanGoesOnWhenTheBudgetIsRenewed scans a bucket that takes more requests
// than there may be in a day: to the request, and without losing its place.
func TestScanGoesOnWhenTheBudgetIsRenewed(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		_, first := f.pages("bucket", 2)
		p := f.addBucket("bucket")
		service, _ := f.node(perDay(5))
		if scan := f.scan(service, p.ID); scan.State != purser.ScanDone || f.spent(p.ID) != 2 {
			t.Fatalf("%+v, %+v; %d requests", scan, scan.Error, f.spent(p.ID))
		}
		before := f.usage(p.ID)
		bucket, want := f.pages("bucket", 10)

		scan := f.start(service, p.ID)
		sent := []int64{3, 5, 2} // two of the first day were spent before
		total := int64(0)
		for day, n := range sent[:2] {
			got := f.await(service, scan, waitsForBudget)
			total += n
			if got.State != purser.ScanRunning || got.Requests != total || got.Objects != 3*total || bucket.sent() != total {
				t.Fatalf("day %d: %+v, %+v; the store got %d", day, got, got.Error, bucket.sent())
			}
			midnight := purser.StepDay.Begin(time.Now()).AddDate(0, 0, 1)
			want := purser.ScanError{
				Code: source.CodeBudgetSpent, Message: "The budget of 5 requests a day to this bucket is spent.",
				Hint: "The scan goes on by itself after " + midnight.Format(time.RFC3339) + "; the operator can raise the budget (--scan-requests-per-day).",
			}
			if diff := cmp.Diff(&want, got.Error); diff != "" {
				t.Error(diff)
			}
			shown, err := service.Get(t.Context(), f.editor, scan.ID)
			if err != nil || shown.Budget == nil || shown.Budget.PerDay != 5 || shown.Budget.Spent != 5 ||
				!shown.Budget.RenewsAt().Equal(midnight) || shown.EstimatedCost != purser.EstimateCost(total) {
				t.Errorf("shown as %+v, %+v; %v", shown, shown.Budget, err)
			}
			if again := f.start(service, p.ID); again.ID != scan.ID {
				t.Error("another scan begins beside the one that waits")
			}
			if diff := cmp.Diff(before, f.usage(p.ID)); diff != "" {
				t.Errorf("the last complete figures have changed: %s", diff)
			}
			f.midnight()
			f.await(service, scan, func(s purser.Scan) bool { return s.Requests > total })
		}
		got := f.await(service, scan, ended)
		total += sent[2]
		if got.State != purser.ScanDone || got.Error != nil || got.Bytes != want || got.Requests != total || bucket.sent() != total || f.spent(p.ID) != sent[2] {
			t.Errorf("%+v, %+v; want %d bytes with %d requests, the store got %d", got, got.Error, want, total, bucket.sent())
		}
		if u := f.teamUsage(); u.Total() != want || first == want {
			t.Errorf("published %d bytes, want %d", u.Total(), want)
		}
	})
}

// TestTheDayEndsByItself has days that are short enough to wait for.
func TestTheDayEndsByItself(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	bucket, want := f.pages("bucket", 9)
	p := f.addBucket("bucket")
	service, _ := f.node(perDay(4), func(o *Options) { o.times.day = time.Second })
	begin := time.Now()
	got := f.scan(service, p.ID)
	if got.State != purser.ScanDone || got.Bytes != want || got.Requests != bucket.sent() {
		t.Errorf("%+v, %+v; the store got %d", got, got.Error, bucket.sent())
	}
	if took := time.Since(begin); took < time.Second { // they take three days, the second a whole one
		t.Errorf("nine requests were sent within %s, four a second are allowed", took)
	}
}

// TestEveryDayLeadsOn has a budget that is less than what a scan begins with.
func TestEveryDayLeadsOn(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	bucket, want := f.pages("bucket", 3)
	p := f.addBucket("bucket")
	surveys := 0
	service, _ := f.node(perDay(1), func(o *Options) {
		o.SurveyBucket = func(context.Context, source.Bucket) (source.Survey, error) {
			surveys++
			return source.Survey{Listings: []source.Listing{source.Objects}, Requests: 3}, nil
		}
	})
	scan := f.start(service, p.ID)
	for day := range 4 {
		got := f.await(service, scan, waitsForBudget)
		if got.State.Ended() != (day == 3) || bucket.sent() != int64(day) {
			t.Fatalf("day %d: %+v, %+v; %d requests", day, got, got.Error, bucket.sent())
		}
		if day == 3 {
			if got.State != purser.ScanDone || got.Bytes != want || got.Requests != 6 || surveys != 1 {
				t.Errorf("%+v, %d surveys", got, surveys)
			}
			return
		}
		f.midnight()
		f.await(service, scan, func(s purser.Scan) bool { return s.Requests > got.Requests })
	}
}

func TestFailuresAreSpentToo(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	bucket := f.world.set("bucket")
	bucket.before = func(context.Context, int) error {
		return &source.Error{ScanError: purser.ScanError{Code: source.CodeThrottled}, Temporary: true}
	}
	p := f.addBucket("bucket")
	service, _ := f.node(perDay(5), func(o *Options) { o.times.retries = 1 })
	got := f.await(service, f.start(service, p.ID), waitsForBudget)
	if got.State != purser.ScanRunning || got.Requests != 5 || f.spent(p.ID) != 5 || bucket.sent() != 5 {
		t.Errorf("%+v, %+v; %d spent, %d sent", got, got.Error, f.spent(p.ID), bucket.sent())
	}
}

// TestCancelledRequestsAreSpent cancels a scan of which nothing was saved.
func TestCancelledRequestsAreSpent(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket, _ := f.pages("bucket", 5)
		inside := make(chan struct{})
		bucket.before = func(ctx context.Context, step int) error {
			if step == 3 {
				close(inside)
				<-ctx.Done()
			}
			return ctx.Err()
		}
		p := f.addBucket("bucket")
		outcome := make(chan string, 1)
		service, _ := f.node(func(o *Options) {
			o.times.save, o.times.slice = time.Hour, time.Hour
			o.Observer.SliceEnded = func(o string, _ time.Duration, _ int64) { outcome <- o }
		})
		scan := f.start(service, p.ID)
		<-inside
		if _, err := service.Cancel(t.Context(), f.editor, scan.ID); err != nil {
			t.Fatal(err)
		}
		if got := <-outcome; got != "lost" || f.spent(p.ID) != 3 || bucket.sent() != 3 {
			t.Errorf("%s: %d spent, %d sent", got, f.spent(p.ID), bucket.sent())
		}
	})
}

// TestARaisedBudgetIsSeenAtTheStart: whoever raises it need not wait for the
// next day.
func TestARaisedBudgetIsSeenAtTheStart(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		_, want := f.pages("bucket", 5)
		p := f.addBucket("bucket")
		service, stop := f.node(perDay(2))
		scan := f.start(service, p.ID)
		f.await(service, scan, waitsForBudget)
		stop()
		looked := make(chan string, 100)
		_, stop = f.node(perDay(2), func(o *Options) { // not raised
			o.Observer.SliceEnded = func(outcome string, _ time.Duration, _ int64) { looked <- outcome }
		})
		if outcome := <-looked; outcome != "budget_spent" {
			t.Errorf("after a restart a slice ends as %s", outcome)
		}
		stop()
		if got := f.spent(p.ID); got != 2 {
			t.Fatalf("after a restart %d requests are spent", got)
		}
		service, _ = f.node(perDay(1000))
		if got := f.await(service, scan, ended); got.State != purser.ScanDone || got.Bytes != want || got.Requests != 5 {
			t.Errorf("%+v, %+v", got, got.Error)
		}
	})
}

// TestTwoNodesShareABudget has one big bucket counted by two nodes, over days.
func TestTwoNodesShareABudget(t *testing.T) {
	t.Parallel()
	f := onPostgres(t)
	bucket, want := f.pages("big", 500)
	bucket.set(func(p *place) {
		p.splits = true
		p.before = func(context.Context, int) error {
			time.Sleep(5 * time.Millisecond)
			return nil
		}
	})
	p := f.addBucket("big")
	const budget = 300
	var slices [2]atomic.Int64
	var service *Service
	for i := range slices {
		service = f.service(f.open(), perDay(budget), func(o *Options) {
			o.Observer.SliceEnded = func(string, time.Duration, int64) { slices[i].Add(1) }
		})
		f.run(service)
	}
	scan := f.start(service, p.ID)
	days, sent := 1, int64(0)
	for ; ; days++ {
		// The last range to save is the one to tell.
		f.await(service, scan, func(s purser.Scan) bool { return s.State.Ended() || waitsForBudget(s) && f.allWait(s) })
		today := bucket.sent() - sent
		if got := f.spent(p.ID); got != today {
			t.Fatalf("day %d: %d spent, %d sent", days, got, today)
		}
		// While one saves, another may send what it was allowed before.
		if today > budget+2*spansAtOnce {
			t.Errorf("day %d: %d requests of %d", days, today, budget)
		}
		t.Logf("day %d: %d requests of %d; %d and %d slices", days, today, budget, slices[0].Load(), slices[1].Load())
		got := f.await(service, scan, func(purser.Scan) bool { return true })
		if got.State.Ended() {
			if got.State != purser.ScanDone || got.Bytes != want || got.Requests != bucket.sent() {
				t.Errorf("%+v, %+v; want %d bytes, the store got %d requests", got, got.Error, want, bucket.sent())
			}
			break
		}
		sent = bucket.sent()
		f.midnight()
		f.await(service, scan, func(s purser.Scan) bool { return s.Requests > got.Requests })
	}
	if days < 2 || slices[0].Load() == 0 || slices[1].Load() == 0 {
		t.Errorf("%d days; the nodes worked on %d and %d slices", days, slices[0].Load(), slices[1].Load())
	}
}

// allWait reports whether all ranges of a scan wait for the next day.
func (f *fixture) allWait(s purser.Scan) bool {
	ranges, err := f.store.ListRanges(context.Background(), s.TeamID, s.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, r := range ranges {
		if !r.Done && r.LeaseUntil.Before(purser.StepDay.Begin(time.Now()).AddDate(0, 0, 1)) {
			return false
		}
	}
	return true
}

// TestTreesHaveNoBudget counts a tree whatever the budget is.
func TestTreesHaveNoBudget(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	tree := purser.Tree{Category: purser.CategoryModel, Path: "/srv/{team}"}
	f.world.set(tree.Root(f.team), entry("a", 1), entry("b", 1), entry("c", 1), entry("d", 1)) // two steps
	service, _ := f.node(perDay(1), func(o *Options) { o.Trees = []purser.Tree{tree} })
	deadline := time.Now().Add(20 * time.Second)
	for f.teamUsage().Total() != 4 {
		if time.Now().After(deadline) {
			t.Fatalf("%+v\n%s", f.teamUsage(), f.logs)
		}
		time.Sleep(2 * time.Millisecond)
	}
	scans, err := service.List(t.Context(), f.editor, purser.PageRequest{Limit: 10})
	if err != nil || len(scans.Items) == 0 || scans.Items[0].Budget != nil || scans.Items[0].EstimatedCost != 0 {
		t.Errorf("%+v, %v", scans, err)
	}
}
