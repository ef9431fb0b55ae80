package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/purserhq/purser"
)

// cursors turn positions in lists into what clients send back as `after`.
//
// A cursor is, in base64url without padding:
//
//	version   1 byte, 1
//	created   8 bytes, big endian: microseconds since 1970
//	length    1 byte, of the id
//	id
//	mac       the rest: authenticates all of the above together with the list,
//	          its order and the team it was made for
//
// The team, the list and the order are not in it: a cursor used anywhere else
// than where it came from simply does not verify. The row it names need not
// exist any more.
type cursors struct{ mac MAC }

const (
	cursorVersion = 1
	cursorPurpose = "cursor"
	cursorHead    = 1 + 8 + 1
)

// place is what a cursor is bound to.
type place struct {
	list      string // operation id
	team      purser.TeamID
	ascending bool
}

// encode returns the cursor for a position; "" for the end of the list.
func (c cursors) encode(at place, p purser.Position) string {
	if p.IsZero() {
		return ""
	}
	b := make([]byte, 0, 128)
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(p.CreatedAt.UnixMicro())) // the bits are kept, not the number
	b = append(b, byte(len(p.ID)))                                        //nolint:gosec // ids have 15 characters
	b = append(b, p.ID...)
	b = append(b, c.mac.MAC(cursorPurpose, at.bind(b))...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// strictBase64 refuses padding bits that are not zero. Line breaks it would
// still skip, so decode refuses them by itself: one position, one spelling.
var strictBase64 = base64.RawURLEncoding.Strict()

// decode returns the position of a cursor that encode made for the same place,
// and false for everything else.
func (c cursors) decode(at place, cursor string) (purser.Position, bool) {
	b, err := strictBase64.DecodeString(cursor)
	if err != nil || strings.ContainsAny(cursor, "\r\n") || len(b) < cursorHead || b[0] != cursorVersion {
		return purser.Position{}, false
	}
	end := cursorHead + int(b[cursorHead-1])
	if len(b) <= end || end == cursorHead || !c.mac.VerifyMAC(cursorPurpose, at.bind(b[:end]), b[end:]) {
		return purser.Position{}, false
	}
	micros := int64(binary.BigEndian.Uint64(b[1:])) //nolint:gosec // the bits are kept, not the number
	return purser.Position{CreatedAt: time.UnixMicro(micros).UTC(), ID: string(b[cursorHead:end])}, true
}

// bind returns what is authenticated: the head of a cursor and its place. The
// parts cannot run into each other, for none of the texts holds a zero byte.
func (p place) bind(head []byte) []byte {
	b := make([]byte, 0, len(head)+len(p.list)+len(p.team)+4)
	b = append(b, p.list...)
	b = append(b, 0)
	b = append(b, p.team...)
	b = append(b, 0)
	if p.ascending {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return append(b, head...)
}
