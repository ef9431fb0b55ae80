package purser

import "time"

// Page sizes of the contract.
const (
	DefaultPageSize = 20
	MaxPageSize     = 120
)

// PageRequest asks for one page of a list that is ordered by (time of creation,
// id).
type PageRequest struct {
	// After is the position behind which the page starts; the zero Position
	// starts at the beginning.
	After Position
	Limit int
	// Ascending lists the oldest first; otherwise the newest come first.
	Ascending bool
}

// Position is a place in a list. The row it was taken from need not exist any
// more.
type Position struct {
	CreatedAt time.Time
	ID        string
}

// IsZero reports whether p is the beginning of every list.
func (p Position) IsZero() bool { return p.ID == "" }

// Page is one page of a list.
type Page[T any] struct {
	Items []T
	// Next is where the following page starts; the zero Position on the last one.
	Next Position
}
