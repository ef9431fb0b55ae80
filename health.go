package purser

import "time"

// HealthState says whether a provider's bucket could be read when that was tried
// last.
type HealthState string

const (
	HealthUnknown  HealthState = "unknown"  // not tried since the provider was made or changed
	HealthOK       HealthState = "ok"       // all of it was read
	HealthDegraded HealthState = "degraded" // the store answers, but does not let everything be read
	HealthFailing  HealthState = "failing"  // nothing can be read
)

// Health is what was found out about a provider's bucket by reading it.
type Health struct {
	State HealthState
	// Since is when the state was found first, without another one since; zero while
	// it is unknown.
	Since time.Time
	// CheckedAt is the newest finding; zero before the first.
	CheckedAt time.Time
	// Error says why the state is degraded or failing.
	Error *ScanError
	// Region is the signing region of the bucket, and Method how it is measured; empty
	// while nobody knows.
	Region, Method string
	// Budget is today's of the provider.
	Budget RequestBudget
}
