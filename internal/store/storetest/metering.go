package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var meteringPromises = []promise{
	{name: "sources are found by id, by provider and by team", keep: func(k *kit) {
		p := k.newProvider()
		bucket, tree := k.newSource(p.ID), k.newTree("/srv/{team}")
		for _, want := range []store.Source{bucket, tree} {
			equal(k, "source", get[store.Source](k)(k.GetSource(k.ctx(), k.team, want.ID)), want)
		}
		equal(k, "source", get[store.Source](k)(k.GetSourceOfProvider(k.ctx(), k.team, p.ID)), bucket)
		want := []store.Source{bucket, tree}
		slices.SortFunc(want, func(a, b store.Source) int { return cmp.Compare(a.ID, b.ID) })
		equal(k, "sources", get[[]store.Source](k)(k.ListSources(k.ctx(), k.team)), want)

		_, err := k.GetSource(k.ctx(), k.newTeam(), bucket.ID)
		k.fails(err, purser.KindNotFound)
	}},
	{name: "a bucket and a tree have one source each", keep: func(k *kit) {
		p := k.newProvider()
		k.newSource(p.ID)
		k.newTree("/srv/{team}")
		for _, s := range []store.Source{k.source(p.ID), k.tree("/srv/{team}")} {
			k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateSource(k.ctx(), s) }), purser.KindConflict)
		}
		k.newTree("/other/{team}")
	}},
	{name: "a new source counts as pending, as it does when all are added up again", keep: func(k *kit) {
		k.newSource(k.newProvider().ID)
		k.newTree("/srv/{team}")
		want := get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team))
		equal(k, "pending", want.PendingSources, int64(2))
		k.refresh(func(*store.Tx) error { return nil })
		equal(k, "usage", get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team)), want)
	}},
	{name: "a bucket's source needs its provider", keep: func(k *kit) {
		s := k.source(purser.NewProviderID())
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateSource(k.ctx(), s) }), purser.KindInternal)
	}},
	{name: "trees are listed for all teams, and the teams that lack one", alone: true, keep: func(k *kit) {
		tree := k.newTree("/srv/{team}")
		k.newSource(k.newProvider().ID)
		other := k.newTeam()
		equal(k, "trees", get[[]store.Source](k)(k.ListTreeSources(k.ctx())), []store.Source{tree})
		without := func(path string, limit int) []purser.TeamID {
			return get[[]purser.TeamID](k)(k.ListTeamsWithoutTree(k.ctx(), purser.CategorySharedStorage, path, limit))
		}
		equal(k, "teams without the tree", without("/srv/{team}", 10), []purser.TeamID{other})
		equal(k, "teams without another tree", len(without("/other/{team}", 10)), 2)
		equal(k, "one of them", len(without("/other/{team}", 1)), 1)
	}},
	{name: "sources are due at their time, the longest overdue first", alone: true, keep: func(k *kit) {
		early, late := k.newTree("/early"), k.newTree("/late")
		k.do(func(tx *store.Tx) error { return tx.SetDue(k.ctx(), k.team, late.ID, k.now.Add(time.Second)) })
		late.DueAt = k.now.Add(time.Second)
		take := func(now time.Time, limit int) (due []store.Source) {
			k.do(func(tx *store.Tx) (err error) {
				due, err = tx.TakeDueSources(k.ctx(), now, limit)
				return err
			})
			return due
		}
		equal(k, "before", len(take(k.now.Add(-time.Microsecond), 10)), 0)
		equal(k, "at the first", take(k.now, 10), []store.Source{early})
		equal(k, "at the second", take(late.DueAt, 10), []store.Source{early, late})
		equal(k, "one", take(late.DueAt, 1), []store.Source{early})
	}},
	{name: "a measurement is published as it was made", keep: func(k *kit) {
		p := k.newProvider()
		s := k.newSource(p.ID)
		equal(k, "before", get[purser.SourceUsage](k)(k.GetSourceUsage(k.ctx(), k.team, p.ID)).MeasuredAt, time.Time{})
		u := k.usage(1000)
		u.Folders = []purser.FolderLevel{{
			Biggest: []purser.Folder{{Path: "a/", Amount: purser.Amount{Objects: 1, Bytes: 1 << 40}}},
			Rest:    purser.Amount{Objects: 2, Bytes: 3},
		}}
		u.StorageClasses = []purser.StorageClass{{Name: "STANDARD", Amount: purser.Amount{Objects: 4, Bytes: 5}}}
		k.do(func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, s.ID, u) })
		equal(k, "usage", get[purser.SourceUsage](k)(k.GetSourceUsage(k.ctx(), k.team, p.ID)), u)

		k.do(func(tx *store.Tx) error { return tx.MarkSourceIncomplete(k.ctx(), k.team, s.ID) })
		u.Complete = false
		equal(k, "incomplete", get[purser.SourceUsage](k)(k.GetSourceUsage(k.ctx(), k.team, p.ID)), u)

		k.do(func(tx *store.Tx) error { return tx.ResetSource(k.ctx(), k.team, s.ID) })
		equal(k, "reset", get[purser.SourceUsage](k)(k.GetSourceUsage(k.ctx(), k.team, p.ID)), purser.SourceUsage{Tallies: map[purser.Category]purser.Tally{}})
	}},
	{name: "a source's health is since its first finding, until there is another", keep: func(k *kit) {
		p := k.newProvider()
		s := k.newSource(p.ID)
		healthIs := func(name string, want purser.Health) {
			k.Helper()
			equal(k, name, get[purser.Health](k)(k.GetHealth(k.ctx(), k.team, p.ID)), want)
		}
		found := func(state purser.HealthState, problem *purser.ScanError, at time.Time) {
			k.Helper()
			k.do(func(tx *store.Tx) error { return tx.SetHealth(k.ctx(), k.team, s.ID, state, problem, at) })
		}
		healthIs("at first", purser.Health{State: purser.HealthUnknown})
		gone, shut := &purser.ScanError{Code: "a", Message: "b", Hint: "c"}, &purser.ScanError{Code: "d"}
		later, latest := k.now.Add(time.Second), k.now.Add(time.Minute)
		found(purser.HealthFailing, gone, k.now)
		healthIs("failing", purser.Health{State: purser.HealthFailing, Since: k.now, CheckedAt: k.now, Error: gone})
		found(purser.HealthFailing, shut, later)
		healthIs("failing for another reason", purser.Health{State: purser.HealthFailing, Since: k.now, CheckedAt: later, Error: shut})
		found(purser.HealthOK, nil, latest)
		healthIs("ok", purser.Health{State: purser.HealthOK, Since: latest, CheckedAt: latest})

		yes := true
		d := purser.Detected{Addressing: purser.AddressingVirtualHost, ListVersion: 1, Versioned: &yes}
		k.do(func(tx *store.Tx) error { return tx.SetDetected(k.ctx(), k.team, s.ID, d) })
		healthIs("detected", purser.Health{State: purser.HealthOK, Since: latest, CheckedAt: latest, Detected: d})
		found(purser.HealthFailing, gone, latest)
		healthIs("failing once more", purser.Health{State: purser.HealthFailing, Since: latest, CheckedAt: latest, Error: gone, Detected: d})
		d = purser.Detected{Region: "eu-west-1", Addressing: purser.AddressingPath}
		k.do(func(tx *store.Tx) error { return tx.SetDetected(k.ctx(), k.team, s.ID, d) })
		k.do(func(tx *store.Tx) error { return tx.SetDetectedRegion(k.ctx(), k.team, p.ID, "eu-west-2", p.Version) })
		d.Region = "eu-west-2" // that of the provider
		healthIs("detected anew", purser.Health{State: purser.HealthFailing, Since: latest, CheckedAt: latest, Error: gone, Detected: d})
		k.do(func(tx *store.Tx) error { return tx.ForgetHealth(k.ctx(), k.team, s.ID) })
		healthIs("changed", purser.Health{State: purser.HealthUnknown, Detected: purser.Detected{Region: "eu-west-2"}})
		_, err := k.GetHealth(k.ctx(), k.newTeam(), p.ID)
		k.fails(err, purser.KindNotFound)
	}},
	{name: "a source keeps where its next scan begins, until it is another place", keep: func(k *kit) {
		s := k.newTree("/a")
		cutsAre := func(want []byte) {
			k.Helper()
			equal(k, "cuts", get[[]byte](k)(k.GetCuts(k.ctx(), k.team, s.ID)), want)
		}
		cutsAre(nil)
		k.do(func(tx *store.Tx) error { return tx.SetCuts(k.ctx(), k.team, s.ID, []byte{0xff, 0}) })
		cutsAre([]byte{0xff, 0})
		k.do(func(tx *store.Tx) error { return tx.ResetSource(k.ctx(), k.team, s.ID) })
		cutsAre(nil)
		_, err := k.GetCuts(k.ctx(), k.newTeam(), s.ID)
		k.fails(err, purser.KindNotFound)
	}},
	{name: "a team's usage is the sum of its sources", keep: func(k *kit) {
		var sources []store.Source
		for _, path := range []string{"/a", "/b", "/pending", "/troubled"} {
			sources = append(sources, k.newTree(path))
		}
		first, second := k.usage(1000), k.usage(1<<40)
		second.MeasuredAt = k.now.Add(-time.Hour)
		k.refresh(func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, sources[0].ID, first) })
		k.refresh(func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, sources[1].ID, second) })
		k.refresh(func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, sources[3].ID, first) })
		k.refresh(func(tx *store.Tx) error { return tx.MarkSourceIncomplete(k.ctx(), k.team, sources[3].ID) })
		sum := func(c purser.Category) purser.Bytes { return 2*first.Tallies[c].Bytes() + second.Tallies[c].Bytes() }
		equal(k, "usage", get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team)), store.TeamUsage{
			Usage: purser.Usage{
				Dataset: sum(purser.CategoryDataset), Model: sum(purser.CategoryModel),
				NotebookWorkspace: sum(purser.CategoryNotebookWorkspace), SharedStorage: sum(purser.CategorySharedStorage),
			},
			TotalFreeStorage: 5 << 30, MeasuredAt: second.MeasuredAt, PendingSources: 1, TroubledSources: 1,
		})
		equal(k, "usage of another team", get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.newTeam())).Usage, purser.Usage{})
	}},
	{name: "a sum larger than the largest number stops there", keep: func(k *kit) {
		for _, path := range []string{"/a", "/b", "/c"} {
			s, u := k.newTree(path), k.usage(0)
			u.Tallies[purser.CategoryModel] = purser.Tally{Current: 1 << 62}
			u.Tallies[purser.CategoryDataset] = purser.Tally{Current: math.MaxInt64 / 3}
			k.refresh(func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, s.ID, u) })
		}
		usage := get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team))
		equal(k, "too large a sum", usage.Model, math.MaxInt64)
		equal(k, "the largest sum there is", usage.Dataset, math.MaxInt64/3*3)
	}},
	{name: "a tally larger than the largest number stops there", keep: func(k *kit) {
		s, u := k.newTree("/a"), k.usage(0)
		u.Tallies[purser.CategoryModel] = purser.Tally{Current: math.MaxInt64, Noncurrent: math.MaxInt64, Unfinished: 2}
		k.refresh(func(tx *store.Tx) error { return tx.PublishSource(k.ctx(), k.team, s.ID, u) })
		equal(k, "model", get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team)).Model, math.MaxInt64)
	}},
	{name: "requests are counted by the day, whatever becomes of the source's figures", keep: func(k *kit) {
		p := k.newProvider()
		s := k.newSource(p.ID)
		scan := purser.Scan{ID: purser.NewScanID(), TeamID: k.team, SourceID: s.ID, ProviderID: p.ID, Source: "s3://b", State: purser.ScanQueued, CreatedAt: k.now}
		k.do(func(tx *store.Tx) error { return tx.CreateScan(k.ctx(), scan) })
		today := purser.StepDay.Begin(k.now)
		var want purser.RequestBudget
		for _, spend := range []struct {
			day         time.Time
			sent, total int64
		}{
			{today, 3, 3},
			{today, 0, 3},
			{today, 1 << 40, 1<<40 + 3},
			{today.AddDate(0, 0, 1), 5, 5},
			{today.AddDate(0, 0, 1), 1, 6},
			{today, 2, 2}, // a clock that was set back may cost a budget, but never stops a scan for ever
		} {
			k.do(func(tx *store.Tx) error {
				total, err := tx.SpendRequests(k.ctx(), k.team, s.ID, spend.day, spend.sent)
				if err == nil && total != spend.total {
					err = fmt.Errorf("%d on %v are %d together, want %d", spend.sent, spend.day, total, spend.total)
				}
				return errors.Join(err, tx.ResetSource(k.ctx(), k.team, s.ID))
			})
			want = purser.RequestBudget{Spent: spend.total, Day: spend.day}
			equal(k, "of the source", get[purser.SourceUsage](k)(k.GetSourceUsage(k.ctx(), k.team, p.ID)).Budget, want)
			equal(k, "of the scan", get[purser.Scan](k)(k.GetScan(k.ctx(), k.team, scan.ID)).Budget, &want)
		}
		scan.Budget = &want
		equal(k, "running scan", get[purser.Scan](k)(k.GetRunningScan(k.ctx(), k.team, s.ID)), scan)
		for _, ascending := range []bool{true, false} {
			page := get[purser.Page[purser.Scan]](k)(k.ListScans(k.ctx(), k.team, purser.PageRequest{Limit: 2, Ascending: ascending}))
			equal(k, "listed scans", page.Items, []purser.Scan{scan})
		}
		k.do(func(tx *store.Tx) error { return tx.DeleteSource(k.ctx(), k.team, s.ID) })
		scan.Budget = nil
		equal(k, "scan of a source that is gone", get[purser.Scan](k)(k.GetScan(k.ctx(), k.team, scan.ID)), scan)
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error {
			_, err := tx.SpendRequests(k.ctx(), k.team, s.ID, today, 1)
			return err
		}), purser.KindNotFound)
	}},
	{name: "a tree has no budget of requests", keep: func(k *kit) {
		scan := purser.Scan{ID: purser.NewScanID(), TeamID: k.team, SourceID: k.newTree("/a").ID, Source: "/a", State: purser.ScanQueued, CreatedAt: k.now}
		k.do(func(tx *store.Tx) error { return tx.CreateScan(k.ctx(), scan) })
		k.scanIs(scan)
	}},
	{name: "the clock runs", keep: func(k *kit) {
		first := get[time.Time](k)(k.Now(k.ctx()))
		if off := time.Since(first).Abs(); off > time.Hour {
			k.Fatalf("the database's clock is off by %v", off)
		}
		if second := get[time.Time](k)(k.Now(k.ctx())); second.Before(first) {
			k.Fatalf("the clock went from %v back to %v", first, second)
		}
	}},
}

