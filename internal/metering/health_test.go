package metering

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

func (f *fixture) health(id purser.ProviderID) purser.Health {
	f.t.Helper()
	health, err := f.store.GetHealth(context.Background(), f.team, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return health
}

// TestHealth has one scan after the other find things out about a bucket.
func TestHealth(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket", entry(string(f.team)+"/a", 1))
		p := f.addBucket("bucket")
		service, _ := f.node()
		before := purser.Health{}
		expect := func(when string, state purser.HealthState, code string, sameSince bool) {
			t.Helper()
			now := f.health(p.ID)
			if got := errorCode(now.Error); now.State != state || got != code {
				t.Errorf("%s: %s, error %q, want %s, %q", when, now.State, got, state, code)
			}
			if now.Since.Equal(before.Since) != sameSince || now.Since.IsZero() != (state == purser.HealthUnknown) {
				t.Errorf("%s: since %v, before it was since %v", when, now.Since, before.Since)
			}
			if now.CheckedAt.Before(now.Since) || now.CheckedAt.Equal(before.CheckedAt) != (state == purser.HealthUnknown) {
				t.Errorf("%s: checked at %v, before that at %v", when, now.CheckedAt, before.CheckedAt)
			}
			before = now
		}
		scanFailing := func(err error) {
			bucket.before = func(context.Context, int) error { return err }
			f.scan(service, p.ID)
		}
		expect("before the first scan", purser.HealthUnknown, "", true)
		scanFailing(nil)
		expect("after a good scan", purser.HealthOK, "", false)
		scanFailing(nil)
		expect("after another one", purser.HealthOK, "", true)
		scanFailing(&source.Error{ScanError: purser.ScanError{Code: source.CodeAccessDenied}})
		expect("when the key was withdrawn", purser.HealthFailing, source.CodeAccessDenied, false)
		scanFailing(&source.Error{ScanError: purser.ScanError{Code: source.CodeNoSuchBucket}})
		expect("when the bucket is gone, too", purser.HealthFailing, source.CodeNoSuchBucket, true)
		bucket.incomplete = &purser.ScanError{Code: source.CodeAccessDenied}
		scanFailing(nil)
		expect("when a part may not be read", purser.HealthDegraded, source.CodeAccessDenied, false)
		bucket.incomplete = nil
		scanFailing(nil)
		expect("when all is well again", purser.HealthOK, "", false)
		if m := f.health(p.ID).Method; m != "list" {
			t.Errorf("measured by %q", m)
		}

		// A failure that may pass shows while the scan waits.
		bucket.before = func(context.Context, int) error {
			return &source.Error{ScanError: purser.ScanError{Code: source.CodeUnreachable}, Temporary: true, RetryAfter: time.Minute}
		}
		scan := f.start(service, p.ID)
		f.await(service, scan, func(s purser.Scan) bool { return s.Error != nil })
		expect("while nothing answers", purser.HealthFailing, source.CodeUnreachable, false)
		if _, err := service.Cancel(context.Background(), f.editor, scan.ID); err != nil {
			t.Fatal(err)
		}
		if now := f.health(p.ID); now.State != before.State || !now.CheckedAt.Equal(before.CheckedAt) {
			t.Errorf("a scan that was cancelled has found something: %+v", now)
		}
	})
}

// TestABudgetIsNoFinding has a scan wait for a new budget of requests.
func TestABudgetIsNoFinding(t *testing.T) {
	t.Parallel()
	f := onSQLite(t)
	entries := make([]source.Entry, 30)
	for i := range entries {
		entries[i] = entry(string(f.team)+"/"+string(rune('a'+i)), 1)
	}
	f.world.set("bucket", entries...)
	p := f.addBucket("bucket")
	service, _ := f.node(func(o *Options) { o.RequestsPerDay = 3 })
	f.await(service, f.start(service, p.ID), func(s purser.Scan) bool {
		return s.Error != nil && s.Error.Code == source.CodeBudgetSpent
	})
	health := f.health(p.ID)
	if health.State != purser.HealthUnknown || health.Error != nil {
		t.Errorf("%+v", health)
	}
	if health.Budget.Spent < 3 {
		t.Errorf("budget: %+v", health.Budget)
	}
}

func errorCode(e *purser.ScanError) string {
	if e == nil {
		return ""
	}
	return e.Code
}

// TestDetected has scans find out about a store in one slice and end in another,
// begin anew as one chain, fail, and not be told whether there are versions.
func TestDetected(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket, _ := f.pages("bucket", 3)
		bucket.splits, bucket.region = true, "eu-west-3"
		p := f.addBucket("bucket")
		survey := source.Survey{Listings: []source.Listing{source.Versions}}
		surveys := 0
		service, _ := f.node(func(o *Options) {
			o.SurveyBucket = func(context.Context, source.Bucket) (source.Survey, error) { surveys++; return survey, nil }
		})
		yes, no := true, false
		for _, c := range []struct {
			name   string
			fault  func(first bool) error // of the first steps, and of those after
			survey source.Survey
			want   *bool // whether there are versions
		}{
			{"two slices", func(first bool) error {
				if first {
					return &source.Error{ScanError: purser.ScanError{Code: source.CodeThrottled}, Temporary: true}
				}
				return nil
			}, source.Survey{Listings: []source.Listing{source.Versions}}, &yes},
			{"one chain", func(first bool) error {
				if first {
					return &source.Error{ScanError: purser.ScanError{Code: source.CodeUnordered}}
				}
				return nil
			}, source.Survey{Listings: []source.Listing{source.Versions}}, &yes},
			{"failing", func(bool) error {
				return &source.Error{ScanError: purser.ScanError{Code: source.CodeAccessDenied}}
			}, source.Survey{Listings: []source.Listing{source.Objects}}, &yes},
			{"no versions", func(bool) error { return nil }, source.Survey{Listings: []source.Listing{source.Objects}}, &no},
			{"not told", func(bool) error { return nil }, source.Survey{
				Listings: []source.Listing{source.Objects}, Incomplete: &purser.ScanError{Code: source.CodeAccessDenied},
			}, nil},
		} {
			survey, surveys = c.survey, 0
			var steps atomic.Int64
			bucket.set(func(p *place) {
				p.before = func(context.Context, int) error { return c.fault(steps.Add(1) == 2) }
			})
			f.scan(service, p.ID)
			want := purser.Detected{Region: "eu-west-3", Addressing: purser.AddressingPath, Versioned: c.want}
			if diff := cmp.Diff(want, f.health(p.ID).Detected); diff != "" || surveys != 1 {
				t.Errorf("%s: %d surveys %s", c.name, surveys, diff)
			}
		}
	})
}
