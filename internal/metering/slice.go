package metering

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/folders"
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
// to one goroutine; beside it run the watch, and the workers of the engine, which
// hand in what they count one at a time.
type slice struct {
	service *Service
	log     *slog.Logger
	plan    *plan
	claimed store.Range // as it was when this slice began; never changed, so that the watch may read it

	engine *engine.Engine
	now    state // of all steps that have succeeded; only the engine's workers change it
	kept   state // as it was lately, with the work that was left then
	oddity *purser.ScanError
	// trouble is the temporary failure that this slice ends with.
	trouble *purser.ScanError
	done    bool // nothing follows

	// limit is how many requests of the range may be sent until it is saved again.
	limit atomic.Int64
	// accounted is how many of them count in the day's budget, of which spentToday
	// was spent then.
	accounted, spentToday int64

	began, savedAt time.Time
}

// state is what a range has come to.
type state struct {
	work       engine.Work
	sums       counts // of slices before too
	details    details
	requests   int64
	incomplete *purser.ScanError
	progress   bool // some step of this slice has succeeded
	method     string
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
	if s.Observer.SliceBegan != nil {
		s.Observer.SliceBegan()
	}
	requests := sl.kept.requests
	outcome := sl.finish(ctx, sl.run(ctx))
	if s.Observer.SliceEnded != nil {
		s.Observer.SliceEnded(outcome, time.Since(sl.began), sl.kept.requests-requests)
	}
}

