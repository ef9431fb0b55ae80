package purser

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Secret prints as, everywhere.
const Redacted = "[redacted]"

// Secret is a value that must not be seen: a secret access key, an API key.
// Every way Go has of printing a value (fmt verbs, JSON, text, slog) gives
// Redacted instead. The zero value is the empty secret.
type Secret struct{ value string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value} }

// Expose returns the secret itself. Search for its callers to see every place
// where a secret leaves its wrapping.
func (s Secret) Expose() string { return s.value }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == "" }

func (Secret) String() string                 { return Redacted }
func (Secret) GoString() string               { return Redacted }
func (Secret) Format(f fmt.State, _ rune)     { _, _ = io.WriteString(f, Redacted) }
func (Secret) MarshalText() ([]byte, error)   { return []byte(Redacted), nil }
func (Secret) MarshalJSON() ([]byte, error)   { return []byte(`"` + Redacted + `"`), nil }
func (Secret) MarshalBinary() ([]byte, error) { return []byte(Redacted), nil }
func (Secret) GobEncode() ([]byte, error)     { return []byte(Redacted), nil }
func (Secret) LogValue() slog.Value           { return slog.StringValue(Redacted) }
