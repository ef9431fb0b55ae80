package teams

import (
	"context"
	"slices"
	"strings"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
)

// ListKeys lists the keys of a team; "" is the principal's own, and others are
// for operators.
func (s *Service) ListKeys(ctx context.Context, p auth.Principal, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.APIKey], error) {
	none := purser.Page[purser.APIKey]{}
	if err := s.changes.Permit(ctx, p, forTeam(p, team), "key.list", string(team)); err != nil {
		return none, err
	}
	if team == "" || team == p.TeamID {
		return s.store.ListKeys(ctx, p.TeamID, page)
	}
	if _, err := s.store.GetTeam(ctx, team); err != nil {
		return none, err
	}
	return s.store.ListKeys(ctx, team, page)
}

// forTeam is the permission that managing the keys of a team needs.
func forTeam(p auth.Principal, team purser.TeamID) auth.Permission {
	if team == "" || team == p.TeamID {
		return auth.Own
	}
	return auth.Operate
}

// createdKey is the result of the creation of a key, as it is remembered for
// retries: sealed.
type createdKey struct {
	Key   purser.APIKey
	Token string
}

// CreateKey makes an API key and returns it with the key itself, which nobody
// can get at later.
func (s *Service) CreateKey(ctx context.Context, p auth.Principal, d purser.KeyDraft) (purser.APIKey, purser.Secret, error) {
	permission := forTeam(p, d.TeamID)
	if !mayCreate(p.Role, d.Role) {
		permission = auth.Permission(d.Role)
	}
	c := change.Change{Action: "key.create", Permission: permission, Team: d.TeamID, Fields: []string{"name", "role", "expiresAt"}}
	created, err := change.Make(ctx, s.changes, p, c, func(tx change.Tx) (createdKey, error) {
		if !d.ExpiresAt.IsZero() && !d.ExpiresAt.After(tx.Now) {
			return createdKey{}, purser.Invalid("teams.CreateKey", purser.Faults{"/expiresAt": "must be in the future"})
		}
		id, token, hash := auth.NewKey()
		tx.Event.Target = string(id)
		key := purser.APIKey{
			ID: id, TeamID: tx.Event.TeamID, Name: strings.TrimSpace(d.Name), Role: d.Role,
			CreatedAt: tx.Now, ExpiresAt: d.ExpiresAt,
		}
		return createdKey{key, token.Expose()}, tx.CreateKey(ctx, purser.StoredKey{APIKey: key, Hash: hash})
	})
	return created.Key, purser.NewSecret(created.Token), err
}

// mayCreate reports whether a holder of role own may make keys with role other.
func mayCreate(own, other purser.Role) bool {
	return slices.Index(purser.Roles, other) <= slices.Index(purser.Roles, own)
}

// RevokeKey makes a key of the principal's team, or for an operator of any team,
// useless: here at once, and on other nodes within a second.
func (s *Service) RevokeKey(ctx context.Context, p auth.Principal, id purser.KeyID) error {
	c := change.Change{Action: "key.revoke", Permission: auth.Own, Target: string(id)}
	if p.May(auth.Operate) {
		key, err := s.store.FindKey(ctx, id)
		if err != nil {
			return err
		}
		c.Team = key.TeamID
	}
	_, err := change.Make(ctx, s.changes, p, c, func(tx change.Tx) (struct{}, error) {
		return struct{}{}, tx.DeleteKey(ctx, tx.Event.TeamID, id)
	})
	if err == nil {
		s.forget(id)
	}
	return err
}
