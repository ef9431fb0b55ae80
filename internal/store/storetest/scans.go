package storetest

import (
	"fmt"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var scanPromises = []promise{
	{name: "a scan goes from queued over running to done", keep: func(k *kit) {
		scan := k.newScan()
		k.scanIs(scan)
		equal(k, "running scan", get[purser.Scan](k)(k.GetRunningScan(k.ctx(), k.team, scan.SourceID)), scan)

		k.do(func(tx *store.Tx) error { return tx.StartScan(k.ctx(), k.team, scan.ID, k.now.Add(time.Second)) })
		scan.State, scan.StartedAt = purser.ScanRunning, k.now.Add(time.Second)
		k.scanIs(scan)
		k.do(func(tx *store.Tx) error { return tx.StartScan(k.ctx(), k.team, scan.ID, k.now.Add(time.Hour)) })
		k.scanIs(scan)

		scan.Objects, scan.Bytes, scan.Requests = 1, 2<<40, 3
		for _, waitsFor := range []*purser.ScanError{{Code: "throttled", Message: "Slow down.", Hint: "Wait."}, nil} {
			scan.Error = waitsFor
			k.do(func(tx *store.Tx) error { return tx.SetScanProgress(k.ctx(), scan) })
			k.scanIs(scan)
		}

		equal(k, "ended", k.end(scan, purser.ScanDone, nil), true)
		scan.State, scan.FinishedAt = purser.ScanDone, k.now.Add(time.Minute)
		k.scanIs(scan)
		_, err := k.GetRunningScan(k.ctx(), k.team, scan.SourceID)
		k.fails(err, purser.KindNotFound)
	}},
	{name: "a scan ends once, with its reason, and stays as it ended", keep: func(k *kit) {
		scan := k.newScan()
		problem := &purser.ScanError{Code: "no_such_bucket", Message: "There is no such bucket.", Hint: "Look at its name."}
		equal(k, "ended", k.end(scan, purser.ScanFailed, problem), true)
		equal(k, "ended again", k.end(scan, purser.ScanDone, nil), false)
		scan.State, scan.FinishedAt, scan.Error = purser.ScanFailed, k.now.Add(time.Minute), problem
		k.scanIs(scan)

		late := scan
		late.Objects = 99
		k.do(func(tx *store.Tx) error {
			if err := tx.SetScanProgress(k.ctx(), late); err != nil {
				return err
			}
			return tx.StartScan(k.ctx(), k.team, scan.ID, k.now)
		})
		k.scanIs(scan)
	}},
	{name: "a source has one scan at a time", keep: func(k *kit) {
		scan := k.newScan()
		second := scan
		second.ID = purser.NewScanID()
		create := func() error {
			return k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateScan(k.ctx(), second) })
		}
		k.fails(create(), purser.KindConflict)
		k.do(func(tx *store.Tx) error { return tx.StartScan(k.ctx(), k.team, scan.ID, k.now) })
		k.fails(create(), purser.KindConflict)
		k.end(scan, purser.ScanCancelled, nil)
		k.must(create())
	}},
	{name: "another team's scan is not found", keep: func(k *kit) {
		scan, other := k.newScan(), k.newTeam()
		_, err := k.GetScan(k.ctx(), other, scan.ID)
		k.fails(err, purser.KindNotFound)
		_, err = k.GetRunningScan(k.ctx(), other, scan.SourceID)
		k.fails(err, purser.KindNotFound)
		k.do(func(tx *store.Tx) error {
			ended, err := tx.EndScan(k.ctx(), other, scan.ID, purser.ScanCancelled, nil, k.now)
			if err == nil && ended {
				err = fmt.Errorf("another team has ended the scan")
			}
			return err
		})
		k.scanIs(scan)
	}},
	{name: "old scans are deleted when they have ended", keep: func(k *kit) {
		var scans []purser.Scan
		for range 2 {
			scans = append(scans, k.newScan())
		}
		k.end(scans[0], purser.ScanDone, nil)
		k.do(func(tx *store.Tx) error { return tx.DeleteScansBefore(k.ctx(), k.team, k.now) })
		get[purser.Scan](k)(k.GetScan(k.ctx(), k.team, scans[0].ID))
		k.do(func(tx *store.Tx) error { return tx.DeleteScansBefore(k.ctx(), k.team, k.now.Add(time.Microsecond)) })
		_, err := k.GetScan(k.ctx(), k.team, scans[0].ID)
		k.fails(err, purser.KindNotFound)
		k.scanIs(scans[1])
	}},
	{name: "a range is offered, claimed, saved and done", alone: true, keep: func(k *kit) {
		key := k.newRange()
		equal(k, "idle ranges", k.idle(k.now), []store.RangeKey{key})
		fence := k.offer(key, k.now.Add(time.Minute))
		equal(k, "idle ranges under a lease", len(k.idle(k.now)), 0)

		r := k.claim(key, fence)
		equal(k, "claimed range", r, store.Range{RangeKey: key, Place: -7, Tallies: store.Tallies{}, Fence: fence + 1, LeaseUntil: k.now.Add(time.Hour)})
		k.do(func(tx *store.Tx) error { return tx.RenewLease(k.ctx(), key, r.Fence, k.now.Add(2*time.Hour)) })
		equal(k, "idle ranges under the renewed lease", len(k.idle(k.now.Add(time.Hour))), 0)
		equal(k, "idle ranges after it", k.idle(k.now.Add(2*time.Hour)), []store.RangeKey{key})

		r.Cursor, r.Details = []byte{0, 0xff}, []byte{0xff, 0}
		r.Requests, r.Failures, r.LeaseUntil, r.Allowed = 11, 2, k.now.Add(3*time.Hour), 12
		r.Tallies = store.Tallies{purser.CategoryDataset: {Objects: 1, Current: 2, Noncurrent: 3, Unfinished: 4}, purser.CategoryUnmatched: {Objects: 5}}
		r.Incomplete = &purser.ScanError{Code: "unreadable", Message: "A folder could not be read.", Hint: "Let this user read it."}
		k.do(func(tx *store.Tx) error { return tx.SaveRange(k.ctx(), r) })
		equal(k, "saved range", get[[]store.Range](k)(k.ListRanges(k.ctx(), k.team, key.ScanID)), []store.Range{r})

		again := k.claim(key, r.Fence)
		r.Fence, r.LeaseUntil, r.Allowed = r.Fence+1, k.now.Add(time.Hour), 0
		equal(k, "claimed again", again, r)

		r.Done = true
		k.do(func(tx *store.Tx) error { return tx.SaveRange(k.ctx(), r) })
		equal(k, "idle ranges when done", len(k.idle(k.now.Add(24*time.Hour))), 0)
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error {
			_, err := tx.ClaimRange(k.ctx(), key, r.Fence, k.now)
			return err
		}), purser.KindNotFound)
	}},
	{name: "a worker whose range was offered to another can do nothing more", keep: func(k *kit) {
		key := k.newRange()
		stale := k.claim(key, k.offer(key, k.now))
		fence := k.offer(key, k.now)
		k.isStale(stale)
		current := k.claim(key, fence)
		k.isStale(stale)
		equal(k, "is held", get[bool](k)(k.HoldsRange(k.ctx(), key, current.Fence)), true)
		k.do(func(tx *store.Tx) error { return tx.SaveRange(k.ctx(), current) })
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error {
			_, err := tx.ClaimRange(k.ctx(), key, fence, k.now)
			return err
		}), purser.KindNotFound)
	}},
	{name: "a worker whose scan has ended can do nothing more", keep: func(k *kit) {
		key := k.newRange()
		stale := k.claim(key, k.offer(key, k.now))
		equal(k, "ended", k.end(purser.Scan{ID: key.ScanID}, purser.ScanCancelled, nil), true)
		k.isStale(stale)
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error {
			_, err := tx.OfferRange(k.ctx(), key, k.now)
			return err
		}), purser.KindNotFound)
		equal(k, "ranges", len(get[[]store.Range](k)(k.ListRanges(k.ctx(), k.team, key.ScanID))), 0)
	}},
	{name: "what other ranges have been allowed is known until they are saved, done or gone", keep: func(k *kit) {
		first := k.newRange()
		second, third := first, first
		second.Number, third.Number = 4, 5
		others := func(of store.RangeKey) [2]int64 {
			requests, ranges, err := k.OthersAllowed(k.ctx(), of)
			k.must(err)
			return [2]int64{requests, ranges}
		}
		equal(k, "alone", others(first), [2]int64{0, 1})
		allow := func(key store.RangeKey, fence, n int64) {
			k.do(func(tx *store.Tx) error { return tx.AllowRequests(k.ctx(), key, fence, n) })
		}
		var r store.Range
		for _, key := range []store.RangeKey{second, third} {
			k.do(func(tx *store.Tx) error { return tx.CreateRange(k.ctx(), key, -7, nil) })
			r = k.claim(key, k.offer(key, k.now))
			allow(key, r.Fence, 1<<40+key.Number)
		}
		equal(k, "of the first", others(first), [2]int64{2<<40 + 9, 3})
		equal(k, "of the second", others(second), [2]int64{1<<40 + 5, 3})
		equal(k, "of another scan", others(k.newRange()), [2]int64{0, 1})
		allow(third, r.Fence, 6)
		equal(k, "allowed less", others(first), [2]int64{1<<40 + 10, 3})
		k.do(func(tx *store.Tx) error { return tx.SaveRange(k.ctx(), r) })
		equal(k, "saved", others(first), [2]int64{1<<40 + 4, 3})
		r.Allowed, r.Done = 7, true
		k.do(func(tx *store.Tx) error { return tx.SaveRange(k.ctx(), r) })
		equal(k, "done", others(first), [2]int64{1<<40 + 4, 2})
		k.end(purser.Scan{ID: first.ScanID}, purser.ScanDone, nil)
		equal(k, "gone", others(first), [2]int64{0, 0})
	}},
	{name: "leases that run too long are ended, others and those that are done stay", alone: true, keep: func(k *kit) {
		long, short, done := k.newRange(), k.newRange(), k.newRange()
		k.offer(long, k.now.Add(time.Hour+time.Microsecond))
		k.offer(short, k.now.Add(time.Hour))
		r := k.claim(done, k.offer(done, k.now))
		r.Done, r.LeaseUntil = true, k.now.Add(2*time.Hour)
		k.do(func(tx *store.Tx) error {
			if err := tx.SaveRange(k.ctx(), r); err != nil {
				return err
			}
			return tx.WakeRanges(k.ctx(), k.now.Add(time.Minute), k.now.Add(time.Hour))
		})
		equal(k, "idle before", len(k.idle(k.now.Add(time.Minute-time.Microsecond))), 0)
		equal(k, "idle", k.idle(k.now.Add(time.Minute)), []store.RangeKey{long})
	}},
	{name: "a node asks for work while there is some, for some time, and others find it", alone: true, keep: func(k *kit) {
		k.newRange()
		ask := func(node string, until time.Time) {
			k.do(func(tx *store.Tx) error { return tx.AskForWork(k.ctx(), node, k.now, until) })
		}
		found := func(except string, now time.Time) string { return get[string](k)(k.FindAsk(k.ctx(), except, now)) }
		soon, late := k.now.Add(time.Second), k.now.Add(time.Hour)
		ask("a", soon)
		equal(k, "while nobody works", found("b", k.now), "")

		k.offer(k.newRange(), late)
		ask("a", soon)
		equal(k, "for another", found("b", k.now), "a")
		equal(k, "for itself", found("a", k.now), "")
		equal(k, "too late", found("b", soon), "")
		ask("a", late)
		equal(k, "asked again", found("b", soon), "a")
		k.do(func(tx *store.Tx) error { return tx.DeleteAsksBefore(k.ctx(), late) })
		equal(k, "kept", found("b", soon), "a")
		k.do(func(tx *store.Tx) error { return tx.DeleteAsk(k.ctx(), "a") })
		equal(k, "answered", found("b", k.now), "")
		ask("a", soon)
		k.do(func(tx *store.Tx) error { return tx.DeleteAsksBefore(k.ctx(), late) })
		equal(k, "forgotten", found("b", k.now), "")
	}},
	{name: "statements that return rows are done before the next one", keep: func(k *kit) {
		key := k.newRange()
		k.do(func(tx *store.Tx) error {
			for want := int64(1); want <= 20; want++ {
				fence, err := tx.OfferRange(k.ctx(), key, k.now)
				if err != nil {
					return err
				}
				holds, err := tx.HoldsRange(k.ctx(), key, fence)
				if err != nil || fence != want || !holds {
					return fmt.Errorf("fence %d, held %v, %w; want %d", fence, holds, err, want)
				}
			}
			return nil
		})
	}},
}

