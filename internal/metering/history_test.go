package metering

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

func (f *fixture) history(step purser.Step) (all []store.SeriesHistory) {
	f.t.Helper()
	now := time.Now()
	q := store.HistoryQuery{Team: f.team, Step: step, From: now.AddDate(-6, 0, 0), To: now.Add(48 * time.Hour)}
	err := f.store.EachHistory(context.Background(), q, func(h store.SeriesHistory) error {
		h.Steps = slices.Clone(h.Steps)
		all = append(all, h)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

func TestScansMakeHistory(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		folder := string(f.team) + "/"
		bucket := f.world.set("bucket", entry(folder+"datasets/a", 1), entry(folder+"models/a", 10), entry(folder+"readme", 1000))
		p := f.addBucket("bucket")
		service, _ := f.node()
		ends := []time.Time{f.scan(service, p.ID).FinishedAt}
		bucket.put(entry(folder+"datasets/b", 2))
		ends = append(ends, f.scan(service, p.ID).FinishedAt)
		bucket.set(func(p *place) { p.incomplete = &purser.ScanError{Code: "denied"} })
		f.scan(service, p.ID) // what could not be read is no measurement

		for _, step := range []purser.Step{purser.StepHour, purser.StepDay} {
			steps := f.history(step)[0].Steps
			first, last := steps[0].First, steps[len(steps)-1].Last
			if !first.At.Equal(ends[0]) || !last.At.Equal(ends[1]) {
				t.Errorf("%s: measured at %s and %s, the scans ended at %s", step, first.At, last.At, ends)
			}
			want := []purser.Usage{{Dataset: 1, Model: 10, SharedStorage: 1000}, {Dataset: 3, Model: 10, SharedStorage: 1000}}
			if diff := cmp.Diff(want, []purser.Usage{first.Usage, last.Usage}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step, diff)
			}
		}
		if got := f.history(purser.StepDay)[0].Patience; got != 3*service.ScanInterval {
			t.Errorf("patience %s", got)
		}
	})
}

func TestOldHistoryIsThinnedOut(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		f.addBucket("bucket")
		f.addBucket("given up")
		kept, ended := f.sources(f.team)[0], f.sources(f.team)[1]
		const day = 24 * time.Hour
		now := time.Now().UTC().Truncate(time.Microsecond)
		ages := []time.Duration{1900 * day, 1830 * day, 100 * day, 91 * day, 0}
		f.inTx(func(ctx context.Context, tx *store.Tx) error {
			for _, age := range ages {
				if err := tx.RecordReading(ctx, f.team, kept.ID, now.Add(-age), purser.Usage{Dataset: purser.Bytes(age / day)}, day); err != nil {
					return err
				}
			}
			for n := range historyBatch + 1 { // more than one batch
				at := now.Add(-2000*day + time.Duration(n)*time.Hour)
				if err := tx.RecordReading(ctx, f.team, ended.ID, at, purser.Usage{}, day); err != nil {
					return err
				}
			}
			return tx.ResetSource(ctx, f.team, ended.ID)
		})
		service := f.service(f.store)
		service.clean(t.Context())
		service.clean(t.Context())
		for step, want := range map[purser.Step][]purser.Bytes{purser.StepHour: {91, 0}, purser.StepDay: {1830, 100, 91, 0}} {
			var got []purser.Bytes
			for _, h := range f.history(step) {
				for _, s := range h.Steps {
					if h.SourceID == kept.ID {
						got = append(got, s.First.Dataset)
					} else if now.Sub(s.First.At) > step.Reach()+historySlack+day {
						t.Errorf("%s of %s is left", step, s.First.At)
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: days of age that are left (-want +got):\n%s", step, diff)
			}
		}
	})
}

func TestThinningReportsItsFailure(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	service := f.service(f.store)
	f.close()
	if err := service.thinHistory(t.Context()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("without a database: %v", err)
	}
}
