package utilization_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/utilization"
)

// patience is that of hourly scans.
const patience = 3 * time.Hour

// midnight is the beginning of the day on which these tests measure; what they
// ask is asked ten days later.
var midnight = time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)

// past is a team with a history.
type past struct {
	tb interface {
		Helper()
		Fatal(args ...any)
	}
	ctx     context.Context
	store   *store.Store
	service *utilization.Service
	team    purser.TeamID
	viewer  auth.Principal
	now     time.Time
}

func newPast(t testing.TB) *past {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	p := &past{tb: t, ctx: t.Context(), store: s, now: midnight.AddDate(0, 0, 10)}
	clock := func() time.Time { return p.now }
	p.service = utilization.New(utilization.Options{Store: s, Changes: change.NewMaker(s, nil, clock), ScanInterval: time.Hour, Now: clock})
	p.newTeam()
	return p
}

func (p *past) in(fn func(tx *store.Tx) error) {
	p.tb.Helper()
	if err := p.store.InTx(p.ctx, fn); err != nil {
		p.tb.Fatal(err)
	}
}

// newTeam makes the team that everything is about from now on.
func (p *past) newTeam() {
	p.tb.Helper()
	p.team = purser.NewTeamID()
	p.viewer = auth.Principal{KeyID: purser.NewKeyID(), TeamID: p.team, Role: purser.RoleViewer}
	p.in(func(tx *store.Tx) error {
		return tx.CreateTeam(p.ctx, purser.Team{ID: p.team, Name: "vision", Namespace: string(p.team), TotalFreeStorage: 1000, CreatedAt: midnight})
	})
}

func (p *past) newBucket() (purser.ProviderID, purser.SourceID) {
	p.tb.Helper()
	provider := purser.Provider{ID: purser.NewProviderID(), TeamID: p.team, Name: "n", S3: purser.S3Config{Bucket: "bkt"}, Version: 1, CreatedAt: midnight, UpdatedAt: midnight}
	source := store.Source{TeamID: p.team, ID: purser.NewSourceID(), ProviderID: provider.ID, DueAt: midnight}
	p.in(func(tx *store.Tx) error {
		return errors.Join(tx.CreateProvider(p.ctx, provider, []byte{1}), tx.CreateSource(p.ctx, source))
	})
	return provider.ID, source.ID
}

func (p *past) record(id purser.SourceID, after time.Duration, u purser.Usage) {
	p.tb.Helper()
	p.in(func(tx *store.Tx) error { return tx.RecordReading(p.ctx, p.team, id, midnight.Add(after), u, patience) })
}

// hours asks for a number of hours from midnight on.
func (p *past) hours(from, to int) purser.HistoryRequest {
	return purser.HistoryRequest{
		From: midnight.Add(time.Duration(from) * time.Hour), To: midnight.Add(time.Duration(to) * time.Hour), Step: purser.StepHour,
	}
}

func (p *past) history(q purser.HistoryRequest) purser.History {
	p.tb.Helper()
	h, err := p.service.History(p.ctx, p.viewer, q)
	if err != nil {
		p.tb.Fatal(err)
	}
	return h
}

func item(hour int, bytes, byteHours purser.Bytes, complete bool) purser.HistoryItem {
	return purser.HistoryItem{
		At: midnight.Add(time.Duration(hour) * time.Hour), Usage: purser.Usage{Dataset: bytes}, ByteHours: purser.Usage{Dataset: byteHours}, Complete: complete,
	}
}

// at is a measurement some hours after midnight.
type at struct {
	hours float64
	bytes purser.Bytes
}

