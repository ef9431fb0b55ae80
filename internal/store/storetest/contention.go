package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var contentionPromises = []promise{
	{name: "fifty who set the default at once leave one", keep: func(k *kit) {
		var ps []purser.Provider
		for range 50 {
			ps = append(ps, k.newProvider())
		}
		errs := k.at(len(ps), func(i int, s *store.Store) error {
			return k.locked(s, func(tx *store.Tx) error {
				p, err := tx.GetProvider(k.ctx(), k.team, ps[i].ID)
				if err != nil {
					return err
				}
				if err := tx.ClearTeamDefault(k.ctx(), k.team, p.ID, k.now); err != nil {
					return err
				}
				p.TeamDefault, p.Version = true, p.Version+1
				return tx.UpdateProvider(k.ctx(), p)
			})
		})
		k.must(errors.Join(errs...))
		page := get[purser.Page[purser.Provider]](k)(k.ListProviders(k.ctx(), k.team, purser.PageRequest{Limit: 100}))
		defaults, versions := 0, int64(0)
		for _, p := range page.Items {
			versions += p.Version
			if p.TeamDefault {
				defaults++
			}
		}
		equal(k, "defaults", defaults, 1)
		equal(k, "changes, of which none is lost", versions, int64(50+50+49)) // made, set, and taken away from all but one
	}},
	{name: "nobody who reads is shown what was before something seen already", keep: func(k *kit) {
		const changes = 100
		p := k.newProvider()
		done := make(chan struct{})
		// version asks in all the ways there are, and holds each answer against the
		// newest version that is known to be there.
		version := func(s *store.Store, atLeast int64) (int64, error) {
			one, err := s.GetProvider(k.ctx(), k.team, p.ID)
			if err != nil {
				return 0, err
			}
			page, err := s.ListProviders(k.ctx(), k.team, purser.PageRequest{Limit: 20})
			if err != nil {
				return 0, err
			}
			if one.Version < atLeast || page.Items[0].Version < one.Version {
				return 0, fmt.Errorf("version %d was there, then %d was read, and then %d", atLeast, one.Version, page.Items[0].Version)
			}
			return page.Items[0].Version, nil
		}
		errs := k.at(8, func(i int, s *store.Store) error {
			if i > 0 {
				for seen := int64(0); ; {
					var err error
					if seen, err = version(s, seen); err != nil {
						return err
					}
					select {
					case <-done:
						return nil
					default:
					}
				}
			}
			defer close(done)
			for v := int64(2); v <= changes; v++ {
				changed := p
				changed.Version = v
				if err := k.locked(s, func(tx *store.Tx) error { return tx.UpdateProvider(k.ctx(), changed) }); err != nil {
					return err
				}
				if _, err := version(s, v); err != nil {
					return err
				}
			}
			return nil
		})
		k.must(errors.Join(errs...))
	}},
	{name: "without the lock too, one default is all there can be", keep: func(k *kit) {
		errs := k.at(50, func(_ int, s *store.Store) error {
			p := k.provider()
			p.TeamDefault = true
			return s.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, sealed) })
		})
		refused := 0
		for _, err := range errs {
			if err != nil {
				k.fails(err, purser.KindConflict)
				refused++
			}
		}
		equal(k, "refused", refused, 49)
	}},
	{name: "an update never brings a deleted provider back", keep: func(k *kit) {
		for range 10 {
			p := k.newProvider()
			errs := k.at(20, func(i int, s *store.Store) error {
				return k.locked(s, func(tx *store.Tx) error {
					if i == 10 {
						return tx.DeleteProvider(k.ctx(), k.team, p.ID)
					}
					stored, err := tx.GetProvider(k.ctx(), k.team, p.ID)
					if err != nil {
						return err
					}
					stored.Version++
					return tx.UpdateProvider(k.ctx(), stored)
				})
			})
			k.must(errs[10])
			for _, err := range errs {
				if err != nil {
					k.fails(err, purser.KindNotFound)
				}
			}
			k.isMissing(p)
		}
	}},
	{name: "without the lock too, an update never brings a deleted provider back", keep: func(k *kit) {
		for range 10 {
			p := k.newProvider()
			errs := k.at(20, func(i int, s *store.Store) error {
				return s.InTx(k.ctx(), func(tx *store.Tx) error {
					if i == 10 {
						return tx.DeleteProvider(k.ctx(), k.team, p.ID)
					}
					return tx.UpdateProvider(k.ctx(), p)
				})
			})
			k.must(errs[10])
			k.isMissing(p)
		}
	}},
	{name: "twenty who append leave an audit chain without a gap", keep: func(k *kit) {
		const each = 5
		errs := k.at(20, func(i int, s *store.Store) error {
			for n := range each {
				if err := k.locked(s, func(tx *store.Tx) error { return k.append(tx, i*each+n) }); err != nil {
					return err
				}
			}
			return nil
		})
		k.must(errors.Join(errs...))
		chain := get[[]purser.AuditLink](k)(k.WalkAudit(k.ctx(), k.team))
		equal(k, "links", len(chain), 20*each)
		prev := []byte{}
		for i, link := range chain {
			equal(k, "number", link.Seq, int64(i+1))
			equal(k, "hash of the link before", link.Prev, prev)
			prev = link.Hash
		}
	}},
	{name: "twenty who publish leave the sum of all", keep: func(k *kit) {
		var sources []store.Source
		for i := range 20 {
			sources = append(sources, k.newTree(fmt.Sprint("/", i)))
		}
		u := k.usage(1000)
		errs := k.at(len(sources), func(i int, s *store.Store) error {
			return k.refreshOn(s, func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, sources[i].ID, u) })
		})
		k.must(errors.Join(errs...))
		usage := get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team))
		equal(k, "dataset", usage.Dataset, 20*u.Tallies[purser.CategoryDataset].Bytes())
		equal(k, "pending", usage.PendingSources, 0)
	}},
	{name: "each due source is handed out once", alone: true, keep: func(k *kit) {
		const sources = 40
		for i := range sources {
			k.newTree(fmt.Sprint("/", i))
		}
		handedOut(k, sources, func(tx *store.Tx) ([]string, error) {
			due, err := tx.TakeDueSources(k.ctx(), k.now, 3)
			var ids []string
			for _, s := range due {
				err = errors.Join(err, tx.SetDue(k.ctx(), s.TeamID, s.ID, k.now.Add(time.Hour)))
				ids = append(ids, string(s.ID))
			}
			return ids, err
		})
	}},
	{name: "each idle range is handed out once", alone: true, keep: func(k *kit) {
		const ranges = 40
		scan := k.newScan()
		for i := range ranges {
			k.do(func(tx *store.Tx) error {
				return tx.CreateRange(k.ctx(), store.RangeKey{TeamID: k.team, ScanID: scan.ID, Number: int64(i)}, 0, nil)
			})
		}
		handedOut(k, ranges, func(tx *store.Tx) ([]string, error) {
			idle, err := tx.TakeIdleRanges(k.ctx(), k.now, 3)
			var numbers []string
			for _, key := range idle {
				_, failed := tx.OfferRange(k.ctx(), key, k.now.Add(time.Hour))
				err = errors.Join(err, failed)
				numbers = append(numbers, fmt.Sprint(key.Number))
			}
			return numbers, err
		})
	}},
	{name: "of many who claim one range, one gets it", keep: func(k *kit) {
		key := k.newRange()
		fence := k.offer(key, k.now)
		errs := k.at(20, func(_ int, s *store.Store) error {
			return s.InTx(k.ctx(), func(tx *store.Tx) error {
				_, err := tx.ClaimRange(k.ctx(), key, fence, k.now)
				return err
			})
		})
		claimed := 0
		for _, err := range errs {
			if err == nil {
				claimed++
				continue
			}
			k.fails(err, purser.KindNotFound)
		}
		equal(k, "claimed", claimed, 1)
	}},
	{name: "of many who start a scan of one source, one does", keep: func(k *kit) {
		s := k.newTree("/a")
		errs := k.at(20, func(_ int, st *store.Store) error {
			scan := purser.Scan{ID: purser.NewScanID(), TeamID: k.team, SourceID: s.ID, CreatedAt: k.now}
			return st.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateScan(k.ctx(), scan) })
		})
		equal(k, "started", len(slices.DeleteFunc(errs, func(err error) bool { return purser.KindOf(err) == purser.KindConflict })), 1)
	}},
	{name: "of many who make a keyset, all get the same", keep: func(k *kit) {
		stored := make([]string, 20)
		errs := k.at(len(stored), func(i int, s *store.Store) error {
			keyset, err := s.CreateKeyset(k.ctx(), "of "+string(k.team), []byte(fmt.Sprint("keyset ", i)))
			stored[i] = string(keyset)
			return err
		})
		k.must(errors.Join(errs...))
		equal(k, "different keysets", len(slices.Compact(stored)), 1)
	}},
}

