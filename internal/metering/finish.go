package metering

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

const (
	// maxFailures is how many slices in a row may get nowhere before the scan is
	// given up: with the waits between them, a store may be away for some minutes.
	maxFailures = 8
	// maxRetry is the longest wait between two tries that we choose ourselves.
	maxRetry = 2 * time.Minute
	// maxRetryAfter is the longest wait that a store may ask for.
	maxRetryAfter = 5 * time.Minute
	// saveTimeout bounds a save by a slice that is being stopped.
	saveTimeout = 10 * time.Second
)

// finish brings a slice to its end in one transaction and says what became of it.
func (sl *slice) finish(ctx context.Context, cause error) (outcome string) {
	var problem *source.Error
	var err error
	switch {
	case errors.Is(cause, errLost):
		outcome, err = "lost", errLost
	case errors.Is(cause, errSpent):
		outcome, err = sl.rest(ctx)
	case cause == nil && sl.done:
		outcome, err = "finished", sl.publish(ctx)
	case cause == nil, errors.Is(cause, errStopping):
		outcome, err = "continued", sl.handOver(ctx)
	case !errors.As(cause, &problem):
		outcome, err = "abandoned", cause // the store is in trouble, or the queue gave up on us
	case problem.Temporary && sl.failures() < maxFailures:
		outcome, err = "waiting", sl.wait(ctx, problem)
	default:
		outcome, err = "failed", sl.fail(ctx, problem)
	}
	switch {
	case errors.Is(err, errLost):
		sl.log.DebugContext(ctx, "a scan's work was taken over, or the scan has ended")
		sl.spendLost(ctx)
		return "lost"
	case err != nil:
		// Nothing was saved that others could not go on from when the lease runs out.
		sl.log.WarnContext(ctx, "a scan's work could not be saved; it goes on from the last time it was", "error", err)
		return "abandoned"
	}
	return outcome
}

// failures is how many slices in a row will have got nowhere if this one has
// failed.
func (sl *slice) failures() int64 {
	if sl.kept.progress {
		return 1
	}
	return sl.claimed.Failures + 1
}

// save stores the work done so far, with the lease that change leaves, and
// whatever else change does; errLost if the range is not this slice's any more,
// and then nothing is stored.
func (sl *slice) save(ctx context.Context, change func(tx *store.Tx, r *store.Range, now time.Time) error) error {
	// Stopping interrupts steps, not saves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	s := sl.service
	err := s.inTeam(ctx, sl.claimed.TeamID, func(tx *store.Tx, now time.Time) (err error) {
		r, kept := sl.claimed, &sl.kept
		if kept.work.Spans != nil { // else nothing has begun
			if r.Cursor, err = json.Marshal(kept.work); err != nil {
				return err
			}
		}
		if r.Details, err = json.Marshal(&kept.details); err != nil {
			return err
		}
		r.Tallies, r.Requests, r.Incomplete = kept.sums.tallies(), kept.requests, kept.incomplete
		r.LeaseUntil = now.Add(s.times.lease)
		if kept.progress {
			r.Failures = 0
		}
		if err := sl.spend(ctx, tx, now); err != nil {
			return err
		}
		if err := change(tx, &r, now); err != nil {
			return err
		}
		return sl.rememberRegion(ctx, tx)
	})
	if err == nil {
		sl.savedAt, sl.accounted = time.Now(), sl.kept.requests
	}
	return err
}

// store saves the range itself. It comes first in every change: what it refuses
// to save, nobody may act upon.
func (sl *slice) store(ctx context.Context, tx *store.Tx, r store.Range, now time.Time) ([]store.Range, error) {
	err := tx.SaveRange(ctx, r)
	if purser.KindOf(err) == purser.KindNotFound {
		return nil, errLost
	}
	if err != nil {
		return nil, err
	}
	ranges, err := tx.ListRanges(ctx, r.TeamID, r.ScanID)
	if err != nil {
		return nil, err
	}
	progress := purser.Scan{TeamID: r.TeamID, ID: r.ScanID, Error: sl.trouble}
	if progress.Error == nil {
		progress.Error = sl.shortage(ranges, now)
	}
	for _, r := range ranges {
		sums := countsOf(r.Tallies)
		progress.Objects += sums.objects()
		progress.Bytes += purser.Bytes(sums.bytes)
		progress.Requests += r.Requests
	}
	return ranges, tx.SetScanProgress(ctx, progress)
}

