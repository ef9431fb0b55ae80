package metering

import (
	"context"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/store"
)

// Start starts a scan of a provider's bucket, or returns the one under way.
func (s *Service) Start(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.Scan, error) {
	c := change.Change{Action: "scan.start", Permission: auth.Edit, Target: string(id)}
	return change.Make(ctx, s.Changes, p, c, func(tx change.Tx) (purser.Scan, error) {
		src, err := tx.GetSourceOfProvider(ctx, p.TeamID, id)
		if err != nil {
			return purser.Scan{}, err
		}
		scan, err := s.begin(ctx, tx.Tx, src)
		return s.presentOne(ctx, tx.Tx, scan, err)
	})
}

// StartAll starts a scan of each of the team's sources, buckets and trees, or
// returns those under way.
func (s *Service) StartAll(ctx context.Context, p auth.Principal) ([]purser.Scan, error) {
	c := change.Change{Action: "scan.start", Permission: auth.Edit}
	return change.Make(ctx, s.Changes, p, c, func(tx change.Tx) ([]purser.Scan, error) {
		sources, err := tx.ListSources(ctx, p.TeamID)
		if err != nil {
			return nil, err
		}
		scans := make([]purser.Scan, 0, len(sources))
		for _, src := range sources {
			scan, err := s.begin(ctx, tx.Tx, src)
			if purser.KindOf(err) == purser.KindNotFound {
				continue // a tree that is not configured any more
			}
			if err != nil {
				return nil, err
			}
			scans = append(scans, scan)
		}
		return s.present(ctx, tx.Tx, scans...)
	})
}

// begin returns the scan of a source that is under way, or starts one: the scan,
// its range and the job that tells of it are there together. The caller holds
// the team's lock, so no other scan of the source can begin meanwhile.
func (s *Service) begin(ctx context.Context, tx *store.Tx, src store.Source) (purser.Scan, error) {
	scan, err := tx.GetRunningScan(ctx, src.TeamID, src.ID)
	if purser.KindOf(err) != purser.KindNotFound {
		return scan, err
	}
	plan, err := s.planFor(ctx, tx, src)
	if err != nil {
		return purser.Scan{}, err
	}
	now, err := tx.Now(ctx)
	if err != nil {
		return purser.Scan{}, err
	}
	scan = purser.Scan{
		ID: purser.NewScanID(), TeamID: src.TeamID, SourceID: src.ID, ProviderID: src.ProviderID,
		Source: plan.name, State: purser.ScanQueued, CreatedAt: now,
	}
	if err := tx.CreateScan(ctx, scan); err != nil {
		return scan, err
	}
	key := store.RangeKey{TeamID: src.TeamID, ScanID: scan.ID}
	if err := tx.CreateRange(ctx, key, plan.place, nil); err != nil {
		return scan, err
	}
	if err := s.offer(ctx, tx, key, now); err != nil {
		return scan, err
	}
	return tx.GetScan(ctx, scan.TeamID, scan.ID)
}

// List returns a page of the team's scans.
func (s *Service) List(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.Scan], error) {
	if err := s.Changes.Permit(ctx, p, auth.Read, "scan.list", ""); err != nil {
		return purser.Page[purser.Scan]{}, err
	}
	scans, err := s.Store.ListScans(ctx, p.TeamID, page)
	if err != nil {
		return scans, err
	}
	scans.Items, err = s.present(ctx, s.Store, scans.Items...)
	return scans, err
}

// Get returns one of the team's scans.
func (s *Service) Get(ctx context.Context, p auth.Principal, id purser.ScanID) (purser.Scan, error) {
	if err := s.Changes.Permit(ctx, p, auth.Read, "scan.get", string(id)); err != nil {
		return purser.Scan{}, err
	}
	scan, err := s.Store.GetScan(ctx, p.TeamID, id)
	return s.presentOne(ctx, s.Store, scan, err)
}

// Cancel ends a scan that is under way; its worker notices within a second. One
// that has ended stays as it is.
func (s *Service) Cancel(ctx context.Context, p auth.Principal, id purser.ScanID) (purser.Scan, error) {
	c := change.Change{Action: "scan.cancel", Permission: auth.Edit, Target: string(id)}
	return change.Make(ctx, s.Changes, p, c, func(tx change.Tx) (purser.Scan, error) {
		now, err := tx.Tx.Now(ctx)
		if err != nil {
			return purser.Scan{}, err
		}
		if _, err := tx.EndScan(ctx, p.TeamID, id, purser.ScanCancelled, nil, now); err != nil {
			return purser.Scan{}, err
		}
		scan, err := tx.GetScan(ctx, p.TeamID, id)
		return s.presentOne(ctx, tx.Tx, scan, err)
	})
}
