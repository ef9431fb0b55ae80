package metering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

// Why a slice ends before its work does.
var (
	// errLost: the scan has ended, or the range was taken over. Nothing may be
	// written any more.
	errLost = errors.New("the range is held by somebody else")
	// errStopping: the node stops.
	errStopping = errors.New("the node stops")
)

// slice is one bounded piece of work on a range, held under a fence. It belongs
// to one goroutine; only the watch runs beside it.
type slice struct {
	service *Service
	log     *slog.Logger
	plan    *plan
	claimed store.Range // as it was when this slice began; never changed, so that the watch may read it

	sums       counts // of all steps that have succeeded, of slices before too
	cursor     []byte
	requests   int64
	incomplete *purser.ScanError
	trouble    *purser.ScanError // the temporary failure that this slice ends with
	progress   bool              // some step has succeeded
	done       bool              // nothing follows

	method string
	region string            // found out by the source; "" if not
	oddity *purser.ScanError // what is to be told of a scan that succeeded

	began, savedAt time.Time
}

// work takes the range that a job tells of and works on it for one slice.
func (s *Service) work(ctx context.Context, args sliceArgs) {
	s.busy.Add(1)
	defer s.busy.Add(-1)
	log := s.log.With("team", args.Team, "scan", args.Scan, "range", args.Range)
	sl, err := s.claim(ctx, args, log)
	if err != nil {
		// The offer runs out, and the range is offered again.
		log.WarnContext(ctx, "a scan's work could not be taken up; it is tried again soon", "error", err)
		return
	}
	if sl == nil {
		return
	}
	requests := sl.requests
	outcome := sl.finish(ctx, sl.run(ctx))
	if s.Observer.SliceEnded != nil {
		s.Observer.SliceEnded(outcome, time.Since(sl.began), sl.requests-requests)
	}
}

// claim takes an offered range. It returns nil if there is nothing to do: the
// range was offered anew, the scan has ended, or it is ended here because what
// it measures is not there any more.
func (s *Service) claim(ctx context.Context, args sliceArgs, log *slog.Logger) (claimed *slice, err error) {
	var end *ending
	err = s.Store.InTx(ctx, func(tx *store.Tx) error {
		claimed, end = nil, nil
		if err := tx.LockTeam(ctx, args.Team); err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		r, err := tx.ClaimRange(ctx, args.key(), args.Fence, now.Add(s.times.lease))
		if purser.KindOf(err) == purser.KindNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		plan, err := s.planForScan(ctx, tx, r)
		if err != nil {
			return err
		}
		if plan == nil {
			end = endChanged
			return s.end(ctx, tx, r.RangeKey, end, now)
		}
		claimed = s.newSlice(r, plan, log)
		return tx.StartScan(ctx, args.Team, args.Scan, now)
	})
	if err != nil {
		return nil, err
	}
	s.tellEnd(ctx, log, end)
	return claimed, nil
}

// planForScan returns the plan of a range's scan, or nil if what it was begun
// for is not there any more: deleted, another bucket, or other rules.
func (s *Service) planForScan(ctx context.Context, tx *store.Tx, r store.Range) (*plan, error) {
	scan, err := tx.GetScan(ctx, r.TeamID, r.ScanID)
	if err != nil {
		return nil, err
	}
	src, err := tx.GetSource(ctx, r.TeamID, scan.SourceID)
	if err == nil {
		var p *plan
		if p, err = s.planFor(ctx, tx, src); err == nil && p.place == r.Place {
			return p, nil
		}
	}
	if err != nil && purser.KindOf(err) != purser.KindNotFound {
		return nil, err
	}
	return nil, nil
}

func (s *Service) newSlice(r store.Range, p *plan, log *slog.Logger) *slice {
	now := time.Now()
	return &slice{
		service: s, log: log.With("source", p.source.ID), plan: p, claimed: r,
		sums: countsOf(r.Tallies), cursor: r.Cursor, requests: r.Requests, incomplete: r.Incomplete,
		began: now, savedAt: now,
	}
}