// rememberRegion keeps the signing region that the source found out, so that the
// next one need not.
func (sl *slice) rememberRegion(ctx context.Context, tx *store.Tx) error {
	p := sl.plan
	region := sl.kept.details.Detected.Region
	if region == "" || region == p.bucket.Region || p.source.ProviderID == "" {
		return nil
	}
	return tx.SetDetectedRegion(ctx, p.source.TeamID, p.source.ProviderID, region, p.provider.Version)
}

// saveProgress saves in the middle of a slice, and offers what was given away to
// others; nil is nothing.
func (sl *slice) saveProgress(ctx context.Context, given *engine.Work) error {
	sl.keep()
	var saved store.Range
	err := sl.save(ctx, func(tx *store.Tx, r *store.Range, now time.Time) error {
		if err := sl.allow(ctx, tx, r); err != nil {
			return err
		}
		saved = *r
		ranges, err := sl.store(ctx, tx, *r, now)
		if err != nil || given == nil {
			return err
		}
		return sl.share(ctx, tx, ranges, given, now)
	})
	switch {
	case err == nil:
		sl.setLimit(saved)
	case given != nil:
		return unsharedError{err}
	}
	return err
}

// unsharedError is the failure of a save that was to leave a part of the work to
// other nodes. Whether they have it is not known for sure, and what is kept here
// is without it: the slice ends and nothing more of it is saved, whatever else
// would have ended it, lest the part be left out or counted twice.
type unsharedError struct{ error }

func (e unsharedError) Unwrap() error { return e.error }

// maxRanges is how many ranges a scan is shared out in at most: enough for as
// many nodes, each of which cuts its own into spans.
const maxRanges = 16

// give takes about half of what is left from the engine, if another node has
// asked for work, and what was given before has found one. A scan that is over in
// a moment is not shared.
func (sl *slice) give(ctx context.Context) (*engine.Work, error) {
	s := sl.service
	if sl.plan.source.ProviderID == "" || sl.claimed.Cursor == nil && time.Since(sl.began) < 2*s.times.poll {
		return nil, nil
	}
	if s.asker() == "" {
		sl.engine.Keep()
		return nil, nil
	}
	if !sl.engine.Share() {
		return nil, nil
	}
	ranges, err := s.Store.ListRanges(ctx, sl.claimed.TeamID, sl.claimed.ScanID)
	onOffer := func(r store.Range) bool { return r.Cursor != nil && r.Fence <= 1 }
	if err != nil || len(ranges) >= maxRanges || slices.ContainsFunc(ranges, onOffer) {
		return nil, err
	}
	return sl.engine.Give(), nil
}

// share makes a range of what was given away, and offers it.
func (sl *slice) share(ctx context.Context, tx *store.Tx, ranges []store.Range, given *engine.Work, now time.Time) error {
	cursor, err := json.Marshal(given)
	if err != nil {
		return err
	}
	key := sl.claimed.RangeKey
	key.Number = ranges[len(ranges)-1].Number + 1
	if err := tx.CreateRange(ctx, key, sl.claimed.Place, cursor); err != nil {
		return err
	}
	if err := sl.service.offerFrom(ctx, tx, key, now, sl.service.jobs.ID()); err != nil {
		return err
	}
	return sl.service.answer(ctx, tx)
}

// handOver ends a slice whose range is not done: the next one is offered to
// whoever is free, on any node.
func (sl *slice) handOver(ctx context.Context) error {
	return sl.save(ctx, func(tx *store.Tx, r *store.Range, now time.Time) error {
		if _, err := sl.store(ctx, tx, *r, now); err != nil {
			return err
		}
		return sl.service.offer(ctx, tx, r.RangeKey, now)
	})
}