func TestHistory(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		measured []at
		from, to int
		want     []purser.HistoryItem
	}{
		"a constant amount": {
			[]at{{0, 100}, {1, 100}, {2, 100}},
			0, 2,
			[]purser.HistoryItem{item(1, 100, 100, true), item(2, 100, 100, true)},
		},
		"growth between whole hours": {
			[]at{{0.5, 0}, {2.5, 800}}, // 400 an hour
			0, 3, []purser.HistoryItem{item(1, 0, 50, true), item(2, 0, 400, true), item(3, 800, 350, false)},
		},
		"several measurements in an hour": {
			[]at{{0, 0}, {0.25, 800}, {0.75, 800}, {1, 0}, {1.5, 0}},
			0, 1,
			[]purser.HistoryItem{item(1, 0, 600, true)},
		},
		"a gap adds nothing, and the last figures stand": {
			[]at{{0, 100}, {1, 100}, {4.5, 300}, {5, 300}},
			0, 5,
			[]purser.HistoryItem{item(1, 100, 100, true), item(2, 100, 0, false), item(3, 100, 0, false), item(4, 100, 0, false), item(5, 300, 150, false)},
		},
		"three intervals are no gap": {
			[]at{{0, 100}, {3, 100}},
			0, 3,
			[]purser.HistoryItem{item(1, 100, 100, true), item(2, 100, 100, true), item(3, 100, 100, true)},
		},
		"what is not measured yet": {
			[]at{{0, 100}, {1.5, 100}},
			0, 3,
			[]purser.HistoryItem{item(1, 100, 100, true), item(2, 100, 50, false), item(3, 100, 0, false)},
		},
		"never measured": {
			nil,
			0, 2,
			[]purser.HistoryItem{item(1, 0, 0, false), item(2, 0, 0, false)},
		},
		"measured soon after it was due": {
			[]at{{1.5, 100}, {2, 100}},
			0, 2,
			[]purser.HistoryItem{item(1, 0, 0, true), item(2, 100, 50, true)},
		},
		"measured long after it was due": {
			[]at{{4, 100}, {5, 100}},
			2, 5,
			[]purser.HistoryItem{item(3, 0, 0, false), item(4, 100, 0, false), item(5, 100, 100, true)},
		},
		"before there was anything": {
			[]at{{0, 100}},
			-1, 0,
			[]purser.HistoryItem{item(0, 100, 0, true)},
		},
		"a part that begins long after the last measurement": {
			[]at{{-50, 100}, {-49, 200}},
			30, 31,
			[]purser.HistoryItem{item(31, 200, 0, false)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPast(t)
			_, source := p.newBucket()
			for _, m := range test.measured {
				p.record(source, time.Duration(m.hours*float64(time.Hour)), purser.Usage{Dataset: m.bytes})
			}
			if diff := cmp.Diff(test.want, p.history(p.hours(test.from, test.to)).Items); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestHistoryOfSeveral adds up two buckets, of which one is deleted and the
// other moves. The past stays as it was.
func TestHistoryOfSeveral(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	first, source := p.newBucket()
	second, other := p.newBucket()
	for hour := range 6 {
		p.record(source, time.Duration(hour)*time.Hour, purser.Usage{Dataset: 10})
		p.record(other, time.Duration(hour)*time.Hour, purser.Usage{Dataset: 100})
	}
	before := p.history(p.hours(0, 5)).Items
	if got := before[4]; got != item(5, 110, 110, true) {
		t.Errorf("both: %+v", got)
	}
	p.in(func(tx *store.Tx) error {
		return errors.Join(tx.DeleteSource(p.ctx, p.team, source), tx.DeleteProvider(p.ctx, p.team, first), tx.ResetSource(p.ctx, p.team, other))
	})
	p.record(other, 7*time.Hour, purser.Usage{Dataset: 5000})
	p.record(other, 8*time.Hour, purser.Usage{Dataset: 5000})
	if diff := cmp.Diff(before, p.history(p.hours(0, 5)).Items); diff != "" {
		t.Errorf("the past has changed (-before +after):\n%s", diff)
	}
	// The database's clock is years behind these measurements, so that both ended
	// with the last of them: no line leads from 100 in one bucket to 5000 in another.
	if diff := cmp.Diff([]purser.HistoryItem{item(6, 0, 0, true), item(7, 5000, 0, true), item(8, 5000, 5000, true)}, p.history(p.hours(5, 8)).Items); diff != "" {
		t.Errorf("after the change (-want +got):\n%s", diff)
	}
	for id, want := range map[purser.ProviderID]purser.Bytes{first: 10, second: 100} {
		q := p.hours(0, 1)
		q.Provider = id
		h := p.history(q)
		if h.Items[0] != item(1, want, want, true) || h.DaysUntilFull != nil {
			t.Errorf("provider: %+v", h)
		}
	}
}

// TestHistoryAddsUp cuts histories at random: the parts add up to the whole, in
// hours and in days, and gaps are found wherever they are.
func TestHistoryAddsUp(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	rapid.Check(t, func(t *rapid.T) {
		p := &past{tb: t, ctx: p.ctx, store: p.store, service: p.service, now: p.now}
		p.newTeam()
		for range rapid.IntRange(1, 3).Draw(t, "sources") {
			_, source := p.newBucket()
			after := time.Duration(0)
			for range rapid.IntRange(0, 30).Draw(t, "measurements") {
				after += time.Duration(rapid.IntRange(1, 4*3600).Draw(t, "seconds")) * time.Second
				p.record(source, after, purser.Usage{
					Dataset: purser.Bytes(rapid.Int64Range(0, 1<<50).Draw(t, "bytes")), Model: purser.Bytes(rapid.Int64Range(0, 9).Draw(t, "few")),
				})
			}
		}
		const end = 5 * 24
		cut := rapid.IntRange(1, end-1).Draw(t, "cut")
		whole := p.history(p.hours(0, end)).Items
		parts := append(p.history(p.hours(0, cut)).Items, p.history(p.hours(cut, end)).Items...)
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Fatalf("cut at %d (-whole +parts):\n%s", cut, diff)
		}
		days := p.hours(0, end)
		days.Step = purser.StepDay
		for i, day := range p.history(days).Items {
			want := purser.HistoryItem{At: day.At, Complete: true}
			for _, hour := range whole[24*i : 24*i+24] {
				want.Usage, want.ByteHours, want.Complete = hour.Usage, want.ByteHours.Plus(hour.ByteHours), want.Complete && hour.Complete
			}
			if diff := cmp.Diff(want, day); diff != "" {
				t.Fatalf("day %d (-hours +day):\n%s", i, diff)
			}
		}
	})
}

func TestHistoryRequests(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	_, source := p.newBucket()
	p.record(source, 0, purser.Usage{Dataset: 1})
	hoursAgo := func(n int) time.Time { return p.now.Add(-time.Duration(n) * time.Hour) }
	for name, test := range map[string]struct {
		q     purser.HistoryRequest
		items int
		fault purser.Faults
	}{
		"nothing said":                {purser.HistoryRequest{}, 24, nil},
		"days":                        {purser.HistoryRequest{Step: purser.StepDay}, 30, nil},
		"the end alone":               {purser.HistoryRequest{To: hoursAgo(10)}, 24, nil},
		"the future is left out":      {purser.HistoryRequest{From: hoursAgo(2), To: p.now.AddDate(100, 0, 0)}, 2, nil},
		"less than a step":            {purser.HistoryRequest{From: p.now.Add(-50 * time.Minute), To: p.now.Add(-time.Minute)}, 0, nil},
		"not at whole hours":          {purser.HistoryRequest{From: p.now.Add(-150 * time.Minute), To: p.now.Add(-time.Minute)}, 2, nil},
		"as many hours as there are":  {purser.HistoryRequest{From: hoursAgo(2200)}, 2200, nil},
		"as many days as there are":   {purser.HistoryRequest{From: hoursAgo(1830 * 24), Step: purser.StepDay}, 1830, nil},
		"too many hours":              {purser.HistoryRequest{From: hoursAgo(2201)}, 0, purser.Faults{"?from": "must not lead back more than 2200 hours; ask for step=day to go further"}},
		"too many days":               {purser.HistoryRequest{From: hoursAgo(1831 * 24), Step: purser.StepDay}, 0, purser.Faults{"?from": "must not lead back more than 1830 days, for older figures are not kept"}},
		"an end too far back":         {purser.HistoryRequest{To: hoursAgo(3000)}, 0, purser.Faults{"?to": "must not lead back more than 2200 hours; ask for step=day to go further"}},
		"the wrong way round":         {purser.HistoryRequest{From: hoursAgo(1), To: hoursAgo(2)}, 0, purser.Faults{"?from": "must be earlier than to, and not in the future"}},
		"no time at all":              {purser.HistoryRequest{From: hoursAgo(1), To: hoursAgo(1)}, 0, purser.Faults{"?from": "must be earlier than to, and not in the future"}},
		"nothing but the future":      {purser.HistoryRequest{From: p.now.Add(time.Hour)}, 0, purser.Faults{"?from": "must be earlier than to, and not in the future"}},
		"the beginning of all things": {purser.HistoryRequest{From: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)}, 0, purser.Faults{"?from": "must not lead back more than 2200 hours; ask for step=day to go further"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := p.service.History(p.ctx, p.viewer, test.q)
			var invalid *purser.Error
			if errors.As(err, &invalid) != (test.fault != nil) || len(h.Items) != test.items {
				t.Fatalf("%d items, %v", len(h.Items), err)
			}
			if test.fault == nil {
				return
			}
			if diff := cmp.Diff(test.fault, invalid.Details); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, id := range []purser.ProviderID{purser.NewProviderID(), "malformed"} {
		if _, err := p.service.History(p.ctx, p.viewer, purser.HistoryRequest{Provider: id}); purser.KindOf(err) != purser.KindNotFound {
			t.Errorf("provider %s: %v", id, err)
		}
	}
	if _, err := p.service.History(p.ctx, auth.Principal{TeamID: p.team}, purser.HistoryRequest{}); purser.KindOf(err) != purser.KindPermissionDenied {
		t.Errorf("nobody: %v", err)
	}
}

// TestForecast has a plan of 1000 bytes.
func TestForecast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		days int
		used func(day int) purser.Bytes // measured in the middle of each day
		want int                        // -1: nobody can tell
	}{
		"ten bytes a day":                {12, func(day int) purser.Bytes { return purser.Bytes(10 * day) }, 89},
		"up and down, but growing":       {12, func(day int) purser.Bytes { return purser.Bytes(10*day + 5*(day%2)) }, 87},
		"too short a history":            {6, func(day int) purser.Bytes { return purser.Bytes(10 * day) }, -1},
		"constant":                       {12, func(int) purser.Bytes { return 500 }, -1},
		"shrinking":                      {12, func(day int) purser.Bytes { return purser.Bytes(900 - day) }, -1},
		"empty":                          {12, func(int) purser.Bytes { return 0 }, -1},
		"full":                           {1, func(int) purser.Bytes { return 1000 }, 0},
		"over full":                      {12, func(int) purser.Bytes { return math.MaxInt64 }, 0},
		"growing too slowly to speak of": {30, func(day int) purser.Bytes { return purser.Bytes(day / 29) }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPast(t)
			_, source := p.newBucket()
			p.in(func(tx *store.Tx) (err error) {
				for hour := range 24 * test.days { // were there fewer, there would be gaps
					u := purser.Usage{Model: test.used(hour / 24)}
					err = errors.Join(err, tx.RecordReading(p.ctx, p.team, source, midnight.Add(time.Duration(hour)*time.Hour), u, patience))
				}
				return err
			})
			newest := purser.SourceUsage{Tallies: map[purser.Category]purser.Tally{purser.CategoryModel: {Current: test.used(test.days - 1)}}, MeasuredAt: midnight}
			p.in(func(tx *store.Tx) error {
				return errors.Join(tx.PublishSource(p.ctx, p.team, source, newest), tx.RefreshTeamUsage(p.ctx, p.team))
			})
			p.now = midnight.Add(time.Duration(24*test.days)*time.Hour - time.Minute)
			got := -1
			if days := p.history(purser.HistoryRequest{}).DaysUntilFull; days != nil {
				got = *days
			}
			if got != test.want {
				t.Errorf("%d days, want %d", got, test.want)
			}
		})
	}
}

// BenchmarkHistory asks for the past of ten buckets that are measured hourly.
func BenchmarkHistory(b *testing.B) {
	p := newPast(b)
	const hours = 2200
	for range 10 {
		_, source := p.newBucket()
		p.in(func(tx *store.Tx) (err error) {
			for hour := range hours {
				u := purser.Usage{Dataset: purser.Bytes(hour) << 30, Model: 1 << 40}
				err = errors.Join(err, tx.RecordReading(p.ctx, p.team, source, midnight.Add(time.Duration(hour)*time.Hour), u, patience))
			}
			return err
		})
	}
	p.now = midnight.Add(hours * time.Hour)
	for name, q := range map[string]purser.HistoryRequest{
		"a day by the hour":   {},
		"90 days by the hour": {From: p.now.Add(-90 * 24 * time.Hour)},
		"90 days by the day":  {From: p.now.Add(-90 * 24 * time.Hour), Step: purser.StepDay},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.history(q)
			}
		})
	}
}
