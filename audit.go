package purser

import "time"

// AuditEvent is one row of the record of who changed, or was refused, what.
type AuditEvent struct {
	ID     EventID
	TeamID TeamID
	At     time.Time
	// Actor is the id of the API key that acted, or "system".
	Actor string
	// Action names the operation, noun first: "provider.create".
	Action string
	// Target is the id of the object; empty when there is none yet.
	Target string
	// Result is "ok" or "denied".
	Result        string
	RequestID     string
	SourceAddress string
	// Fields are the names of what was changed, never the values.
	Fields []string
}

const (
	AuditOK     = "ok"
	AuditDenied = "denied"
)
