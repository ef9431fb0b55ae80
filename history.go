package purser

import "time"

// Step is how far apart the items of a history are. Steps begin at whole hours
// and at midnight, in UTC.
type Step string

const (
	StepHour Step = "hour"
	StepDay  Step = "day"
)

// Duration is how long a step takes.
func (s Step) Duration() time.Duration {
	if s == StepDay {
		return 24 * time.Hour
	}
	return time.Hour
}

// Begin returns when the step began that t lies in.
func (s Step) Begin(t time.Time) time.Time { return t.UTC().Truncate(s.Duration()) }

// Reach is how far back there are figures for each step: somewhat more than the
// 90 days and 5 years that are promised, so that whole months can be asked for.
func (s Step) Reach() time.Duration {
	if s == StepDay {
		return 1830 * 24 * time.Hour
	}
	return 2200 * time.Hour
}

// HistoryRequest asks for a team's history, or that of one of its providers.
type HistoryRequest struct {
	// From and To bound the ends of the steps that are wanted: later than From, not
	// later than To. A zero To is now; a zero From is a day (StepHour) or 30 days
	// (StepDay) before To.
	From, To time.Time
	Step     Step       // "" means StepHour
	Provider ProviderID // empty for the whole team
}

// HistoryItem is one step of a history.
type HistoryItem struct {
	// At is the end of the step.
	At time.Time
	// Usage is what had been measured by then, as a utilization would have said.
	Usage
	// ByteHours are the bytes of each category times the hours they were stored,
	// within the step: byte-hours, not bytes.
	ByteHours Usage
	// Complete is false if some source was not measured for too long a time within
	// the step, or not again since. What was not measured adds nothing to ByteHours.
	Complete bool
}

// History is what was stored in the course of time.
type History struct {
	Items []HistoryItem // oldest first
	// DaysUntilFull is in how many days the team's plan will be used up if its usage
	// goes on as in the last 30 days; nil when that cannot be told.
	DaysUntilFull *int
}

// Plus adds up two usages; each sum stops at the largest number there is.
func (u Usage) Plus(v Usage) Usage {
	return Usage{
		Dataset:           sum(u.Dataset, v.Dataset),
		Model:             sum(u.Model, v.Model),
		NotebookWorkspace: sum(u.NotebookWorkspace, v.NotebookWorkspace),
		SharedStorage:     sum(u.SharedStorage, v.SharedStorage),
	}
}
