// Package metering measures what sources hold: it decides when a source is
// scanned, does the work in slices that survive their worker, and publishes the
// result.
//
// It leaves to a source.Source how a place is read, and to package utilization
// what the figures mean for a plan. What always holds:
//
//   - A figure is published in one transaction, and only if everything was read.
//     What could not be read never counts as nothing: the last complete figures
//     stay, marked as incomplete.
//   - Nothing is counted twice or left out, whichever worker dies when. A range's
//     cursor and its sums are saved together, and only by whoever holds the range
//     under its newest fencing number.
//   - The database decides who works: leases are judged by its clock, never by a
//     node's. The job queue only carries word of work that is on offer.
//   - Every transaction that changes a team's figures or scans holds the team's
//     lock from its beginning, so that nodes cannot wait for each other in a ring.
package metering

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
)

// Opener opens the sealed secret of a provider, for the time of one slice.
type Opener interface {
	Open(sealed []byte, b seal.Binding) (purser.Secret, error)
}

// Options are the parts of a Service. Those without a default are needed.
type Options struct {
	Store   *store.Store
	Changes *change.Maker
	Opener  Opener
	// OpenBucket and OpenTree open a source at a cursor; nil is its beginning.
	OpenBucket func(ctx context.Context, b source.Bucket, cursor []byte) (source.Source, error)
	OpenTree   func(ctx context.Context, t source.Tree, cursor []byte) (source.Source, error)
	// SurveyBucket finds out which listings a bucket must be read by; nil means
	// that of objects.
	SurveyBucket func(ctx context.Context, b source.Bucket) (source.Survey, error)
	Sites        purser.Sites
	// Trees are what the operator has configured; none is fine.
	Trees []purser.Tree
	// ScanInterval is how often every source is scanned; 0 means hourly.
	ScanInterval time.Duration
	// RequestsPerDay is how many requests a provider's bucket is sent on a day (UTC)
	// at most, by all nodes together; 0 means no limit.
	RequestsPerDay int64
	// Workers is how many slices this node works on at once; 0 means 16.
	Workers int
	// Logger gets what happens to scans, with the causes; nil discards it.
	Logger *slog.Logger
	// Observer is told what happens, for metrics.
	Observer Observer

	times times // the zero value means defaultTimes; tests shorten them
}

// Observer is told what happens. Its functions may be nil, are called by several
// goroutines at once, and must return quickly.
type Observer struct {
	// ScanEnded is called when this node has ended a scan; code is that of its
	// error, or "".
	ScanEnded func(state purser.ScanState, code string)
	// SliceBegan is called when this node has taken a range to work on; SliceEnded
	// follows.
	SliceBegan func()
	// SliceEnded is called after each slice that this node has worked on: what
	// became of it ("finished", "continued", "waiting", "budget_spent", "failed",
	// "lost" or "abandoned"), how long it took and how many requests it sent.
	SliceEnded func(outcome string, took time.Duration, requests int64)
}

const (
	defaultScanInterval = time.Hour
	defaultWorkers      = 16
)

// times are the rhythms of a Service.
type times struct {
	slice time.Duration // how long a slice goes on before others get their turn
	grace time.Duration // how much longer its last step may take; twice as long each time that a slice got nowhere
	most  time.Duration // the longest grace: a page behind many deleted objects takes S3 two minutes
	save  time.Duration // how often a slice saves: what a dead node costs
	lease time.Duration // how long a range is held without a sign of life
	offer time.Duration // how long a range is held for whoever takes its job from the queue
	watch time.Duration // how soon a slice notices that its scan was cancelled
	tick  time.Duration // how often each node looks for what is due
	poll  time.Duration // how often each node looks for jobs, and for nodes that ask for some
	trees time.Duration // how often new teams are looked for
	clean time.Duration // how often old records are removed
	retry time.Duration // the first wait after a failure; it doubles up to maxRetry
	stop  time.Duration // how long stopping waits for a step that does not obey
	day   time.Duration // how long a budget of requests is for
	// retries is how often a step is tried again before its slice ends.
	retries int
}

var defaultTimes = times{
	slice: 30 * time.Second, grace: 20 * time.Second, most: 150 * time.Second, save: 2 * time.Second, lease: 10 * time.Second, offer: 20 * time.Second,
	watch: 500 * time.Millisecond, tick: 2 * time.Second, poll: 500 * time.Millisecond, trees: 15 * time.Second,
	clean: time.Hour, retry: 2 * time.Second, stop: 10 * time.Second, day: 24 * time.Hour, retries: 2,
}

// Service measures. It is safe for concurrent use.
type Service struct {
	Options
	log      *slog.Logger
	jobs     *river.Client[*sql.Tx]
	stopping context.Context // ends when slices are to save and make way
	stop     context.CancelFunc
	busy     atomic.Int64           // slices under way on this node
	asks     atomic.Pointer[string] // see asker
}

// New makes a Service; Run sets it to work. Scans can be started before that:
// they wait.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Changes == nil || o.Opener == nil || o.OpenBucket == nil || o.OpenTree == nil {
		return nil, errors.New("metering: the store, the changes, the opener of secrets or one of sources is missing from the options")
	}
	if o.ScanInterval == 0 {
		o.ScanInterval = defaultScanInterval
	}
	if o.Workers == 0 {
		o.Workers = defaultWorkers
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.times == (times{}) {
		o.times = defaultTimes
	}
	s := &Service{Options: o, log: o.Logger}
	s.stopping, s.stop = context.WithCancel(context.Background())
	var err error
	s.jobs, err = newJobs(s)
	return s, err
}

// Run measures until ctx ends. It then has the slices under way save what they
// have and offer the rest to other nodes, and returns when that is done. It can
// be called once.
func (s *Service) Run(ctx context.Context) error {
	s.wake(ctx)
	// The end of ctx keeps the queue from fetching, and interrupts no job.
	if err := s.jobs.Start(ctx); err != nil {
		return purser.Wrap("metering.Run", err)
	}
	var loops sync.WaitGroup
	loops.Go(func() { s.schedule(ctx) })
	if s.Store.Dialect() == store.Postgres { // on SQLite there are no other nodes
		loops.Go(func() { every(ctx, s.times.poll, s.exchange) })
	}
	loops.Go(func() { every(ctx, s.times.trees, s.addTrees) })
	loops.Go(func() { every(ctx, s.times.clean, s.clean) })
	<-ctx.Done()
	s.stop() // after fetching has ended, so that this node does not take what it hands over
	loops.Wait()
	return s.drain(context.WithoutCancel(ctx))
}

// drain waits for the slices under way, and no longer than it must: the queue
// cancels those that do not obey, and those that do not obey even that are left
// behind, as by a node that dies.
func (s *Service) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*s.times.stop)
	defer cancel()
	return purser.Wrap("metering.Run", s.jobs.Stop(ctx))
}

// every calls fn now and then once per interval until ctx ends.
func every(ctx context.Context, interval time.Duration, fn func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		fn(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// inTeam runs fn in a transaction that holds the team's lock, behind which alone
// its sources, scans and ranges change. now is by the database's clock.
func (s *Service) inTeam(ctx context.Context, team purser.TeamID, fn func(tx *store.Tx, now time.Time) error) error {
	return s.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.LockTeam(ctx, team); err != nil {
			return err
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		return fn(tx, now)
	})
}