func (k *kit) newScan() purser.Scan {
	k.Helper()
	p := k.newProvider()
	scan := purser.Scan{
		ID: purser.NewScanID(), TeamID: k.team, SourceID: k.newSource(p.ID).ID, ProviderID: p.ID, Source: "s3://bucket",
		State: purser.ScanQueued, CreatedAt: k.now, Budget: &purser.RequestBudget{},
	}
	k.do(func(tx *store.Tx) error { return tx.CreateScan(k.ctx(), scan) })
	return scan
}

func (k *kit) scanIs(want purser.Scan) {
	k.Helper()
	equal(k, "scan", get[purser.Scan](k)(k.GetScan(k.ctx(), k.team, want.ID)), want)
}

func (k *kit) end(scan purser.Scan, state purser.ScanState, problem *purser.ScanError) (ended bool) {
	k.Helper()
	k.do(func(tx *store.Tx) (err error) {
		ended, err = tx.EndScan(k.ctx(), k.team, scan.ID, state, problem, k.now.Add(time.Minute))
		return err
	})
	return ended
}

func (k *kit) newRange() store.RangeKey {
	k.Helper()
	key := store.RangeKey{TeamID: k.team, ScanID: k.newScan().ID, Number: 3}
	k.do(func(tx *store.Tx) error { return tx.CreateRange(k.ctx(), key, -7, nil) })
	return key
}

