package metering

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

// A budget of requests is one for all nodes, and kept with the source. Each slice
// has a part of it allowed to itself, noted with its range, before it sends
// anything, and accounts for what it has sent when it saves. So no node has to
// ask for each request, and together they do not send more than there is.

// errSpent is the end of a slice that may send nothing more for now.
var errSpent = &source.Error{ScanError: purser.ScanError{Code: source.CodeBudgetSpent}}

// today is the beginning of the day that requests are counted for.
func (s *Service) today(now time.Time) time.Time { return now.Truncate(s.times.day) }

func (s *Service) tomorrow(now time.Time) time.Time { return s.today(now).Add(s.times.day) }

// ask is what the engine asks before it sends requests: whether so many are
// allowed beyond those that it has reported.
func (sl *slice) ask(requests int64) error {
	if sl.now.requests+requests > sl.limit.Load() {
		return errSpent
	}
	return nil
}

// spend accounts for the requests since the last save, on the day of this one;
// errLost if the provider is gone, and its budget with it.
func (sl *slice) spend(ctx context.Context, tx *store.Tx, now time.Time) (err error) {
	src := sl.plan.source
	if src.ProviderID == "" {
		return nil
	}
	sl.spentToday, err = tx.SpendRequests(ctx, src.TeamID, src.ID, sl.service.today(now), sl.kept.requests-sl.accounted)
	if purser.KindOf(err) == purser.KindNotFound {
		return errLost
	}
	return err
}

// spendLost accounts for requests of a slice that may save nothing else any more.
func (sl *slice) spendLost(ctx context.Context) {
	if sl.kept.requests == sl.accounted {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := sl.service.inTeam(ctx, sl.claimed.TeamID, func(tx *store.Tx, now time.Time) error {
		return sl.spend(ctx, tx, now)
	})
	if err != nil && !errors.Is(err, errLost) {
		sl.log.WarnContext(ctx, "requests of a scan that was ended could not be accounted for", "error", err)
	}
}

// limited reports whether there is a budget at all.
func (sl *slice) limited() bool {
	return sl.service.RequestsPerDay > 0 && sl.plan.source.ProviderID != ""
}

// left is how much of today's budget nobody has spent and no other range has been
// allowed; others is what they have been, and shares how many ranges it is for.
// The team is locked, and what this range has sent is accounted for.
func (sl *slice) left(ctx context.Context, tx *store.Tx) (left, others, shares int64, _ error) {
	others, shares, err := tx.OthersAllowed(ctx, sl.claimed.RangeKey)
	return max(0, sl.service.RequestsPerDay-sl.spentToday-others), others, shares, err
}

// shortage is what the scan waits for if the day's budget is spent, and no range
// has anything left of it; else nil. It is told by whichever range is saved last,
// be it one that is done.
func (sl *slice) shortage(ranges []store.Range, now time.Time) *purser.ScanError {
	s := sl.service
	if !sl.limited() || sl.spentToday < s.RequestsPerDay || slices.ContainsFunc(ranges, func(r store.Range) bool { return r.Allowed > 0 }) {
		return nil
	}
	return &purser.ScanError{
		Code:    source.CodeBudgetSpent,
		Message: fmt.Sprintf("The budget of %d requests a day to this bucket is spent.", s.RequestsPerDay),
		Hint: fmt.Sprintf("The scan goes on by itself after %s; the operator can raise the budget (--scan-requests-per-day).",
			s.tomorrow(now).Format(time.RFC3339)),
	}
}

// allow allows the range its share of what is left, until it is saved again.
func (sl *slice) allow(ctx context.Context, tx *store.Tx, r *store.Range) error {
	if !sl.limited() {
		return nil
	}
	left, _, shares, err := sl.left(ctx, tx)
	if err != nil {
		return err
	}
	if shares > 0 { // else the scan has ended
		r.Allowed = (left + shares - 1) / shares
	}
	return nil
}

// setLimit lets the engine send as many requests as the range is allowed by what
// was saved. It comes after the commit: before it, nothing is promised.
func (sl *slice) setLimit(r store.Range) {
	limit := int64(math.MaxInt64)
	if sl.limited() {
		limit = r.Requests + r.Allowed
	}
	sl.limit.Store(limit)
}

// rest ends a slice that has sent all it was allowed. If nothing is left of the
// budget, the lease runs until there is a new one.
func (sl *slice) rest(ctx context.Context) (outcome string, err error) {
	s := sl.service
	err = sl.save(ctx, func(tx *store.Tx, r *store.Range, now time.Time) error {
		left, others, _, err := sl.left(ctx, tx)
		if err != nil {
			return err
		}
		switch {
		case left > 0: // a part of what others were allowed, or of a new day's
			outcome = "continued"
		case others > 0: // they may not need all of it
			outcome, r.LeaseUntil = "waiting", now.Add(s.times.lease)
		default: // but not all scans there are go on in the same moment
			outcome, r.LeaseUntil = "budget_spent", s.tomorrow(now).Add(rand.N(s.times.day/1000)) //nolint:gosec // nobody gains from guessing it
		}
		if _, err := sl.store(ctx, tx, *r, now); err != nil || left == 0 {
			return err
		}
		return s.offer(ctx, tx, r.RangeKey, now)
	})
	if err == nil && outcome == "budget_spent" {
		sl.log.InfoContext(ctx, "the budget of requests to a bucket is spent for today", "budget", s.RequestsPerDay)
	}
	return outcome, err
}

// wake lets the scans that wait for a new budget see whether there is one: this
// node may have been started because the operator has raised it.
func (s *Service) wake(ctx context.Context) {
	// All other leases and waits are shorter.
	longest := 2 * max(maxRetryAfter, s.times.lease, s.times.offer)
	err := s.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		return tx.WakeRanges(ctx, now, now.Add(longest))
	})
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "scans that wait for a budget of requests go on at the next one", "error", err)
	}
}

// clock is a store or a transaction of it.
type clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// present completes scans with what the store does not know.
func (s *Service) present(ctx context.Context, c clock, scans ...purser.Scan) ([]purser.Scan, error) {
	now, err := c.Now(ctx)
	if err != nil {
		return nil, err
	}
	for i := range scans {
		scan := &scans[i]
		if scan.ProviderID != "" {
			scan.EstimatedCost = purser.EstimateCost(scan.Requests)
		}
		if scan.Budget != nil {
			budget := scan.Budget.On(s.today(now), s.RequestsPerDay)
			scan.Budget = &budget
		}
	}
	return scans, nil
}

// presentOne is present for one scan.
func (s *Service) presentOne(ctx context.Context, c clock, scan purser.Scan, err error) (purser.Scan, error) {
	if err != nil {
		return purser.Scan{}, err
	}
	scans, err := s.present(ctx, c, scan)
	if err != nil {
		return purser.Scan{}, err
	}
	return scans[0], nil
}
