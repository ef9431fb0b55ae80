// Package teams holds the rules for teams, for the API keys that act for them,
// and for who may read the record of what was done.
//
// It leaves to package auth what a key looks like and how one is verified. What
// always holds: nobody creates a key more powerful than their own, and a key is
// shown once, in the answer that creates it.
package teams

import (
	"context"
	"strings"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/audit"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/store"
)

// Options are the parts of a Service; all are needed.
type Options struct {
	Store   *store.Store
	Changes *change.Maker
	// DefaultFreeStorage is what comes with the plan of a team for which nobody
	// says otherwise.
	DefaultFreeStorage purser.Bytes
	// Forget is called with each key that was revoked here, so that this node
	// stops believing in it at once.
	Forget func(purser.KeyID)
}

// Service is the service for teams. It is safe for concurrent use.
type Service struct {
	store              *store.Store
	changes            *change.Maker
	defaultFreeStorage purser.Bytes
	forget             func(purser.KeyID)
}

// New makes a Service.
func New(o Options) *Service {
	return &Service{store: o.Store, changes: o.Changes, defaultFreeStorage: o.DefaultFreeStorage, forget: o.Forget}
}

// List returns a page of all teams.
func (s *Service) List(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.Team], error) {
	if err := s.changes.Permit(ctx, p, auth.Operate, "team.list", ""); err != nil {
		return purser.Page[purser.Team]{}, err
	}
	return s.store.ListTeams(ctx, page)
}

// Get returns a team.
func (s *Service) Get(ctx context.Context, p auth.Principal, id purser.TeamID) (purser.Team, error) {
	if err := s.changes.Permit(ctx, p, auth.Operate, "team.get", string(id)); err != nil {
		return purser.Team{}, err
	}
	return s.store.GetTeam(ctx, id)
}

// Create makes a team. KindConflict if the namespace is taken.
func (s *Service) Create(ctx context.Context, p auth.Principal, d purser.TeamDraft) (purser.Team, error) {
	c := change.Change{Action: "team.create", Permission: auth.Operate, Fields: []string{"name", "namespace", "totalFreeStorage"}}
	return change.Make(ctx, s.changes, p, c, func(tx change.Tx) (purser.Team, error) {
		team := s.apply(purser.Team{ID: purser.NewTeamID(), CreatedAt: tx.Now}, d)
		// The record of a team begins with its creation.
		tx.Event.TeamID, tx.Event.Target = team.ID, string(team.ID)
		return team, namespaceTaken(tx.CreateTeam(ctx, team), team)
	})
}

// Update replaces what operators may change of a team.
func (s *Service) Update(ctx context.Context, p auth.Principal, id purser.TeamID, d purser.TeamDraft) (purser.Team, error) {
	c := change.Change{
		Action: "team.update", Permission: auth.Operate, Team: id, Target: string(id),
		Fields: []string{"name", "namespace", "totalFreeStorage"},
	}
	return change.Make(ctx, s.changes, p, c, func(tx change.Tx) (purser.Team, error) {
		before, err := tx.GetTeam(ctx, id)
		if err != nil {
			return before, err
		}
		team := s.apply(before, d)
		return team, namespaceTaken(tx.UpdateTeam(ctx, team), team)
	})
}

func (s *Service) apply(team purser.Team, d purser.TeamDraft) purser.Team {
	team.Name, team.Namespace, team.TotalFreeStorage = strings.TrimSpace(d.Name), d.Namespace, s.defaultFreeStorage
	if d.TotalFreeStorage != nil {
		team.TotalFreeStorage = *d.TotalFreeStorage
	}
	return team
}

// namespaceTaken gives a conflict its name.
func namespaceTaken(err error, team purser.Team) error {
	if purser.KindOf(err) != purser.KindConflict {
		return err
	}
	return &purser.Error{
		Kind: purser.KindConflict, Op: "teams", Err: err,
		Message: "The namespace " + team.Namespace + " belongs to another team; choose another one.",
	}
}

// Session returns the principal's own team and key.
func (s *Service) Session(ctx context.Context, p auth.Principal) (purser.Team, purser.APIKey, error) {
	team, err := s.store.GetTeam(ctx, p.TeamID)
	if err != nil {
		return purser.Team{}, purser.APIKey{}, err
	}
	key, err := s.store.FindKey(ctx, p.KeyID)
	return team, key.APIKey, err
}

// AuditEvents returns a page of the record: the principal's own team's, or all
// teams' for an operator.
func (s *Service) AuditEvents(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.AuditEvent], error) {
	if err := s.changes.Permit(ctx, p, auth.Own, "audit.list", ""); err != nil {
		return purser.Page[purser.AuditEvent]{}, err
	}
	team := p.TeamID
	if p.May(auth.Operate) {
		team = ""
	}
	return s.store.ListAudit(ctx, team, page)
}

// Bootstrap makes the first team and a key for its operator when there is no
// team yet, and reports whether it did. It is for the first start of a server.
//
// The key is handed to keep before anything is committed: a server that dies in
// between starts anew, where the other way round it would have a team that
// nobody can enter. What keep was given counts only if Bootstrap reports true.
func (s *Service) Bootstrap(ctx context.Context, keep func(purser.Secret) error) (created bool, err error) {
	err = s.store.InTx(ctx, func(tx *store.Tx) error {
		created = false
		teams, err := tx.CountTeams(ctx)
		if err != nil || teams > 0 {
			return err
		}
		created = true
		return s.bootstrap(ctx, tx, keep)
	})
	if purser.KindOf(err) == purser.KindConflict { // another node was faster
		return false, nil
	}
	return created, err
}

func (s *Service) bootstrap(ctx context.Context, tx *store.Tx, keep func(purser.Secret) error) error {
	now := s.changes.Now()
	team := purser.Team{ID: purser.NewTeamID(), Name: "default", Namespace: "default", TotalFreeStorage: s.defaultFreeStorage, CreatedAt: now}
	if err := tx.CreateTeam(ctx, team); err != nil {
		return err
	}
	id, token, hash := auth.NewKey()
	key := purser.APIKey{ID: id, TeamID: team.ID, Name: "operator", Role: purser.RoleOperator, CreatedAt: now}
	if err := tx.CreateKey(ctx, purser.StoredKey{APIKey: key, Hash: hash}); err != nil {
		return err
	}
	event := purser.AuditEvent{
		ID: purser.NewEventID(), TeamID: team.ID, At: now, Actor: purser.ActorSystem, Action: "team.create",
		Target: string(team.ID), Result: purser.AuditOK, Fields: []string{"name", "namespace", "totalFreeStorage"},
	}
	if err := audit.Append(ctx, tx, event); err != nil {
		return err
	}
	return keep(token)
}
