// Package auth knows who is asking: API keys, the principals they stand for,
// and what a principal may do.
//
// It leaves to the services which permission an operation needs, and to the
// store where keys are kept. What always holds: a key that does not count is
// refused in the same words and after the same work, whatever is wrong with it.
package auth

import (
	"context"
	"slices"

	"github.com/purserhq/purser"
)

// Principal is who is asking. The zero Principal is nobody and may do nothing.
type Principal struct {
	// KeyID is the API key that was presented; it is the actor in the audit record.
	KeyID  purser.KeyID
	TeamID purser.TeamID
	Role   purser.Role
}

// Permission is something that can be allowed: it is named after the least role
// that has it, because each role may do all that the ones below it may.
type Permission purser.Role

// The permissions.
const (
	Read    = Permission(purser.RoleViewer)
	Edit    = Permission(purser.RoleEditor)
	Own     = Permission(purser.RoleOwner)
	Operate = Permission(purser.RoleOperator)
)

// May reports whether p holds a permission.
func (p Principal) May(permission Permission) bool {
	need := slices.Index(purser.Roles, purser.Role(permission))
	return need >= 0 && slices.Index(purser.Roles, p.Role) >= need
}

type principalKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns the principal that ctx carries, or the zero Principal.
func PrincipalFrom(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