// claim takes an offered range. It returns nil if there is nothing to do: the
// range was offered anew, the scan has ended, or it is ended here because what
// it measures is not there any more.
func (s *Service) claim(ctx context.Context, args sliceArgs, log *slog.Logger) (claimed *slice, err error) {
	var end *ending
	err = s.inTeam(ctx, args.Team, func(tx *store.Tx, now time.Time) error {
		claimed, end = nil, nil
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
		if claimed, err = s.newSlice(r, plan, log); err != nil {
			return err
		}
		if err := claimed.begin(ctx, tx, now); err != nil {
			return err
		}
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

func (s *Service) newSlice(r store.Range, p *plan, log *slog.Logger) (*slice, error) {
	now := time.Now()
	begin := state{sums: countsOf(r.Tallies), requests: r.Requests, incomplete: r.Incomplete}
	if err := errors.Join(restore(r.Cursor, &begin.work), restore(r.Details, &begin.details)); err != nil {
		return nil, &purser.Error{Kind: purser.KindInternal, Op: "metering.newSlice", Err: err}
	}
	begin.details.Folders.Skip = len(p.bucket.Prefix)
	return &slice{
		service: s, log: log.With("source", p.source.ID), plan: p, claimed: r,
		now: begin, kept: begin, accounted: begin.requests, began: now, savedAt: now,
	}, nil
}

// restore reads what was saved of a range; nil is nothing yet.
func restore(saved []byte, to any) error {
	if saved == nil {
		return nil
	}
	return json.Unmarshal(saved, to)
}

// begin has requests allowed to the slice, if they are limited.
func (sl *slice) begin(ctx context.Context, tx *store.Tx, now time.Time) error {
	r := sl.claimed
	if sl.limited() {
		if err := sl.spend(ctx, tx, now); err != nil {
			return err
		}
		if err := sl.allow(ctx, tx, &r); err != nil {
			return err
		}
		if err := tx.AllowRequests(ctx, r.RangeKey, r.Fence, r.Allowed); err != nil {
			return err
		}
	}
	sl.setLimit(r)
	return nil
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
	grace := min(t.grace<<min(sl.claimed.Failures, maxFailures), t.most)
	ctx, release := context.WithTimeoutCause(ctx, t.slice+grace, errSlow)
	defer release()

	err := sl.steps(ctx)
	var unshared unsharedError
	if err != nil && ctx.Err() != nil && !errors.As(err, &unshared) {
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

// steps has the engine count, saves now and then, and ends it when the time of
// the slice is over.
func (sl *slice) steps(ctx context.Context) (err error) {
	if sl.now.work.Spans == nil {
		if err := sl.ask(1); err != nil {
			return err
		}
		if err := sl.survey(ctx); err != nil {
			return sourceError(err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	sl.engine = sl.newEngine()
	var failed error // of the engine; written before ended is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = sl.engine.Run(ctx)
	}()
	defer func() { // no worker is left behind
		cancel(err)
		<-ended
		sl.keep()
	}()

	t := sl.service.times
	over := time.NewTimer(t.slice)
	defer over.Stop()
	save := time.NewTicker(max(t.save, time.Millisecond))
	defer save.Stop()
	look := time.NewTicker(t.poll / 5)
	defer look.Stop()
	for {
		select {
		case <-ended:
			sl.keep()
			switch sl.done = len(sl.kept.work.Spans) == 0; {
			case sl.done: // or what failed was given away since
				sl.look(ctx)
			case failed != nil:
				return sourceError(failed)
			}
			return nil
		case <-save.C:
			if ctx.Err() != nil {
				continue // the engine is about to end
			}
			if err := sl.saveProgress(ctx, nil); err != nil {
				return err
			}
		case <-look.C:
			if ctx.Err() != nil {
				continue
			}
			given, err := sl.give(ctx)
			if err == nil && given != nil {
				err = sl.saveProgress(ctx, given)
			}
			if err != nil {
				return err
			}
		case <-over.C:
			sl.engine.Stop()
		}
	}
}

// survey decides what there is to read, and in which parts, at the beginning of
// a scan.
func (sl *slice) survey(ctx context.Context) error {
	if sl.plan.source.ProviderID == "" {
		sl.now.work = engine.All()
		return nil
	}
	var found source.Survey
	if survey := sl.service.SurveyBucket; survey != nil {
		bucket, err := sl.service.unseal(sl.plan)
		if err != nil {
			return err
		}
		found, err = survey(ctx, bucket)
		sl.now.requests += found.Requests
		sl.kept.requests = sl.now.requests // they were sent, whatever came of it
		if err != nil {
			return err
		}
		if found.Incomplete == nil { // else nobody knows
			versioned := slices.Contains(found.Listings, source.Versions)
			sl.now.details.Detected.Versioned = &versioned
		}
	}
	cuts, err := sl.cuts(ctx)
	if err != nil {
		return err
	}
	sl.now.work, sl.now.incomplete = engine.All(found.Listings...).CutAt(cuts), found.Incomplete
	return nil
}

// cuts are where the keys of the bucket lay at its last scan.
func (sl *slice) cuts(ctx context.Context) (cuts [][]byte, _ error) {
	saved, err := sl.service.Store.GetCuts(ctx, sl.plan.source.TeamID, sl.plan.source.ID)
	if err != nil || saved == nil {
		return nil, err
	}
	return cuts, json.Unmarshal(saved, &cuts)
}

func (sl *slice) newEngine() *engine.Engine {
	workers := 1
	if sl.plan.source.ProviderID != "" {
		workers = spansAtOnce
	}
	return engine.New(sl.now.work, engine.Options{
		Open: func(ctx context.Context, s engine.Span, oneChain bool) (source.Source, error) {
			src, err := sl.service.open(ctx, sl.plan, s, oneChain)
			if err != nil {
				return nil, sourceError(err)
			}
			return src, nil
		},
		NewPage: sl.newPage,
		Add:     sl.add,
		Spent:   func(requests int64) { sl.now.requests += requests },
		Ask:     sl.ask,
		Forget:  func() { sl.now.sums, sl.now.details = counts{}, details{Detected: sl.now.details.Detected} },
		Workers: workers, Retries: sl.service.times.retries, Moment: 4 * sl.service.times.poll,
	})
}

// spansAtOnce is how many parts of a bucket are listed at once by one node.
const spansAtOnce = 16

func (sl *slice) newPage() engine.Page {
	p := &page{classify: &sl.plan.classify}
	if sl.plan.source.ProviderID != "" {
		p.details = &pageDetails{folders: folders.Page{Skip: len(sl.plan.bucket.Prefix)}}
	}
	return p
}

// add counts what a step has handed out.
func (sl *slice) add(p engine.Page, step source.Step, from source.Source, left func() engine.Work) error {
	page, now := p.(*page), &sl.now
	now.requests += step.Requests
	if page.absurd || !now.sums.merge(&page.counts) {
		return errAbsurd
	}
	now.progress, now.method = true, from.Method()
	if step.Incomplete != nil && now.incomplete == nil {
		now.incomplete = step.Incomplete
	}
	if d, ok := from.(source.Detector); ok {
		now.details.Detected = now.details.Detected.And(d.Detected())
	}
	if page.details != nil {
		now.details.merge(page.details, from, func() iter.Seq[[]byte] { return left().Edges() })
	}
	return nil
}

// keep takes down what was counted and what is left, which fit together.
func (sl *slice) keep() {
	if sl.engine == nil {
		return
	}
	sl.engine.Save(func(w engine.Work) {
		sl.now.details.Folders.Prune(w.Edges())
		sl.kept = sl.now
		sl.kept.work, sl.kept.details = w, sl.now.details.clone()
	})
}

var errAbsurd = &source.Error{ScanError: purser.ScanError{
	Code:    source.CodeBadListing,
	Message: "The store reports sizes that cannot be.",
	Hint:    "Check that the endpoint is an S3 service; the figures of the last good scan are kept.",
}}

// look finds out whether a team whose folder holds nothing has its data
// elsewhere in the bucket, which the default rules cannot see. It costs one
// request, and failing at it spoils nothing.
func (sl *slice) look(ctx context.Context) {
	if !sl.plan.folder || sl.kept.sums.objects() > 0 || sl.kept.incomplete != nil {
		return
	}
	src, err := sl.service.open(ctx, sl.plan, engine.Span{}, false)
	if err != nil {
		return
	}
	defer func() { _ = src.Close() }() // nothing was written
	prober, ok := src.(source.Prober)
	if !ok {
		return
	}
	sl.now.requests++
	sl.kept.requests = sl.now.requests
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
