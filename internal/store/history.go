package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"time"

	"github.com/purserhq/purser"
)

// A Series is the time in which a source was one and the same place. Figures of
// different places are not comparable, so no line is drawn from one series to
// another. A series outlives its source.
type Series struct {
	SourceID   purser.SourceID
	Number     int64
	ProviderID purser.ProviderID // empty for a tree
	// BeganAt is when the source was to be measured first.
	BeganAt time.Time
	EndedAt time.Time // zero while it goes on
	// Patience is how long the source could go unmeasured when it was measured last.
	Patience time.Duration
}

// StepReadings are the first and the last reading of a series within a step.
type StepReadings struct{ First, Last purser.Reading }

// SeriesHistory is a part of a series.
type SeriesHistory struct {
	Series
	// Before is the newest reading before the part; nil if there is none.
	Before *purser.Reading
	Steps  []StepReadings // oldest first
}

// HistoryQuery says which part of a team's history is wanted: all steps that
// begin between From and To, and in each series the one after these.
type HistoryQuery struct {
	Team     purser.TeamID
	Provider purser.ProviderID // empty for the whole team
	Step     purser.Step
	From, To time.Time
}

// historySteps are the steps of which rows are kept.
var historySteps = []purser.Step{purser.StepHour, purser.StepDay}

// RecordReading adds a complete measurement of a source to its history. Patience
// is how long after the reading before it there is a gap between the two. The
// team must be locked.
func (t *Tx) RecordReading(ctx context.Context, team purser.TeamID, id purser.SourceID, at time.Time, u purser.Usage, patience time.Duration) error {
	open, err := t.openSeries(ctx, team, id)
	if err != nil {
		return err
	}
	if open.Patience != patience {
		if err := run(ctx, t.run, "SetPatience", open.key(team, patience.Microseconds())...); err != nil {
			return err
		}
	}
	reading := purser.FirstReading(at, u, open.BeganAt, patience)
	if open.newest != nil {
		reading = open.newest.Next(at, u, patience)
	}
	return t.saveReading(ctx, team, open.Series, reading)
}

func (t *Tx) saveReading(ctx context.Context, team purser.TeamID, s Series, r purser.Reading) error {
	for _, step := range historySteps {
		args := s.key(team, string(step), toMicros(step.Begin(r.At)), toMicros(r.At), int64(r.Dataset), int64(r.Model),
			int64(r.NotebookWorkspace), int64(r.SharedStorage), packAreas(r.Areas), r.Unknown.Microseconds())
		if err := run(ctx, t.run, "SaveReading", args...); err != nil {
			return err
		}
	}
	return nil
}

// beginSeries starts a new series of a source.
func (t *Tx) beginSeries(ctx context.Context, team purser.TeamID, s Series) error {
	return run(ctx, t.run, "BeginSeries", s.key(team, nullText(s.ProviderID), toMicros(s.BeganAt))...)
}

// endSeries ends the open series of a source, by the database's clock. Its last
// figures count until then, unless they are too old. A series without a reading
// says nothing and is dropped.
func (t *Tx) endSeries(ctx context.Context, team purser.TeamID, id purser.SourceID) (ended Series, err error) {
	open, err := t.openSeries(ctx, team, id)
	if err != nil {
		return Series{}, err
	}
	if open.newest == nil {
		return open.Series, run(ctx, t.run, "DeleteSeries", open.key(team)...)
	}
	now, err := t.Now(ctx)
	if err != nil {
		return Series{}, err
	}
	last := open.newest.Next(now, open.newest.Usage, open.Patience)
	open.EndedAt = last.At
	return open.Series, errors.Join(
		t.saveReading(ctx, team, open.Series, last),
		run(ctx, t.run, "EndSeries", open.key(team, toMicros(last.At))...))
}

// openSeries is the series of a source that has not ended.
type openSeries struct {
	Series
	newest *purser.Reading // nil if there is none
}

func (t *Tx) openSeries(ctx context.Context, team purser.TeamID, id purser.SourceID) (openSeries, error) {
	return one(ctx, t.run, func(row scanner) (s openSeries, err error) {
		var series seriesColumns
		var newest readingColumns
		if err := row.Scan(append(series.dest(), newest.dest()...)...); err != nil {
			return s, err
		}
		s.Series = series.value()
		s.newest, err = newest.value()
		return s, err
	}, noSource, "GetOpenSeries", string(team), string(id))
}

// HasHistory reports whether a team has, or had, a provider with a history.
func (r reads) HasHistory(ctx context.Context, team purser.TeamID, provider purser.ProviderID) (bool, error) {
	n, err := one(ctx, r.run, scalar[int64], optional, "HasSeriesOfProvider", string(team), string(provider))
	return n == 1, err
}

// EachHistory hands the parts of a team's series that q asks for to yield, one
// after the other, and ends with the first error that it returns. Only one
// series is in memory at a time: what yield gets is not to be kept.
func (r reads) EachHistory(ctx context.Context, q HistoryQuery, yield func(SeriesHistory) error) error {
	midnight := purser.StepDay.Begin(q.From)
	before, err := r.readingsBefore(ctx, q, midnight)
	if err != nil {
		return err
	}
	var current SeriesHistory
	finish := func() error {
		if current.SourceID == "" {
			return nil
		}
		current.Before = before[seriesKey{current.SourceID, current.Number}]
		return yield(current)
	}
	var columns historyColumns
	dest := columns.dest() // for all rows: there may be many thousands
	read := func(rows *sql.Rows) error {
		for rows.Next() {
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			series, steps, err := columns.value()
			if err != nil {
				return err
			}
			if series.SourceID != current.SourceID || series.Number != current.Number {
				if err := finish(); err != nil {
					return err
				}
				current = SeriesHistory{Series: series, Steps: current.Steps[:0]}
			}
			current.Steps = append(current.Steps, steps...)
		}
		return nil
	}
	if err := r.run.query(ctx, read, "ListHistory", string(q.Team), string(q.Provider), toMicros(midnight), toMicros(q.To), string(q.Step)); err != nil {
		return convertError(err)
	}
	return finish()
}

