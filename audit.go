package purser

import "time"

// AuditEvent is one row of the record of who changed, or was refused, what.
type AuditEvent struct {
	ID     EventID
	TeamID TeamID
	At     time.Time
	// Actor is the id of the API key that acted, or ActorSystem.
	Actor string
	// Action names the operation, noun first: "provider.create".
	Action string
	// Target is the id of the object; empty when there is none yet.
	Target string
	// Result is AuditOK or AuditDenied.
	Result        string
	RequestID     string
	SourceAddress string
	// Fields are the names of what was changed, never the values.
	Fields []string
}

// The results of audited operations.
const (
	AuditOK     = "ok"
	AuditDenied = "denied"
)

// ActorSystem is the actor of what the server does by itself.
const ActorSystem = "system"

// AuditLink is an audit event with its place in its team's chain, in which each
// row carries the hash of the one before; see internal/audit.
type AuditLink struct {
	AuditEvent
	// Seq counts from 1 without gaps.
	Seq int64
	// Prev is the hash of the link before; empty for the first.
	Prev []byte
	Hash []byte
}
