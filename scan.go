package purser

import "time"

// ScanState is where a scan is in its life: queued → running → done, failed or
// cancelled.
type ScanState string

const (
	ScanQueued    ScanState = "queued"
	ScanRunning   ScanState = "running"
	ScanDone      ScanState = "done"
	ScanFailed    ScanState = "failed"
	ScanCancelled ScanState = "cancelled"
)

// Ended reports whether nothing more will happen to a scan in this state.
func (s ScanState) Ended() bool {
	return s == ScanDone || s == ScanFailed || s == ScanCancelled
}

// Scan is one run over one source.
type Scan struct {
	ID         ScanID
	TeamID     TeamID
	SourceID   SourceID
	ProviderID ProviderID // empty for a tree
	// Source names the place for people: s3://bucket or the tree's path.
	Source string
	State  ScanState
	// Objects, Bytes and Requests are the progress so far, and the result when done.
	Objects    int64
	Bytes      Bytes
	Requests   int64
	CreatedAt  time.Time
	StartedAt  time.Time // zero until running
	FinishedAt time.Time // zero until ended
	Error      *ScanError
	// EstimatedCost is that of Requests; nothing for a tree.
	EstimatedCost Cost
	// Budget is today's of the provider; nil for a tree, and when the provider was
	// deleted.
	Budget *RequestBudget
}

// ScanError says why a scan failed, what a running one waits to be over, or what
// is odd about one that is done.
type ScanError struct {
	// Code is stable and for programs: see internal/metering/source.
	Code string
	// Message is one sentence saying what is wrong.
	Message string
	// Hint is one sentence saying what to do about it.
	Hint string
}

// ScanCodeChanged is the code of a scan that ended because what it measured was
// changed or deleted.
const ScanCodeChanged = "provider_changed"

// MeteringRule counts the keys that begin with Prefix for Category. Of the
// rules that match, the first one listed wins.
type MeteringRule struct {
	Category Category
	Prefix   string
}