// wait ends a slice that met a temporary failure: the lease runs until the next
// try, and the tick offers the range then.
func (sl *slice) wait(ctx context.Context, problem *source.Error) error {
	asked := problem.RetryAfter
	if !sl.now.progress { // a worker stood there for nothing: others have it for as long
		asked = max(asked, time.Since(sl.began))
	}
	delay := retryDelay(sl.service.times.retry, sl.failures(), asked)
	sl.log.WarnContext(ctx, "a scan met a failure that may pass; it is tried again",
		"code", problem.Code, "failures", sl.failures(), "wait", delay, "error", problem.Err)
	sl.trouble = &problem.ScanError // whoever looks at the scan is told what it waits for
	return sl.save(ctx, func(tx *store.Tx, r *store.Range, now time.Time) error {
		r.Failures, r.LeaseUntil = sl.failures(), now.Add(delay)
		if _, err := sl.store(ctx, tx, *r, now); err != nil || sl.kept.progress {
			return err
		}
		return tx.SetHealth(ctx, r.TeamID, sl.plan.source.ID, purser.HealthFailing, sl.trouble, now)
	})
}

// retryDelay is how long to wait after a number of failures: twice as long each
// time, at least what was asked for, and a little more or less, so that
// scans that failed together do not come back together.
func retryDelay(first time.Duration, failures int64, asked time.Duration) time.Duration {
	delay := first << min(failures-1, 16)
	delay = min(delay, max(maxRetry, first))
	delay = max(delay, min(asked, maxRetryAfter))
	return jitter(delay)
}

// jitter returns d, a tenth more or less.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // nobody gains from guessing it
}

// fail ends the scan; the figures of the last complete one stay.
func (sl *slice) fail(ctx context.Context, problem *source.Error) error {
	end := &ending{
		state: purser.ScanFailed, problem: &problem.ScanError, source: sl.plan.source.ID, health: purser.HealthFailing, cause: problem.Err,
	}
	err := sl.save(ctx, func(tx *store.Tx, r *store.Range, now time.Time) error {
		if _, err := sl.store(ctx, tx, *r, now); err != nil {
			return err
		}
		if problem.Code == source.CodeWrongRegion && sl.plan.credential.DetectedRegion != "" {
			// What was found out once is wrong by now, so the next scan finds out anew.
			p := sl.plan
			if err := tx.SetDetectedRegion(ctx, p.source.TeamID, p.source.ProviderID, "", p.provider.Version); err != nil {
				return err
			}
		}
		return sl.service.end(ctx, tx, r.RangeKey, end, now)
	})
	if err == nil {
		sl.service.tellEnd(ctx, sl.log, end)
	}
	return err
}

// publish ends a range that is done, and with the last one the scan.
func (sl *slice) publish(ctx context.Context) error {
	var end *ending
	err := sl.save(ctx, func(tx *store.Tx, r *store.Range, now time.Time) error {
		end = nil
		r.Done = true
		ranges, err := sl.store(ctx, tx, *r, now)
		if err != nil {
			return err
		}
		result, left, err := sumUp(ranges)
		if err != nil || left {
			return err
		}
		if end, err = sl.judge(ctx, tx, result); err != nil {
			return err
		}
		if end.state == purser.ScanDone {
			usage := purser.SourceUsage{
				Tallies: result.counts.tallies(), MeasuredAt: now, Method: sl.kept.method, Requests: result.requests,
				Folders: result.details.Folders.Levels(), StorageClasses: result.details.storageClasses(),
			}
			if err := sl.service.publishUsage(ctx, tx, r.TeamID, sl.plan.source.ID, usage); err != nil {
				return err
			}
			if err := sl.saveCuts(ctx, tx, &result.details.Sample); err != nil {
				return err
			}
		}
		return sl.service.end(ctx, tx, r.RangeKey, end, now)
	})
	if err == nil {
		sl.service.tellEnd(ctx, sl.log, end)
	}
	return err
}

// saveCuts keeps where the next scan of a bucket begins.
func (sl *slice) saveCuts(ctx context.Context, tx *store.Tx, s *sample) error {
	if sl.plan.source.ProviderID == "" {
		return nil
	}
	cuts, err := json.Marshal(s.cuts())
	if err != nil {
		return err
	}
	return tx.SetCuts(ctx, sl.claimed.TeamID, sl.plan.source.ID, cuts)
}

