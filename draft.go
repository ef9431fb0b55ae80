package purser

import "time"

// ProviderDraft is what a user says about a provider when creating or replacing
// it.
type ProviderDraft struct {
	Name        string
	TeamDefault bool
	S3          S3Config
	// Secret is the secret access key; zero keeps the stored one and is only
	// possible when there is one.
	Secret Secret
}

// TeamDraft is what an operator says about a team.
type TeamDraft struct {
	Name      string
	Namespace string
	// TotalFreeStorage is what comes with the plan; nil means the server's default.
	TotalFreeStorage *Bytes
}

// KeyDraft is what is asked for in a new API key.
type KeyDraft struct {
	Name      string
	Role      Role
	TeamID    TeamID    // empty: the caller's own team
	ExpiresAt time.Time // zero: never
}