func (k *kit) source(provider purser.ProviderID) store.Source {
	return store.Source{TeamID: k.team, ID: purser.NewSourceID(), ProviderID: provider, DueAt: k.now}
}

func (k *kit) tree(path string) store.Source {
	return store.Source{TeamID: k.team, ID: purser.NewSourceID(), TreeCategory: purser.CategorySharedStorage, TreePath: path, DueAt: k.now}
}

func (k *kit) newSource(provider purser.ProviderID) store.Source {
	k.Helper()
	s := k.source(provider)
	k.do(func(tx *store.Tx) error { return tx.CreateSource(k.ctx(), s) })
	return s
}

func (k *kit) newTree(path string) store.Source {
	k.Helper()
	s := k.tree(path)
	k.do(func(tx *store.Tx) error { return tx.CreateSource(k.ctx(), s) })
	return s
}

// usage is a complete measurement whose figures all differ.
func (k *kit) usage(unit purser.Bytes) purser.SourceUsage {
	u := purser.SourceUsage{Tallies: map[purser.Category]purser.Tally{}, MeasuredAt: k.now, Method: "list", Complete: true, Requests: 7}
	for i, c := range append(slices.Clone(purser.Categories), purser.CategoryUnmatched) {
		n := purser.Bytes(i + 1)
		u.Tallies[c] = purser.Tally{Objects: int64(n), Current: 100 * n * unit, Noncurrent: 10 * n * unit, Unfinished: n * unit}
	}
	return u
}

// refresh makes a change to a source the way services do: with the team locked
// and its counters added up again.
func (k *kit) refresh(change func(*store.Tx) error) {
	k.Helper()
	k.must(k.refreshOn(k.Store, change))
}

func (k *kit) refreshOn(s *store.Store, change func(*store.Tx) error) error {
	return k.locked(s, func(tx *store.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return tx.RefreshTeamUsage(k.ctx(), k.team)
	})
}
