package metering

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

// queueName is the queue of scans; other work gets queues of its own, so that
// none waits behind another.
const queueName = "scan"

// sliceArgs is the job of working on a range for the length of one slice.
type sliceArgs struct {
	Team  purser.TeamID `json:"team"`
	Scan  purser.ScanID `json:"scan"`
	Range int64         `json:"range"`
	// Fence is what the range was offered under: a job whose range was offered
	// anew since has nothing to do.
	Fence int64 `json:"fence"`
	// From is the node that gave the range away, if one did: see leave.
	From string `json:"from,omitempty"`
}

// Kind names the job in the queue.
func (sliceArgs) Kind() string { return "scan.slice" }

// InsertOpts has a job tried once: its range is offered again by whoever
// notices, in a job of its own.
func (sliceArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: queueName, MaxAttempts: 1}
}

func (a sliceArgs) key() store.RangeKey {
	return store.RangeKey{TeamID: a.Team, ScanID: a.Scan, Number: a.Range}
}

type sliceWorker struct {
	river.WorkerDefaults[sliceArgs]
	service *Service
}

// Work never fails as a job: what went wrong is kept with the range.
func (w *sliceWorker) Work(ctx context.Context, job *river.Job[sliceArgs]) error {
	if w.service.leave(job) {
		return river.JobSnooze(0) // this node looks again later than the others
	}
	w.service.work(ctx, job.Args)
	return nil
}

// leave reports whether a range is left to other nodes: this one has given it
// away because one of them has nothing to do. It takes it back when it has
// nothing to do itself, or when nobody came.
func (s *Service) leave(job *river.Job[sliceArgs]) bool {
	return job.Args.From == s.jobs.ID() && s.busy.Load() > 0 && time.Since(job.CreatedAt) < s.times.offer
}

// newJobs makes the client of the job queue. Only what it cannot be without is
// used of the queue: jobs that are enqueued in our transactions and reach a free
// worker of any node. It polls, because its SQLite driver would otherwise look
// for messages 20 times a second.
func newJobs(s *Service) (*river.Client[*sql.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &sliceWorker{service: s})
	jobTimeout := s.times.slice + s.times.most + 10*time.Second
	client, err := river.NewClient(driver(s.Store.JobsDB(), s.Store.Dialect()), &river.Config{
		Logger:            slog.New(warnings{s.log.Handler()}),
		Queues:            map[string]river.QueueConfig{queueName: {MaxWorkers: s.Workers}},
		Workers:           workers,
		PollOnly:          true,
		FetchCooldown:     min(20*time.Millisecond, s.times.poll),
		FetchPollInterval: s.times.poll,
		JobTimeout:        jobTimeout,
		SoftStopTimeout:   s.times.stop,
		// Nothing waits for a rescue; it only tidies up after a node's death.
		RescueStuckJobsAfter:        2 * jobTimeout,
		CompletedJobRetentionPeriod: time.Minute,
		CancelledJobRetentionPeriod: time.Minute,
		DiscardedJobRetentionPeriod: time.Hour,
		ReindexerIndexNames:         []string{},
	})
	if err != nil {
		return nil, fmt.Errorf("metering: job queue: %w", err)
	}
	return client, nil
}

func driver(db *sql.DB, dialect store.Dialect) riverdriver.Driver[*sql.Tx] {
	if dialect == store.Postgres {
		return riverdatabasesql.New(db)
	}
	return riversqlite.New(db)
}

// Migrate brings the job queue's tables up to date; it is a store.Migration.
func Migrate(ctx context.Context, db *sql.DB, dialect store.Dialect) error {
	migrator, err := rivermigrate.New(driver(db, dialect), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("job queue: %w", err)
	}
	return nil
}

// offer reserves a range for whoever takes its job from the queue, both from the
// moment tx commits.
func (s *Service) offer(ctx context.Context, tx *store.Tx, key store.RangeKey, now time.Time) error {
	return s.offerFrom(ctx, tx, key, now, "")
}

// offerFrom is offer, to other nodes first if from is this one.
func (s *Service) offerFrom(ctx context.Context, tx *store.Tx, key store.RangeKey, now time.Time, from string) error {
	fence, err := tx.OfferRange(ctx, key, now.Add(s.times.offer))
	if err != nil {
		return err
	}
	args := sliceArgs{Team: key.TeamID, Scan: key.ScanID, Range: key.Number, Fence: fence, From: from}
	// A cancelled statement would make SQLite roll back the changes of others that
	// share the transaction.
	_, err = s.jobs.InsertTx(context.WithoutCancel(ctx), tx.SQL(), args, nil)
	return err
}

// warnings passes on what the job queue has to say from warnings up: below, it
// tells of every job.
type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
