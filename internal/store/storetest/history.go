package storetest

import (
	"errors"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

// patience is how long sources may go unmeasured in these promises.
const patience = 3 * time.Hour

var historyPromises = []promise{
	{name: "a step keeps its first and its last reading, and what was between them", keep: func(k *kit) {
		s := k.newTree("/srv/{team}")
		start := time.Date(2030, 1, 2, 4, 0, 0, 0, time.UTC)
		var readings []purser.Reading
		for i, minute := range []int{10, 30, 50, 70} {
			at, u := start.Add(time.Duration(minute)*time.Minute), purser.Usage{Dataset: purser.Bytes(minute), Model: 1 << 62}
			k.record(s, at, u)
			if i == 0 {
				readings = append(readings, purser.FirstReading(at, u, s.DueAt, patience))
			} else {
				readings = append(readings, readings[i-1].Next(at, u, patience))
			}
		}
		hours := k.history(store.HistoryQuery{Step: purser.StepHour, From: start, To: start.Add(time.Hour)})
		equal(k, "hours", hours, []store.SeriesHistory{{Series: k.series(s), Steps: []store.StepReadings{
			{First: readings[0], Last: readings[2]}, {First: readings[3], Last: readings[3]},
		}}})
		days := k.history(store.HistoryQuery{Step: purser.StepDay, From: start.Truncate(24 * time.Hour), To: start})
		equal(k, "days", days, []store.SeriesHistory{{Series: k.series(s), Steps: []store.StepReadings{{First: readings[0], Last: readings[3]}}}})
	}},
	{name: "a part of a history comes with the readings on either side of it", keep: func(k *kit) {
		s := k.newTree("/srv/{team}")
		midnight := time.Date(2030, 2, 1, 0, 0, 0, 0, time.UTC)
		for _, hours := range []int{-100, -30, 2, 9, 30, 31} {
			k.record(s, midnight.Add(time.Duration(hours)*time.Hour), purser.Usage{Dataset: purser.Bytes(1000 + hours)})
		}
		part := k.history(store.HistoryQuery{Step: purser.StepHour, From: midnight.Add(5 * time.Hour), To: midnight.Add(10 * time.Hour)})
		equal(k, "series", len(part), 1)
		equal(k, "the reading before the day", part[0].Before.Dataset, 970)
		var inside []purser.Bytes
		for _, step := range part[0].Steps {
			inside = append(inside, step.First.Dataset)
		}
		equal(k, "readings of the day, and the one after the part", inside, []purser.Bytes{1002, 1009, 1030})
	}},
	{name: "a source that was never measured has a history without readings", keep: func(k *kit) {
		s := k.newTree("/srv/{team}")
		q := store.HistoryQuery{Step: purser.StepHour, From: k.now, To: k.now.Add(time.Hour)}
		equal(k, "history", k.history(q), []store.SeriesHistory{{Series: store.Series{SourceID: s.ID, Number: 1, BeganAt: k.now}}})
		k.do(func(tx *store.Tx) error { return tx.DeleteSource(k.ctx(), k.team, s.ID) })
		equal(k, "history of nothing", k.history(q), nil)
	}},
	{name: "a place that is given up ends its series, and the next place begins another", keep: func(k *kit) {
		p := k.newProvider()
		s := k.newSource(p.ID)
		k.do(func(tx *store.Tx) error { return tx.ResetSource(k.ctx(), k.team, s.ID) })
		k.record(s, k.now.Add(time.Minute), purser.Usage{Dataset: 10})
		k.do(func(tx *store.Tx) error { return tx.ResetSource(k.ctx(), k.team, s.ID) })
		k.record(s, k.now.Add(2*time.Minute), purser.Usage{Dataset: 20})
		k.do(func(tx *store.Tx) error {
			return errors.Join(tx.DeleteSource(k.ctx(), k.team, s.ID), tx.DeleteProvider(k.ctx(), k.team, p.ID))
		})
		got := k.history(store.HistoryQuery{Provider: p.ID, Step: purser.StepDay, From: k.now, To: k.now.Add(time.Hour)})
		equal(k, "series", len(got), 2) // nothing was read before the first move
		for i, h := range got {
			equal(k, "provider", h.ProviderID, p.ID)
			equal(k, "readings", h.Steps[0].First.Dataset, purser.Bytes(10*(i+1)))
			equal(k, "end", h.EndedAt, h.Steps[0].Last.At)
			equal(k, "patience", h.Patience, patience)
		}
		equal(k, "the second begins where the first ends", got[1].BeganAt, got[0].EndedAt)
		equal(k, "the provider had a history", get[bool](k)(k.HasHistory(k.ctx(), k.team, p.ID)), true)
		equal(k, "another team's provider", get[bool](k)(k.HasHistory(k.ctx(), k.newTeam(), p.ID)), false)
	}},
	{name: "a provider's history is its own", keep: func(k *kit) {
		p, other := k.newProvider(), k.newProvider()
		for _, s := range []store.Source{k.newSource(p.ID), k.newSource(other.ID), k.newTree("/srv/{team}")} {
			k.record(s, k.now, purser.Usage{Dataset: 10})
		}
		q := store.HistoryQuery{Step: purser.StepHour, From: k.now, To: k.now.Add(time.Hour)}
		equal(k, "of the team", len(k.history(q)), 3)
		q.Provider = p.ID
		equal(k, "of the provider", len(k.history(q)), 1)
		q.Team = k.newTeam()
		equal(k, "of another team", k.history(q), nil)
	}},
	{name: "an error ends a history", keep: func(k *kit) {
		k.record(k.newTree("/a"), k.now, purser.Usage{})
		k.record(k.newTree("/b"), k.now, purser.Usage{})
		stop, calls := purser.Errorf(purser.KindConflict, "test", "This contradicts what is stored already."), 0
		err := k.EachHistory(k.ctx(), store.HistoryQuery{Team: k.team, Step: purser.StepHour, From: k.now, To: k.now}, func(store.SeriesHistory) error {
			calls++
			return stop
		})
		k.fails(err, purser.KindConflict)
		equal(k, "calls", calls, 1)
	}},
	{name: "a reading needs a source", keep: func(k *kit) {
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error {
			return tx.RecordReading(k.ctx(), k.team, purser.NewSourceID(), k.now, purser.Usage{}, patience)
		}), purser.KindNotFound)
	}},
	{name: "old history is deleted in batches, that of the moment itself is not", alone: true, keep: func(k *kit) {
		s := k.newTree("/srv/{team}")
		midnight := time.Date(2030, 2, 1, 0, 0, 0, 0, time.UTC)
		for hours := range 5 {
			k.record(s, midnight.Add(time.Duration(hours)*time.Hour), purser.Usage{Dataset: purser.Bytes(hours)})
		}
		var removed []int64
		for range 3 {
			k.do(func(tx *store.Tx) error {
				n, err := tx.DeleteHistoryBefore(k.ctx(), purser.StepHour, midnight.Add(3*time.Hour), 2)
				removed = append(removed, n)
				return err
			})
		}
		equal(k, "deleted", removed, []int64{2, 1, 0})
		left := k.history(store.HistoryQuery{Step: purser.StepHour, From: midnight, To: midnight.Add(24 * time.Hour)})
		equal(k, "hours that are left", left[0].Steps[0].First.Dataset, 3)
		days := k.history(store.HistoryQuery{Step: purser.StepDay, From: midnight, To: midnight.Add(24 * time.Hour)})
		equal(k, "the day is left", days[0].Steps[0].First.Dataset, 0)

		k.do(func(tx *store.Tx) error { return tx.ResetSource(k.ctx(), k.team, s.ID) })
		ended := k.history(store.HistoryQuery{Step: purser.StepDay, From: midnight, To: midnight})[0].EndedAt
		for i, before := range []time.Time{ended, ended.Add(time.Microsecond)} {
			k.do(func(tx *store.Tx) error {
				n, err := tx.DeleteSeriesBefore(k.ctx(), before, 10)
				if err == nil && n != int64(i) {
					err = errors.New("it deletes another number of series")
				}
				return err
			})
		}
	}},
}

// record adds a measurement to the history of a source of the kit's team.
func (k *kit) record(s store.Source, at time.Time, u purser.Usage) {
	k.Helper()
	k.do(func(tx *store.Tx) error { return tx.RecordReading(k.ctx(), k.team, s.ID, at, u, patience) })
}

// series is the first series of a source that goes on and was measured.
func (k *kit) series(s store.Source) store.Series {
	return store.Series{SourceID: s.ID, Number: 1, ProviderID: s.ProviderID, BeganAt: s.DueAt, Patience: patience}
}

// history collects what q asks for; the team is the kit's unless q names one.
func (k *kit) history(q store.HistoryQuery) (all []store.SeriesHistory) {
	k.Helper()
	if q.Team == "" {
		q.Team = k.team
	}
	k.must(k.EachHistory(k.ctx(), q, func(h store.SeriesHistory) error {
		h.Steps = append([]store.StepReadings{}, h.Steps...)
		all = append(all, h)
		return nil
	}))
	return all
}