// append adds a link to the audit chain whose hash is its number.
func (k *kit) append(tx *store.Tx, i int) error {
	seq, prev, err := tx.LastAudit(k.ctx(), k.team)
	if err != nil {
		return err
	}
	return tx.AppendAudit(k.ctx(), k.event(i), seq+1, prev, []byte(fmt.Sprint("hash ", seq+1)))
}

// handedOut lets many take what there is, until nothing is left, and checks that
// total things were taken and none twice.
func handedOut(k *kit, total int, take func(*store.Tx) ([]string, error)) {
	k.Helper()
	const takers = 12
	taken := make([][]string, takers)
	errs := k.at(takers, func(i int, s *store.Store) error {
		for empty := 0; empty < 3; { // others may hold locks on all that is left
			var got []string
			if err := s.InTx(k.ctx(), func(tx *store.Tx) (err error) {
				got, err = take(tx)
				return err
			}); err != nil {
				return err
			}
			if len(got) == 0 {
				empty++
			}
			taken[i] = append(taken[i], got...)
		}
		return nil
	})
	k.must(errors.Join(errs...))
	all := slices.Sorted(slices.Values(slices.Concat(taken...)))
	equal(k, "taken", len(all), total)
	equal(k, "different things taken", len(slices.Compact(all)), total)
}