func (k *kit) idle(now time.Time) (keys []store.RangeKey) {
	k.Helper()
	k.do(func(tx *store.Tx) (err error) {
		keys, err = tx.TakeIdleRanges(k.ctx(), now, 10)
		return err
	})
	return keys
}

func (k *kit) offer(key store.RangeKey, until time.Time) (fence int64) {
	k.Helper()
	k.do(func(tx *store.Tx) (err error) {
		fence, err = tx.OfferRange(k.ctx(), key, until)
		return err
	})
	return fence
}

// claim claims a range for an hour.
func (k *kit) claim(key store.RangeKey, fence int64) (r store.Range) {
	k.Helper()
	k.do(func(tx *store.Tx) (err error) {
		r, err = tx.ClaimRange(k.ctx(), key, fence, k.now.Add(time.Hour))
		return err
	})
	return r
}

// isStale checks that r's holder can neither save nor keep it.
func (k *kit) isStale(r store.Range) {
	k.Helper()
	r.Cursor = []byte("of a stale worker")
	k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.SaveRange(k.ctx(), r) }), purser.KindNotFound)
	k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.AllowRequests(k.ctx(), r.RangeKey, r.Fence, 1) }), purser.KindNotFound)
	k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.RenewLease(k.ctx(), r.RangeKey, r.Fence, k.now) }), purser.KindNotFound)
	equal(k, "is held", get[bool](k)(k.HoldsRange(k.ctx(), r.RangeKey, r.Fence)), false)
	for _, stored := range get[[]store.Range](k)(k.ListRanges(k.ctx(), k.team, r.ScanID)) {
		equal(k, "cursor", len(stored.Cursor), 0)
	}
}