// run takes steps until the range is done, its time is over or something goes
// wrong; nil means one of the first two. What it returns otherwise is errLost,
// errStopping, a *source.Error, or an error of the store.
func (sl *slice) run(ctx context.Context) error {
	if sl.service.stopping.Err() != nil {
		return errStopping
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer sl.watch(ctx, cancel)()
	defer context.AfterFunc(sl.service.stopping, func() { cancel(errStopping) })()
	t := sl.service.times
	ctx, release := context.WithTimeoutCause(ctx, t.slice+t.grace, errSlow)
	defer release()

	err := sl.steps(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // it matters why the source was interrupted, not what it made of that
	}
	return err
}

// errSlow is the end of a step that takes longer than any answer should.
var errSlow = &source.Error{
	ScanError: purser.ScanError{
		Code:    source.CodeTimeout,
		Message: "The store took too long to answer.",
		Hint:    "Check that the store is not overloaded; the scan goes on by itself.",
	},
	Temporary: true,
}

// steps opens the source and takes steps. A panic in a source is its failure,
// not the server's.
func (sl *slice) steps(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = failure(fmt.Errorf("panic: %v\n%s", r, debug.Stack()))
		}
	}()
	src, err := sl.service.open(ctx, sl.plan, sl.cursor)
	if err != nil {
		return sourceError(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			sl.log.DebugContext(ctx, "a source did not close cleanly", "error", err)
		}
	}()
	sl.method = src.Method()
	collected := page{classify: &sl.plan.classify}
	for !sl.done {
		if err := sl.step(ctx, src, &collected); err != nil {
			return err
		}
		if sl.done || time.Since(sl.began) >= sl.service.times.slice {
			break
		}
		if ctx.Err() == nil && time.Since(sl.savedAt) >= sl.service.times.save {
			if err := sl.saveProgress(ctx); err != nil {
				return err
			}
		}
	}
	if sl.done {
		sl.look(ctx, src)
	}
	return nil
}

// step takes one step and counts what it handed out if, and only if, it
// succeeded.
func (sl *slice) step(ctx context.Context, src source.Source, collected *page) error {
	collected.reset()
	st, err := src.Step(ctx, collected.count)
	sl.requests += st.Requests
	if err != nil {
		return sourceError(err)
	}
	if err := ctx.Err(); err != nil {
		return err // the source has not noticed; nothing is lost but this step
	}
	if collected.absurd || !sl.sums.merge(&collected.counts) {
		return errAbsurd
	}
	sl.cursor, sl.progress, sl.done = src.Cursor(), true, st.Done
	if st.Incomplete != nil && sl.incomplete == nil {
		sl.incomplete = st.Incomplete
	}
	if d, ok := src.(source.Detector); ok {
		sl.region = d.DetectedRegion()
	}
	return nil
}

var errAbsurd = &source.Error{ScanError: purser.ScanError{
	Code:    source.CodeBadListing,
	Message: "The store reports sizes that cannot be.",
	Hint:    "Check that the endpoint is an S3 service; the figures of the last good scan are kept.",
}}

// look finds out whether a team whose folder holds nothing has its data
// elsewhere in the bucket, which the default rules cannot see. It costs one
// request, and failing at it spoils nothing.
func (sl *slice) look(ctx context.Context, src source.Source) {
	prober, ok := src.(source.Prober)
	if !ok || !sl.plan.folder || sl.sums.objects() > 0 || sl.incomplete != nil {
		return
	}
	sl.requests++
	empty, err := prober.Empty(ctx)
	if err != nil {
		sl.log.DebugContext(ctx, "could not find out whether the bucket is empty", "error", err)
		return
	}
	if !empty {
		sl.oddity = &purser.ScanError{
			Code:    source.CodeFolderEmpty,
			Message: "The team's folder " + sl.plan.bucket.Prefix + " holds nothing, but the bucket is not empty.",
			Hint: "If the data lies elsewhere in the bucket, say where: PUT /v1/storage-providers/" +
				string(sl.plan.source.ProviderID) + "/metering sets which prefixes count for which category.",
		}
	}
}

// watch keeps the lease alive during long steps, and cancels the slice when it
// is lost. The returned function ends it and waits until it has ended.
func (sl *slice) watch(ctx context.Context, cancel context.CancelCauseFunc) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(sl.service.times.watch)
		defer ticker.Stop()
		renewed := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			renew := time.Since(renewed) >= sl.service.times.lease/3
			held, err := sl.held(ctx, renew)
			switch {
			case err != nil:
				// The fence protects the range if the lease should run out.
				sl.log.DebugContext(ctx, "could not look after a range", "error", err)
			case !held:
				cancel(errLost)
				return
			case renew:
				renewed = time.Now()
			}
		}
	}()
	return func() { stop(); <-ended }
}

// held reports whether the range is still this slice's, and if so extends the
// lease when that is wanted.
func (sl *slice) held(ctx context.Context, renew bool) (bool, error) {
	if !renew {
		return sl.service.Store.HoldsRange(ctx, sl.claimed.RangeKey, sl.claimed.Fence)
	}
	err := sl.service.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		return tx.RenewLease(ctx, sl.claimed.RangeKey, sl.claimed.Fence, now.Add(sl.service.times.lease))
	})
	if purser.KindOf(err) == purser.KindNotFound {
		return false, nil
	}
	return true, err
}

// sourceError makes sure that an error of a source counts as one.
func sourceError(err error) error {
	var known *source.Error
	if errors.As(err, &known) {
		return err
	}
	return failure(err)
}

// failure is what becomes of an error that no source should give.
func failure(err error) *source.Error {
	return &source.Error{
		ScanError: purser.ScanError{
			Code:    source.CodeInternal,
			Message: "The server failed while it measured.",
			Hint:    "The operator's log says more; the scan is tried again.",
		},
		Temporary: true, Err: err,
	}
}
