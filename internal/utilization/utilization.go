// Package utilization answers how full things are: a team's usage against its
// plan, what one provider holds, how both came about, and whether it can be read.
//
// It leaves measuring to package metering and never causes any. What always
// holds: answers come from counters, at a cost that does not depend on how many
// objects there are; that of the usage does not depend on how many providers
// either. A history never draws a line across a time in which nothing was
// measured.
package utilization

import (
	"context"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/store"
)

// overdue is how many scan intervals a measurement may be old before the
// figures count as stale: one that is under way, and one that had to be retried.
const overdue = 3

// Options are the parts of a Service; all but RequestsPerDay are needed.
type Options struct {
	Store        *store.Store
	Changes      *change.Maker
	ScanInterval time.Duration
	// RequestsPerDay is how many requests scans may send to a bucket on a day; 0
	// means no limit.
	RequestsPerDay int64
	Now            func() time.Time
}

// Service is the service for utilization. It is safe for concurrent use.
type Service struct{ Options }

// New makes a Service.
func New(o Options) *Service { return &Service{o} }

// Team returns the team's usage by category and how far it can be trusted.
func (s *Service) Team(ctx context.Context, p auth.Principal) (purser.Utilization, error) {
	if err := s.Changes.Permit(ctx, p, auth.Read, "utilization.get", ""); err != nil {
		return purser.Utilization{}, err
	}
	usage, err := s.Store.GetTeamUsage(ctx, p.TeamID)
	if err != nil {
		return purser.Utilization{}, err
	}
	return purser.Utilization{
		Usage: usage.Usage, TotalFreeStorage: usage.TotalFreeStorage,
		MeasuredAt: usage.MeasuredAt, State: s.state(usage),
	}, nil
}

func (s *Service) state(u store.TeamUsage) purser.UsageState {
	switch {
	case u.PendingSources > 0:
		return purser.UsagePending
	case u.TroubledSources > 0, !u.MeasuredAt.IsZero() && s.Now().Sub(u.MeasuredAt) > overdue*s.ScanInterval:
		return purser.UsageStale
	}
	return purser.UsageComplete
}

// Provider returns the newest complete measurement of one provider's bucket, what
// it cost, and what is left of today's budget for the next ones.
func (s *Service) Provider(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.SourceUsage, error) {
	if err := s.Changes.Permit(ctx, p, auth.Read, "utilization.get", string(id)); err != nil {
		return purser.SourceUsage{}, err
	}
	usage, err := s.Store.GetSourceUsage(ctx, p.TeamID, id)
	if err != nil {
		return purser.SourceUsage{}, err
	}
	usage.EstimatedCost = purser.EstimateCost(usage.Requests)
	usage.Budget = usage.Budget.On(purser.StepDay.Begin(s.Now()), s.RequestsPerDay)
	return usage, nil
}

// Health returns whether the bucket of a provider could be read lately, and what
// is left of today's budget for trying.
func (s *Service) Health(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.Health, error) {
	if err := s.Changes.Permit(ctx, p, auth.Read, "health.get", string(id)); err != nil {
		return purser.Health{}, err
	}
	health, err := s.Store.GetHealth(ctx, p.TeamID, id)
	if err != nil {
		return purser.Health{}, err
	}
	health.Budget = health.Budget.On(purser.StepDay.Begin(s.Now()), s.RequestsPerDay)
	return health, nil
}
