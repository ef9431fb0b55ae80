package metering

import (
	"context"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

const (
	// gapAfter is how many scan intervals may go by between two measurements before
	// there is a gap in the history: as many as make a team's figures stale, so that
	// both say the same.
	gapAfter = 3
	// historySlack is how much longer than anybody may ask for (purser.Step.Reach)
	// history is kept, so that what is asked for has not just been deleted.
	historySlack = 48 * time.Hour
	// historyBatch bounds how many rows one transaction deletes, and so how long it
	// keeps others waiting.
	historyBatch = 1000
)

// publishUsage replaces a source's figures and continues its history, in the one
// transaction that ends a scan.
func (s *Service) publishUsage(ctx context.Context, tx *store.Tx, team purser.TeamID, id purser.SourceID, u purser.SourceUsage) error {
	if err := tx.PublishSource(ctx, team, id, u); err != nil {
		return err
	}
	usage := purser.Usage{
		Dataset:           u.Tallies[purser.CategoryDataset].Bytes(),
		Model:             u.Tallies[purser.CategoryModel].Bytes(),
		NotebookWorkspace: u.Tallies[purser.CategoryNotebookWorkspace].Bytes(),
		SharedStorage:     u.Tallies[purser.CategorySharedStorage].Bytes(),
	}
	return tx.RecordReading(ctx, team, id, u.MeasuredAt, usage, gapAfter*s.ScanInterval)
}

// thinHistory deletes what lies too far back for anybody to ask for: the hours
// after 90 days, the days after 5 years. Every node may do it; what another has
// deleted already is not there any more.
func (s *Service) thinHistory(ctx context.Context) error {
	now, err := s.Store.Now(ctx)
	if err != nil {
		return err
	}
	for _, step := range []purser.Step{purser.StepHour, purser.StepDay} {
		before := now.Add(-step.Reach() - historySlack)
		err := s.inBatches(ctx, func(tx *store.Tx) (int64, error) {
			return tx.DeleteHistoryBefore(ctx, step, before, historyBatch)
		})
		if err != nil {
			return err
		}
	}
	before := now.Add(-purser.StepDay.Reach() - historySlack)
	return s.inBatches(ctx, func(tx *store.Tx) (int64, error) {
		return tx.DeleteSeriesBefore(ctx, before, historyBatch)
	})
}

// inBatches deletes batch after batch, each in a transaction of its own, until
// one is not full.
func (s *Service) inBatches(ctx context.Context, remove func(tx *store.Tx) (int64, error)) error {
	for {
		var removed int64
		err := s.Store.InTx(ctx, func(tx *store.Tx) (err error) {
			removed, err = remove(tx)
			return err
		})
		if err != nil || removed < historyBatch {
			return err
		}
	}
}
