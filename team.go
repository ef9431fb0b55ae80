package purser

import (
	"regexp"
	"time"
)

// Team is a tenant: everything but the server itself belongs to one.
type Team struct {
	ID        TeamID
	Name      string
	Namespace string
	// TotalFreeStorage is how many bytes come with the team's plan.
	TotalFreeStorage Bytes
	CreatedAt        time.Time
}

var namespacePattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// CheckNamespace says what is wrong with a team's namespace, or returns "".
func CheckNamespace(namespace string) string {
	if !namespacePattern.MatchString(namespace) {
		return "must be 1 to 63 lower-case letters, digits or hyphens"
	}
	return ""
}

// Role says what the holder of an API key may do.
type Role string

const (
	RoleViewer   Role = "viewer"   // reads
	RoleEditor   Role = "editor"   // also creates, changes, deletes, scans
	RoleOwner    Role = "owner"    // also manages the team's keys and reads its audit
	RoleOperator Role = "operator" // also manages teams; in its own team an owner
)

// Roles in growing order of power.
var Roles = []Role{RoleViewer, RoleEditor, RoleOwner, RoleOperator}

// APIKey is a key that lets a program or person act for one team. The key
// itself is known to its holder only; see internal/auth for its form.
type APIKey struct {
	ID         KeyID
	TeamID     TeamID
	Name       string
	Role       Role
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	LastUsedAt time.Time // zero: never; exact to a minute
}

// StoredKey is an API key with the hash that the key itself is checked against.
type StoredKey struct {
	APIKey
	Hash []byte // SHA-256 of the whole key
}
