package purser

import (
	"crypto/rand"
	"encoding/binary"
	"regexp"
)

// Identifiers are a three-letter prefix and twelve characters of base 36, as
// the hosted API has them (spl… for providers). They are random, never reused,
// and say nothing about when or where they were made.
type (
	TeamID     string // tea…
	ProviderID string // spl…
	KeyID      string // key…
	SourceID   string // src…
	ScanID     string // scn…
	EventID    string // evt…
)

// NewTeamID returns a fresh random id; the other New…ID functions do the same
// for their kind.
func NewTeamID() TeamID { return TeamID(newID("tea")) }

func NewProviderID() ProviderID { return ProviderID(newID("spl")) }

func NewKeyID() KeyID { return KeyID(newID("key")) }

func NewSourceID() SourceID { return SourceID(newID("src")) }

func NewScanID() ScanID { return ScanID(newID("scn")) }

func NewEventID() EventID { return EventID(newID("evt")) }

const (
	base36   = "0123456789abcdefghijklmnopqrstuvwxyz"
	idDigits = 12 // 62 bits of chance: one collision in 10^9 ids is a one in ten event per 10^18 pairs
)

var idPattern = regexp.MustCompile(`^[a-z]{3}[0-9a-z]{12}$`)

// ValidID reports whether s has the form of an identifier of any kind. Looking
// up an id that has not is pointless, and it is not worth a trip to the store.
func ValidID(s string) bool { return idPattern.MatchString(s) }

func newID(prefix string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: the runtime ends the process instead
	n := binary.BigEndian.Uint64(random[:])
	id := make([]byte, 0, len(prefix)+idDigits)
	id = append(id, prefix...)
	for range idDigits {
		id = append(id, base36[n%36])
		n /= 36
	}
	return string(id)
}
