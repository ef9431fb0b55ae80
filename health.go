package purser

import (
	"cmp"
	"time"
)

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
	// Method is how the bucket is measured, as SourceUsage has it; empty while nobody
	// knows.
	Method   string
	Detected Detected
	// Budget is today's of the provider.
	Budget RequestBudget
}

// Detected is what was found out about a store and a bucket without being told.
// What nobody knows is zero.
type Detected struct {
	// Region is the signing region.
	Region     string
	Addressing Addressing
	// ListVersion is the version of the request that lists the current objects: 2, or
	// 1 where the store knows no other; unknown where all versions of objects are
	// listed.
	ListVersion int
	// Versioned says whether the bucket keeps older versions of objects, or has kept
	// them once.
	Versioned *bool
}

// And returns d with what newer knows.
func (d Detected) And(newer Detected) Detected {
	return Detected{
		Region:      cmp.Or(newer.Region, d.Region),
		Addressing:  cmp.Or(newer.Addressing, d.Addressing),
		ListVersion: cmp.Or(newer.ListVersion, d.ListVersion),
		Versioned:   cmp.Or(newer.Versioned, d.Versioned),
	}
}

// Addressing is where requests name the bucket.
type Addressing string

const (
	AddressingPath        Addressing = "path"        // https://s3.example.com/bucket
	AddressingVirtualHost Addressing = "virtualHost" // https://bucket.s3.example.com
)