// result is what all ranges of a scan found together.
type result struct {
	counts     counts
	details    details
	requests   int64
	incomplete *purser.ScanError
	absurd     bool
}

// sumUp adds up a scan's ranges; left is true while some of them have work left.
func sumUp(ranges []store.Range) (sum result, left bool, _ error) {
	for _, r := range ranges {
		var d details
		if r.Details != nil {
			if err := json.Unmarshal(r.Details, &d); err != nil {
				return sum, left, &purser.Error{Kind: purser.KindInternal, Op: "metering.sumUp", Err: err}
			}
		}
		sum.details.add(d)
		c := countsOf(r.Tallies)
		sum.absurd = sum.absurd || !sum.counts.merge(&c)
		sum.requests += r.Requests
		if r.Incomplete != nil {
			sum.incomplete = r.Incomplete
		}
		left = left || !r.Done
	}
	return sum, left, nil
}

// judge decides how a scan that has read everything ends. The place is checked
// once more: the team's lock is held now, so it stays what it is.
func (sl *slice) judge(ctx context.Context, tx *store.Tx, sum result) (*ending, error) {
	plan, err := sl.service.planForScan(ctx, tx, sl.claimed)
	switch {
	case err != nil:
		return nil, err
	case plan == nil:
		return endChanged, nil
	}
	end := &ending{state: purser.ScanFailed, source: plan.source.ID, health: purser.HealthFailing, detected: &sum.details.Detected}
	switch {
	case sum.absurd:
		end.problem = &errAbsurd.ScanError
	case sum.incomplete != nil:
		end.problem, end.health = sum.incomplete, purser.HealthDegraded
	default:
		end.state, end.health = purser.ScanDone, purser.HealthOK
		if sum.counts.objects() == 0 {
			end.problem = sl.oddity
		}
	}
	return end, nil
}

// ending is how a scan ends.
type ending struct {
	state   purser.ScanState
	problem *purser.ScanError
	// source is the one that was scanned, and health what that says about it; empty
	// for nothing.
	source purser.SourceID
	health purser.HealthState
	// detected is what was found out about its store, if the scan got to its end.
	detected *purser.Detected
	cause    error // for the log
}

// fault is the problem of a scan that has failed; one that is done may be odd.
func (e *ending) fault() *purser.ScanError {
	if e.state == purser.ScanDone {
		return nil
	}
	return e.problem
}

// endChanged ends a scan whose provider or tree is not what it was. Whoever
// changed it has seen to its figures and to a new scan.
var endChanged = &ending{state: purser.ScanCancelled, problem: &purser.ScanError{
	Code:    source.CodeChanged,
	Message: "What this scan measured was changed or deleted meanwhile.",
	Hint:    "Nothing needs to be done: what is still there is measured anew.",
}}

// end puts a scan into its final state and brings the team's usage in line.
func (s *Service) end(ctx context.Context, tx *store.Tx, key store.RangeKey, e *ending, now time.Time) error {
	if e.state == purser.ScanFailed { // the figures are from now on those of an older scan
		if err := tx.MarkSourceIncomplete(ctx, key.TeamID, e.source); err != nil {
			return err
		}
	}
	if e.health != "" {
		if err := tx.SetHealth(ctx, key.TeamID, e.source, e.health, e.fault(), now); err != nil {
			return err
		}
	}
	if e.detected != nil {
		if err := tx.SetDetected(ctx, key.TeamID, e.source, *e.detected); err != nil {
			return err
		}
	}
	if err := tx.RefreshTeamUsage(ctx, key.TeamID); err != nil {
		return err
	}
	_, err := tx.EndScan(ctx, key.TeamID, key.ScanID, e.state, e.problem, now)
	return err
}

// tellEnd tells the log and the observer how a scan has ended; nil is that it
// has not.
func (s *Service) tellEnd(ctx context.Context, log *slog.Logger, e *ending) {
	if e == nil {
		return
	}
	code, level := "", slog.LevelInfo
	if e.problem != nil {
		code = e.problem.Code
	}
	if e.state == purser.ScanFailed {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, "scan ended", "state", e.state, "code", code, "error", e.cause)
	if s.Observer.ScanEnded != nil {
		s.Observer.ScanEnded(e.state, code)
	}
}
