package metering

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

const (
	// idleBatch bounds how many ranges one tick offers, and so how long it keeps
	// them from others.
	idleBatch = 100
	// keepScans is how long ended scans are shown.
	keepScans = 30 * 24 * time.Hour
	// keepAnswers is how long first answers are kept for retries; package change
	// does not give them again when they are older than a day.
	keepAnswers = 25 * time.Hour
)

// schedule ticks until ctx ends; while there is more due than fits into one
// tick, it ticks as fast as the workers take jobs.
func (s *Service) schedule(ctx context.Context) {
	for ctx.Err() == nil {
		pause := s.times.tick
		if s.tick(ctx) {
			pause = s.times.poll
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// tick offers the ranges that nobody works on and starts the scans that are due.
// It reports whether more are due than it could start.
func (s *Service) tick(ctx context.Context) (more bool) {
	if err := s.offerIdle(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not look for scans that nobody works on", "error", err)
	}
	more, err := s.startDue(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not start the scans that are due", "error", err)
	}
	return more
}

// offerIdle offers the ranges whose lease has run out: their worker has died, or
// they waited for a failure to pass.
func (s *Service) offerIdle(ctx context.Context) error {
	return s.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		keys, err := tx.TakeIdleRanges(ctx, now, idleBatch)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := s.offer(ctx, tx, key, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// startDue starts as many of the scans that are due as this node has workers
// for. The others stay due: in the queue they would wait behind each other, and
// a scan that a person has asked for behind all of them.
func (s *Service) startDue(ctx context.Context) (more bool, err error) {
	free := s.Workers - int(s.busy.Load())
	if free <= 0 {
		return false, nil
	}
	var due []store.Source
	err = s.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		due, err = tx.TakeDueSources(ctx, now, free)
		return err
	})
	if err != nil {
		return false, err
	}
	var failures []error
	for _, src := range due {
		if err := s.startScheduled(ctx, src); err != nil {
			failures = append(failures, err)
		}
	}
	return len(due) == free, errors.Join(failures...)
}

// startScheduled starts the scan of one source, unless another node was faster,
// and says when the next one is due. Taking the source is not enough to keep
// others out: a source is only locked behind its team, as everywhere.
func (s *Service) startScheduled(ctx context.Context, src store.Source) error {
	return s.inTeam(ctx, src.TeamID, func(tx *store.Tx, now time.Time) error {
		src, err := tx.GetSource(ctx, src.TeamID, src.ID)
		switch {
		case purser.KindOf(err) == purser.KindNotFound:
			return nil
		case err != nil:
			return err
		case src.DueAt.After(now):
			return nil
		}
		// The jitter spreads sources that were created together.
		if err := tx.SetDue(ctx, src.TeamID, src.ID, now.Add(jitter(s.ScanInterval))); err != nil {
			return err
		}
		_, err = s.begin(ctx, tx, src)
		if purser.KindOf(err) == purser.KindNotFound {
			return nil // a tree that is not configured any more; dropTrees removes it
		}
		return err
	})
}

// addTrees gives each team a source for each configured tree.
func (s *Service) addTrees(ctx context.Context) {
	for _, tree := range s.Trees {
		if err := s.addTree(ctx, tree); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "could not add a tree to the teams", "tree", tree.Path, "error", err)
		}
	}
}

func (s *Service) addTree(ctx context.Context, tree purser.Tree) error {
	for {
		teams, err := s.Store.ListTeamsWithoutTree(ctx, tree.Category, tree.Path, idleBatch)
		if err != nil || len(teams) == 0 {
			return err
		}
		for _, team := range teams {
			if err := s.addTreeTo(ctx, tree, team); err != nil {
				return err
			}
		}
	}
}

func (s *Service) addTreeTo(ctx context.Context, tree purser.Tree, team purser.TeamID) error {
	return s.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.LockTeam(ctx, team); err != nil {
			return err
		}
		sources, err := tx.ListSources(ctx, team)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(sources, func(src store.Source) bool { return isPartOf(src, tree) }) {
			return nil // another node was faster
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		src := store.Source{TeamID: team, ID: purser.NewSourceID(), TreeCategory: tree.Category, TreePath: tree.Path, DueAt: now}
		return tx.CreateSource(ctx, src)
	})
}

// isPartOf reports whether a source is a team's part of a tree, however that is
// measured.
func isPartOf(src store.Source, tree purser.Tree) bool {
	return src.TreeCategory == tree.Category && src.TreePath == tree.Path
}

// dropTrees removes the sources of trees that are no longer configured: their
// figures must not count for ever.
func (s *Service) dropTrees(ctx context.Context) error {
	sources, err := s.Store.ListTreeSources(ctx)
	if err != nil {
		return err
	}
	for _, src := range sources {
		if slices.ContainsFunc(s.Trees, func(t purser.Tree) bool { return isPartOf(src, t) }) {
			continue
		}
		if err := s.dropTree(ctx, src); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) dropTree(ctx context.Context, src store.Source) error {
	return s.inTeam(ctx, src.TeamID, func(tx *store.Tx, now time.Time) error {
		scan, err := tx.GetRunningScan(ctx, src.TeamID, src.ID)
		switch {
		case err == nil:
			_, err = tx.EndScan(ctx, src.TeamID, scan.ID, endChanged.state, endChanged.problem, now)
		case purser.KindOf(err) == purser.KindNotFound:
			err = nil
		}
		if err != nil {
			return err
		}
		if err := tx.DeleteSource(ctx, src.TeamID, src.ID); err != nil {
			return err
		}
		return tx.RefreshTeamUsage(ctx, src.TeamID)
	})
}

// clean removes what is not needed any more.
func (s *Service) clean(ctx context.Context) {
	if err := s.dropTrees(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not remove trees that are no longer configured", "error", err)
	}
	if err := s.removeOld(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not remove old scans, answers and asks", "error", err)
	}
	if err := s.thinHistory(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not thin out the history", "error", err)
	}
}

// removeOld removes old scans, and first answers that no retry gets any more.
func (s *Service) removeOld(ctx context.Context) error {
	now, err := s.Store.Now(ctx)
	if err != nil {
		return err
	}
	err = s.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.DeleteAsksBefore(ctx, now.Add(-s.times.clean)); err != nil {
			return err
		}
		return tx.DeleteAnswersBefore(ctx, now.Add(-keepAnswers))
	})
	if err != nil {
		return err
	}
	page := purser.PageRequest{Limit: purser.MaxPageSize, Ascending: true}
	for {
		teams, err := s.Store.ListTeams(ctx, page)
		if err != nil {
			return err
		}
		err = s.Store.InTx(ctx, func(tx *store.Tx) error {
			for _, team := range teams.Items {
				if err := tx.DeleteScansBefore(ctx, team.ID, now.Add(-keepScans)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || teams.Next.IsZero() {
			return err
		}
		page.After = teams.Next
	}
}
