package purser

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// Bytes is an amount of storage, never negative.
type Bytes int64

// String gives the decimal digits, as the wire has them.
func (b Bytes) String() string { return strconv.FormatInt(int64(b), 10) }

// Human gives the amount in binary units with one decimal: 4.7 GiB.
func (b Bytes) Human() string {
	value, unit := float64(b), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", int64(b))
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

var bytesPattern = regexp.MustCompile(`^([0-9]{1,19})(?:\.([0-9]{1,3}))?\s*([kKMGTPE]?)(i?)[bB]?$`)

// ParseBytes reads an amount of storage: decimal digits, optionally with a
// binary (KiB … EiB) or decimal (kB … EB) unit.
func ParseBytes(s string) (Bytes, error) {
	m := bytesPattern.FindStringSubmatch(s)
	if m == nil || m[4] == "i" && m[3] == "" {
		return 0, fmt.Errorf("%q is not an amount of storage such as 5GiB, 500MB or 1048576", s)
	}
	base, exponent := 1000.0, map[string]float64{"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}[m[3]]
	if m[4] == "i" {
		base = 1024
	}
	if m[3] == "" && m[2] == "" {
		n, err := strconv.ParseInt(m[1], 10, 64)
		return Bytes(n), err
	}
	number, _ := strconv.ParseFloat(m[1]+"."+m[2]+"0", 64)
	amount := number * math.Pow(base, exponent)
	if amount >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is more than can be counted (2^63-1 bytes)", s)
	}
	return Bytes(amount), nil
}

// Category is what stored bytes are for.
type Category string

const (
	CategoryDataset           Category = "dataset"
	CategoryModel             Category = "model"
	CategoryNotebookWorkspace Category = "notebookWorkspace"
	CategorySharedStorage     Category = "sharedStorage"
	// CategoryUnmatched is for what no rule of the provider's own matched: it is
	// reported, but counted for nobody.
	CategoryUnmatched Category = ""
)

// Categories are the four that count, in the order of the contract.
var Categories = []Category{CategoryDataset, CategoryModel, CategoryNotebookWorkspace, CategorySharedStorage}

// Usage is how many bytes a team stores in each category.
type Usage struct {
	Dataset, Model, NotebookWorkspace, SharedStorage Bytes
}

// Total is exactly the sum of the four; it stops at the largest number there is
// rather than wrap.
func (u Usage) Total() Bytes {
	return sum(u.Dataset, u.Model, u.NotebookWorkspace, u.SharedStorage)
}

func sum(amounts ...Bytes) Bytes {
	total := Bytes(0)
	for _, b := range amounts {
		if total > math.MaxInt64-b {
			return math.MaxInt64
		}
		total += b
	}
	return total
}

// UsageState says how far a team's figures can be trusted.
type UsageState string

const (
	UsageComplete UsageState = "complete" // every source measured completely and recently
	UsagePending  UsageState = "pending"  // some source has not been measured yet
	UsageStale    UsageState = "stale"    // the newest scan of some source failed, or is overdue
)

// Utilization is a team's usage against its plan.
type Utilization struct {
	Usage
	TotalFreeStorage Bytes
	// MeasuredAt is when the source measured longest ago was; zero before any
	// measurement.
	MeasuredAt time.Time
	State      UsageState
}

// RemainingFreeStorage is what is left of the plan, never negative.
func (u Utilization) RemainingFreeStorage() Bytes { return max(0, u.TotalFreeStorage-u.Total()) }

// Tally is what was counted for one category of one source.
type Tally struct {
	Objects int64
	// Current, Noncurrent and Unfinished are the bytes of live objects, of their
	// older versions and of parts of unfinished uploads.
	Current, Noncurrent, Unfinished Bytes
}

// Bytes is all that is stored: what a store bills. It stops at the largest
// number there is, like Usage.Total.
func (t Tally) Bytes() Bytes { return sum(t.Current, t.Noncurrent, t.Unfinished) }

// SourceUsage is the newest complete measurement of one source, by category
// (CategoryUnmatched included).
type SourceUsage struct {
	Tallies    map[Category]Tally
	MeasuredAt time.Time // zero before any measurement
	// Method is how it was measured: "list" or "walk".
	Method string
	// Complete is false when the newest scan could not read everything; the
	// figures are then those of the last complete one.
	Complete bool
	// Requests is how many requests the measurement took; 0 for trees.
	Requests int64
	// EstimatedCost is that of Requests.
	EstimatedCost Cost
	// Budget is today's of the provider.
	Budget RequestBudget
	// Folders are the biggest ones at each depth, from the first on; none where the
	// store does not list in order.
	Folders []FolderLevel
	// StorageClasses are what objects are stored as, sorted by name; none where the
	// store does not say.
	StorageClasses []StorageClass
}

// Amount is what a part of a source holds: current objects, and the bytes of
// all versions. Unfinished uploads are not among them.
type Amount struct {
	Objects int64
	Bytes   Bytes
}

// Folder is all that lies below a path of a bucket, which ends in a slash.
type Folder struct {
	Path string
	Amount
}

// FolderLevel is the folders at one depth, the biggest first, with all the rest:
// together they are the whole source.
type FolderLevel struct {
	Biggest []Folder
	Rest    Amount
}

// StorageClass is what is stored in one of a store's classes.
type StorageClass struct {
	Name string
	Amount
}