// seriesKey names a series of a team.
type seriesKey struct {
	source purser.SourceID
	number int64
}

// readingsBefore finds the last reading of each series before a midnight, from
// the days: the hours may be gone.
func (r reads) readingsBefore(ctx context.Context, q HistoryQuery, midnight time.Time) (map[seriesKey]*purser.Reading, error) {
	found := map[seriesKey]*purser.Reading{}
	_, err := all(ctx, r.run, func(row scanner) (struct{}, error) {
		var key seriesKey
		var columns readingColumns
		if err := row.Scan(append([]any{&key.source, &key.number}, columns.dest()...)...); err != nil {
			return struct{}{}, err
		}
		reading, err := columns.value()
		found[key] = reading
		return struct{}{}, err
	}, "ListReadingsBefore", string(q.Team), string(q.Provider), toMicros(midnight))
	return found, err
}

// historyColumns are the columns of a series and of one of its steps, which may
// not be there.
type historyColumns struct {
	series      seriesColumns
	first, last readingColumns
}

func (c *historyColumns) dest() []any {
	return append(append(c.series.dest(), c.first.dest()...), c.last.dest()...)
}

func (c *historyColumns) value() (Series, []StepReadings, error) {
	first, err := c.first.value()
	if err != nil || first == nil {
		return c.series.value(), nil, err
	}
	last, err := c.last.value()
	if err != nil {
		return Series{}, nil, err
	}
	return c.series.value(), []StepReadings{{*first, *last}}, nil
}

// DeleteHistoryBefore deletes up to limit rows of steps that began before a
// time, the oldest first, and returns how many there were.
func (t *Tx) DeleteHistoryBefore(ctx context.Context, step purser.Step, before time.Time, limit int) (int64, error) {
	return changed(ctx, t.run, "DeleteOldHistory", string(step), toMicros(before), limit)
}

// DeleteSeriesBefore deletes up to limit series that ended before a time and
// returns how many there were.
func (t *Tx) DeleteSeriesBefore(ctx context.Context, before time.Time, limit int) (int64, error) {
	return changed(ctx, t.run, "DeleteOldSeries", toMicros(before), limit)
}

// key is the arguments that every statement about a series begins with, and
// those that follow.
func (s Series) key(team purser.TeamID, more ...any) []any {
	return append([]any{string(team), string(s.SourceID), s.Number}, more...)
}

// seriesColumns are the columns of a series.
type seriesColumns struct {
	source          purser.SourceID
	number          int64
	provider        sql.NullString
	began, patience int64
	ended           sql.NullInt64
}

func (c *seriesColumns) dest() []any {
	return []any{&c.source, &c.number, &c.provider, &c.began, &c.ended, &c.patience}
}

func (c *seriesColumns) value() Series {
	return Series{
		SourceID: c.source, Number: c.number, ProviderID: purser.ProviderID(c.provider.String), BeganAt: fromMicros(c.began),
		EndedAt: fromNullMicros(c.ended), Patience: time.Duration(c.patience) * time.Microsecond,
	}
}

// readingColumns are the columns of a reading, which may not be there.
type readingColumns struct {
	at, unknown sql.NullInt64
	bytes       [4]sql.NullInt64
	areas       sql.RawBytes // read before the next row is
}

func (c *readingColumns) dest() []any {
	return []any{&c.at, &c.bytes[0], &c.bytes[1], &c.bytes[2], &c.bytes[3], &c.areas, &c.unknown}
}

func (c *readingColumns) value() (*purser.Reading, error) {
	if !c.at.Valid {
		return nil, nil
	}
	areas, err := unpackAreas(c.areas)
	return &purser.Reading{
		At: fromMicros(c.at.Int64),
		Usage: purser.Usage{
			Dataset: purser.Bytes(c.bytes[0].Int64), Model: purser.Bytes(c.bytes[1].Int64),
			NotebookWorkspace: purser.Bytes(c.bytes[2].Int64), SharedStorage: purser.Bytes(c.bytes[3].Int64),
		},
		Areas: areas, Unknown: time.Duration(c.unknown.Int64) * time.Microsecond,
	}, err
}

// areaSize is how many bytes an area takes: its upper and its lower half, big
// endian. Four of them, in the order of purser.Categories, fill a column.
const areaSize = 16

func packAreas(areas [4]purser.Area) []byte {
	b := make([]byte, 0, len(areas)*areaSize)
	for _, area := range areas {
		b = binary.BigEndian.AppendUint64(b, area.Hi)
		b = binary.BigEndian.AppendUint64(b, area.Lo)
	}
	return b
}

func unpackAreas(b []byte) (areas [4]purser.Area, err error) {
	if len(b) != len(areas)*areaSize {
		return areas, errors.New("a reading's areas are damaged")
	}
	for i := range areas {
		at := b[i*areaSize:]
		areas[i] = purser.Area{Hi: binary.BigEndian.Uint64(at), Lo: binary.BigEndian.Uint64(at[areaSize/2:])}
	}
	return areas, nil
}
