package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/store"
)

// keyUseInterval is how exactly an API key tells when it was last used.
const keyUseInterval = time.Minute

// noteUsedKeys stores once a minute, and once more at the end, which keys were
// used: a write for each request would cost more than the requests.
func noteUsedKeys(ctx context.Context, verifier *auth.Verifier, s *store.Store, log *slog.Logger) error {
	ticker := time.NewTicker(keyUseInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			touchKeys(ctx, verifier.TakeUsed(), s, log)
		case <-ctx.Done():
			touchKeys(context.WithoutCancel(ctx), verifier.TakeUsed(), s, log)
			return nil
		}
	}
}

// touchKeys stores when keys were used. It only informs, so a failure is logged
// and forgotten.
func touchKeys(ctx context.Context, used map[purser.KeyID]time.Time, s *store.Store, log *slog.Logger) {
	if len(used) == 0 {
		return
	}
	err := s.InTx(ctx, func(tx *store.Tx) error {
		for id, at := range used {
			if err := tx.TouchKey(ctx, id, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.WarnContext(ctx, "the last use of API keys was not stored", "error", err)
	}
}
