package metering

import (
	"context"

	"github.com/purserhq/purser/internal/store"
)

// A node that has nothing to do asks for work, and those that work give it about
// half of what is left of a scan. Only the database knows of both, so asks are
// kept there: each for a few looks at the queue, or until it is answered.

// exchange asks for work if this node has none, or looks for others that ask.
func (s *Service) exchange(ctx context.Context) {
	var asker string
	var err error
	if s.busy.Load() == 0 {
		err = s.ask(ctx)
	} else {
		asker, err = s.findAsk(ctx)
	}
	s.asks.Store(&asker)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "could not find out whether other nodes would share work", "error", err)
	}
}

func (s *Service) ask(ctx context.Context) error {
	return s.Store.InTx(ctx, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		return tx.AskForWork(ctx, s.jobs.ID(), now, now.Add(4*s.times.poll))
	})
}

func (s *Service) findAsk(ctx context.Context) (node string, err error) {
	now, err := s.Store.Now(ctx)
	if err != nil {
		return "", err
	}
	return s.Store.FindAsk(ctx, s.jobs.ID(), now)
}

// asker is a node that has asked for work when this one looked last; "" is none.
func (s *Service) asker() string {
	if node := s.asks.Load(); node != nil {
		return *node
	}
	return ""
}

// answer takes the ask back that a part was given away for.
func (s *Service) answer(ctx context.Context, tx *store.Tx) error {
	if node := s.asks.Swap(nil); node != nil {
		return tx.DeleteAsk(ctx, *node)
	}
	return nil
}
