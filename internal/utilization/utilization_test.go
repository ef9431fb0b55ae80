package utilization_test

import (
	"errors"
	"testing"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/utilization"
)

// TestBudget: what was spent of a budget is told with the figures, for the day on
// which somebody asks.
func TestBudget(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	p.service.RequestsPerDay = 100
	provider := purser.Provider{ID: purser.NewProviderID(), TeamID: p.team, Name: "b", S3: purser.S3Config{Bucket: "b"}, Version: 1, CreatedAt: p.now, UpdatedAt: p.now}
	source := store.Source{TeamID: p.team, ID: purser.NewSourceID(), ProviderID: provider.ID, DueAt: p.now}
	p.in(func(tx *store.Tx) error {
		spend := func() error {
			_, err := tx.SpendRequests(p.ctx, p.team, source.ID, purser.StepDay.Begin(p.now), 30)
			return err
		}
		usage := purser.SourceUsage{MeasuredAt: p.now, Method: "list", Requests: 30}
		return errors.Join(tx.CreateProvider(p.ctx, provider, []byte("sealed")), tx.CreateSource(p.ctx, source), spend(), tx.PublishSource(p.ctx, p.team, source.ID, usage))
	})
	today := purser.StepDay.Begin(p.now)
	for range 2 {
		usage, err := p.service.Provider(p.ctx, p.viewer, provider.ID)
		want := purser.RequestBudget{PerDay: 100, Day: purser.StepDay.Begin(p.now)}
		if want.Day.Equal(today) {
			want.Spent = 30
		}
		if err != nil || usage.Budget != want || usage.Requests != 30 || usage.EstimatedCost != purser.EstimateCost(30) {
			t.Errorf("%+v, %v; want the budget %+v", usage, err, want)
		}
		if health, err := p.service.Health(p.ctx, p.viewer, provider.ID); err != nil || health.Budget != want || health.Method != "list" {
			t.Errorf("%+v, %v; want the budget %+v", health, err, want)
		}
		p.now = p.now.Add(24 * time.Hour)
	}
}

// TestState walks one team through the life of its figures.
func TestState(t *testing.T) {
	t.Parallel()
	ctx, now := t.Context(), time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	s, err := store.OpenSQLite(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	clock := func() time.Time { return now }
	service := utilization.New(utilization.Options{Store: s, Changes: change.NewMaker(s, nil, clock), ScanInterval: time.Hour, Now: clock})
	team := purser.Team{ID: purser.NewTeamID(), Name: "vision", Namespace: "vision", TotalFreeStorage: 100, CreatedAt: now}
	viewer := auth.Principal{KeyID: purser.NewKeyID(), TeamID: team.ID, Role: purser.RoleViewer}
	source := store.Source{TeamID: team.ID, ID: purser.NewSourceID(), TreeCategory: purser.CategoryDataset, TreePath: "/srv/{team}", DueAt: now}
	in := func(fn func(tx *store.Tx) error) {
		t.Helper()
		err := s.InTx(ctx, func(tx *store.Tx) error { return errors.Join(fn(tx), tx.RefreshTeamUsage(ctx, team.ID)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, state purser.UsageState, total, remaining purser.Bytes) {
		t.Helper()
		u, err := service.Team(ctx, viewer)
		if err != nil {
			t.Fatal(err)
		}
		if u.State != state || u.Total() != total || u.RemainingFreeStorage() != remaining {
			t.Errorf("%s: %s, total %d, remaining %d; want %s, %d, %d", when, u.State, u.Total(), u.RemainingFreeStorage(), state, total, remaining)
		}
	}
	in(func(tx *store.Tx) error { return tx.CreateTeam(ctx, team) })
	expect("nothing to measure", purser.UsageComplete, 0, 100)
	in(func(tx *store.Tx) error { return tx.CreateSource(ctx, source) })
	expect("never measured", purser.UsagePending, 0, 100)
	publish := func(size purser.Bytes) {
		in(func(tx *store.Tx) error {
			return tx.PublishSource(ctx, team.ID, source.ID, purser.SourceUsage{
				Tallies: map[purser.Category]purser.Tally{purser.CategoryDataset: {Objects: 1, Current: size}}, MeasuredAt: now, Method: "walk",
			})
		})
	}
	publish(30)
	expect("measured", purser.UsageComplete, 30, 70)
	in(func(tx *store.Tx) error { return tx.MarkSourceIncomplete(ctx, team.ID, source.ID) })
	expect("a scan has failed since", purser.UsageStale, 30, 70)
	publish(300)
	expect("over the plan", purser.UsageComplete, 300, 0)
	now = now.Add(3*time.Hour + time.Second)
	expect("overdue", purser.UsageStale, 300, 0)

	if _, err := service.Provider(ctx, viewer, purser.NewProviderID()); purser.KindOf(err) != purser.KindNotFound {
		t.Errorf("an unknown provider: %v", err)
	}
	if _, err := service.Team(ctx, auth.Principal{TeamID: team.ID}); purser.KindOf(err) != purser.KindPermissionDenied {
		t.Errorf("nobody: %v", err)
	}
}
