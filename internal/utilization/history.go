package utilization

import (
	"context"
	"fmt"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/store"
)

// History returns what the team, or one of its providers, stored in the course
// of time: an item for each step that ends after q.From and not after q.To, so
// that histories of adjacent times have no item in common and leave none out.
//
// Errors: KindInvalid for times that are in the wrong order or too far back;
// KindNotFound for a provider that the team never had. One that was deleted
// keeps its history.
func (s *Service) History(ctx context.Context, p auth.Principal, q purser.HistoryRequest) (purser.History, error) {
	q, err := s.complete(q)
	if err != nil {
		return purser.History{}, err
	}
	if err := s.Changes.Permit(ctx, p, auth.Read, "utilization.history", string(q.Provider)); err != nil {
		return purser.History{}, err
	}
	if q.Provider != "" {
		known, err := s.Store.HasHistory(ctx, p.TeamID, q.Provider)
		if err != nil {
			return purser.History{}, err
		}
		if !known {
			return purser.History{}, purser.NotFound("utilization.History", "storage provider")
		}
	}
	line, err := s.timeline(ctx, p.TeamID, q)
	if err != nil {
		return purser.History{}, err
	}
	h := purser.History{Items: line.items}
	if q.Provider == "" {
		h.DaysUntilFull, err = s.daysUntilFull(ctx, p.TeamID)
	}
	return h, err
}

// complete fills in what a request leaves open, and checks the rest.
func (s *Service) complete(q purser.HistoryRequest) (purser.HistoryRequest, error) {
	now := s.Now().UTC()
	if q.Step == "" {
		q.Step = purser.StepHour
	}
	if q.To.IsZero() || q.To.After(now) {
		q.To = now // nothing has been measured later
	}
	start := "?from" // what to blame if the beginning is too far back
	if q.From.IsZero() {
		start, q.From = "?to", q.To.Add(-usualSteps(q.Step))
	}
	faults := purser.Faults{}
	switch {
	case !q.From.Before(q.To):
		faults["?from"] = "must be earlier than to, and not in the future"
	case q.From.Before(now.Add(-q.Step.Reach())):
		faults[start] = tooFar(q.Step)
	}
	return q, purser.Invalid("utilization.History", faults)
}

// usualSteps is how much history there is for who does not say: what makes one
// picture.
func usualSteps(step purser.Step) time.Duration {
	if step == purser.StepDay {
		return 30 * 24 * time.Hour
	}
	return 24 * time.Hour
}

func tooFar(step purser.Step) string {
	if step == purser.StepDay {
		return fmt.Sprintf("must not lead back more than %d days, for older figures are not kept", step.Reach()/(24*time.Hour))
	}
	return fmt.Sprintf("must not lead back more than %d hours; ask for step=day to go further", step.Reach()/time.Hour)
}

// timeline adds up the histories of sources, step by step.
type timeline struct {
	// ends are where the steps end, after the beginning of the first one.
	ends  []time.Time
	items []purser.HistoryItem // one less than ends
	// measured tells at which ends there was any figure yet, and so has a length of
	// one less too.
	measured []bool
}

func newTimeline(q purser.HistoryRequest) *timeline {
	l := &timeline{ends: []time.Time{q.Step.Begin(q.From)}, items: []purser.HistoryItem{}}
	for end := l.ends[0].Add(q.Step.Duration()); !end.After(q.To); end = end.Add(q.Step.Duration()) {
		l.ends = append(l.ends, end)
		l.items = append(l.items, purser.HistoryItem{At: end, Complete: true})
	}
	l.measured = make([]bool, len(l.items))
	return l
}

// timeline reads what q asks for.
func (s *Service) timeline(ctx context.Context, team purser.TeamID, q purser.HistoryRequest) (*timeline, error) {
	l := newTimeline(q)
	if len(l.items) == 0 {
		return l, nil
	}
	query := store.HistoryQuery{Team: team, Provider: q.Provider, Step: q.Step, From: l.ends[0], To: l.ends[len(l.ends)-1]}
	return l, s.Store.EachHistory(ctx, query, func(h store.SeriesHistory) error {
		l.add(h)
		return nil
	})
}

// add adds one series to all items.
func (l *timeline) add(h store.SeriesHistory) {
	i, last := 0, h.Before
	var previous purser.Reading
	note := func(state purser.Reading, measured bool) {
		if i > 0 {
			item := &l.items[i-1]
			item.Usage = item.Plus(state.Usage)
			item.ByteHours = item.ByteHours.Plus(state.ByteHoursSince(previous))
			item.Complete = item.Complete && state.Unknown == previous.Unknown
			l.measured[i-1] = l.measured[i-1] || measured
		}
		previous = state
		i++
	}
	for _, step := range h.Steps {
		for i < len(l.ends) && !l.ends[i].After(step.First.At) {
			note(between(h, last, step.First, l.ends[i]))
		}
		last = &step.Last
	}
	for i < len(l.ends) {
		note(behind(h, last, l.ends[i]))
	}
}

// between is the state of a series at a time between two of its readings, and
// whether anything was measured by then. Before the first reading nothing is
// counted, and the time is a gap if that reading says so.
func between(h store.SeriesHistory, last *purser.Reading, next purser.Reading, t time.Time) (purser.Reading, bool) {
	if last != nil || !t.Before(next.At) {
		if last == nil {
			return next, true
		}
		return last.Until(t, next), true
	}
	state := purser.Reading{At: t, Areas: next.Areas}
	if next.Unknown > 0 {
		state.Unknown = max(0, t.Sub(h.BeganAt))
	}
	return state, false
}

// behind is the state of a series after its newest reading. What was not measured
// yet is not counted, and not complete before it is; where a series has ended,
// nothing is left to be measured.
func behind(h store.SeriesHistory, last *purser.Reading, t time.Time) (purser.Reading, bool) {
	if last == nil {
		return purser.Reading{At: t, Unknown: max(0, t.Sub(h.BeganAt))}, false
	}
	state := *last
	state.At = t
	if !h.EndedAt.IsZero() && !t.Before(h.EndedAt) {
		state.Usage = purser.Usage{}
		return state, true
	}
	state.Unknown += t.Sub(last.At)
	return state, true
}
