package teams_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/audit"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/teams"
)

type fixture struct {
	*teams.Service
	store     *store.Store
	verifier  *auth.Verifier
	now       time.Time
	operator  auth.Principal
	forgotten []purser.KeyID
}

// setup makes a service with its first team, and the operator that the first
// start leaves.
func setup(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := store.OpenSQLite(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	keyring, err := seal.Open(t.Context(), seal.Options{Keysets: s, KeyFile: filepath.Join(dir, "seal.key")})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, now: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return f.now }
	f.verifier = auth.NewVerifier(s, now, auth.LifeShared)
	f.Service = teams.New(teams.Options{
		Store: s, Changes: change.NewMaker(s, keyring, now), DefaultFreeStorage: 5 << 30,
		Forget: func(id purser.KeyID) { f.forgotten = append(f.forgotten, id); f.verifier.Forget(id) },
	})
	var token purser.Secret
	created, err := f.Bootstrap(t.Context(), func(key purser.Secret) error { token = key; return nil })
	if err != nil || !created {
		t.Fatalf("Bootstrap = %t, %v", created, err)
	}
	f.operator = f.verify(t, token)
	return f
}

func (f *fixture) verify(t *testing.T, token purser.Secret) auth.Principal {
	t.Helper()
	p, err := f.verifier.Verify(t.Context(), token.Expose())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newTeam makes a team and returns an owner of it.
func (f *fixture) newTeam(t *testing.T, namespace string) auth.Principal {
	t.Helper()
	team, err := f.Create(t.Context(), f.operator, purser.TeamDraft{Name: namespace, Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := f.CreateKey(t.Context(), f.operator, purser.KeyDraft{Name: "owner", Role: purser.RoleOwner, TeamID: team.ID})
	if err != nil {
		t.Fatal(err)
	}
	return f.verify(t, token)
}

func TestBootstrapHappensOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	created, err := f.Bootstrap(t.Context(), func(purser.Secret) error { t.Error("a second key was made"); return nil })
	if created || err != nil {
		t.Errorf("Bootstrap = %t, %v", created, err)
	}
	if f.operator.Role != purser.RoleOperator {
		t.Errorf("the first key is for a %s", f.operator.Role)
	}
	team, err := f.Get(t.Context(), f.operator, f.operator.TeamID)
	if err != nil || team.Namespace != "default" || team.TotalFreeStorage != 5<<30 {
		t.Errorf("%+v, %v", team, err)
	}
}

func TestBootstrapWithoutAPlaceForTheKey(t *testing.T) {
	t.Parallel()
	s, err := store.OpenSQLite(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	service := teams.New(teams.Options{Store: s, Changes: change.NewMaker(s, nil, time.Now)})
	full := errors.New("disk full")
	if created, err := service.Bootstrap(t.Context(), func(purser.Secret) error { return full }); !errors.Is(err, full) {
		t.Errorf("Bootstrap = %t, %v", created, err)
	}
	if n, err := s.CountTeams(t.Context()); err != nil || n != 0 {
		t.Errorf("%d teams that nobody can enter, %v", n, err)
	}
}

func TestTeams(t *testing.T) {
	t.Parallel()
	f := setup(t)
	amount := purser.Bytes(1000)
	team, err := f.Create(t.Context(), f.operator, purser.TeamDraft{Name: " Vision ", Namespace: "vision", TotalFreeStorage: &amount})
	if err != nil || team.Name != "Vision" || team.TotalFreeStorage != 1000 {
		t.Fatalf("%+v, %v", team, err)
	}
	if _, err := f.Create(t.Context(), f.operator, purser.TeamDraft{Name: "x", Namespace: "vision"}); purser.KindOf(err) != purser.KindConflict {
		t.Errorf("a namespace twice: %v", err)
	}
	after, err := f.Update(t.Context(), f.operator, team.ID, purser.TeamDraft{Name: "Sight", Namespace: "sight"})
	if err != nil || after.Name != "Sight" || after.Namespace != "sight" || after.TotalFreeStorage != 5<<30 || !after.CreatedAt.Equal(team.CreatedAt) {
		t.Errorf("%+v, %v", after, err)
	}
	if _, err := f.Update(t.Context(), f.operator, purser.NewTeamID(), purser.TeamDraft{Name: "x", Namespace: "x"}); purser.KindOf(err) != purser.KindNotFound {
		t.Errorf("an unknown team: %v", err)
	}
	links, err := f.store.WalkAudit(t.Context(), team.ID)
	if err != nil || len(links) != 2 || links[0].Action != "team.create" || links[1].Action != "team.update" || audit.Verify(links) != nil {
		t.Errorf("the record of the team: %+v, %v", links, err)
	}
}

func TestOnlyOperatorsManageTeams(t *testing.T) {
	t.Parallel()
	f := setup(t)
	owner := f.newTeam(t, "vision")
	ctx := t.Context()
	_, list := f.List(ctx, owner, purser.PageRequest{Limit: 10})
	_, get := f.Get(ctx, owner, owner.TeamID)
	_, create := f.Create(ctx, owner, purser.TeamDraft{Name: "x", Namespace: "x"})
	_, update := f.Update(ctx, owner, owner.TeamID, purser.TeamDraft{Name: "x", Namespace: "x"})
	for _, err := range []error{list, get, create, update} {
		if purser.KindOf(err) != purser.KindPermissionDenied {
			t.Errorf("an owner: %v", err)
		}
	}
}

// TestWhoMayCreateWhichKey is the table of roles: nobody makes a key that is
// more powerful than their own, and only operators make keys for other teams.
func TestWhoMayCreateWhichKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	owner := f.newTeam(t, "vision")
	other := f.newTeam(t, "sound").TeamID
	as := func(role purser.Role) auth.Principal {
		if role == purser.RoleOperator {
			return f.operator
		}
		p := owner
		p.Role = role
		return p
	}
	for _, c := range []struct {
		creator, role purser.Role
		team          purser.TeamID
		ok            bool
	}{
		{purser.RoleViewer, purser.RoleViewer, "", false},
		{purser.RoleEditor, purser.RoleViewer, "", false},
		{purser.RoleOwner, purser.RoleViewer, "", true},
		{purser.RoleOwner, purser.RoleOwner, "", true},
		{purser.RoleOwner, purser.RoleOperator, "", false},
		{purser.RoleOwner, purser.RoleViewer, other, false},
		{purser.RoleOwner, purser.RoleViewer, owner.TeamID, true},
		{purser.RoleOperator, purser.RoleOperator, "", true},
		{purser.RoleOperator, purser.RoleViewer, other, true},
	} {
		key, token, err := f.CreateKey(t.Context(), as(c.creator), purser.KeyDraft{Name: "k", Role: c.role, TeamID: c.team})
		switch {
		case !c.ok && purser.KindOf(err) != purser.KindPermissionDenied:
			t.Errorf("%s makes a %s for %q: %v", c.creator, c.role, c.team, err)
		case c.ok && err != nil:
			t.Errorf("%s makes a %s for %q: %v", c.creator, c.role, c.team, err)
		case c.ok:
			if p := f.verify(t, token); p.Role != c.role || p.KeyID != key.ID || c.team != "" && p.TeamID != c.team {
				t.Errorf("%s made %+v", c.creator, p)
			}
		}
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	f := setup(t)
	owner, stranger := f.newTeam(t, "vision"), f.newTeam(t, "sound")
	key, token, err := f.CreateKey(t.Context(), owner, purser.KeyDraft{Name: "job", Role: purser.RoleEditor})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.RevokeKey(t.Context(), stranger, key.ID); purser.KindOf(err) != purser.KindNotFound {
		t.Errorf("a stranger revokes it: %v", err)
	}
	f.verify(t, token)
	if err := f.RevokeKey(t.Context(), owner, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.verifier.Verify(t.Context(), token.Expose()); purser.KindOf(err) != purser.KindUnauthenticated {
		t.Errorf("a revoked key still counts here: %v", err)
	}
	if err := f.RevokeKey(t.Context(), owner, key.ID); purser.KindOf(err) != purser.KindNotFound {
		t.Errorf("a second time: %v", err)
	}
	// An operator reaches into every team, and the team's record tells.
	if err := f.RevokeKey(t.Context(), f.operator, stranger.KeyID); err != nil {
		t.Errorf("an operator: %v", err)
	}
	links, err := f.store.WalkAudit(t.Context(), stranger.TeamID)
	if err != nil || links[len(links)-1].Action != "key.revoke" || links[len(links)-1].Actor != string(f.operator.KeyID) {
		t.Errorf("the record of the team: %+v, %v", links, err)
	}
}

func TestKeyExpiry(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, _, err := f.CreateKey(t.Context(), f.operator, purser.KeyDraft{Name: "k", Role: purser.RoleViewer, ExpiresAt: f.now}); purser.KindOf(err) != purser.KindInvalid {
		t.Errorf("a key that has expired already: %v", err)
	}
	_, token, err := f.CreateKey(t.Context(), f.operator, purser.KeyDraft{Name: "k", Role: purser.RoleViewer, ExpiresAt: f.now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	f.verify(t, token)
	f.now = f.now.Add(time.Minute)
	if _, err := f.verifier.Verify(t.Context(), token.Expose()); purser.KindOf(err) != purser.KindUnauthenticated {
		t.Errorf("an expired key counts: %v", err)
	}
}

// TestRetriedCreationGivesTheSameKey proves that a key can be fetched again by
// the one who made it, and that it is the only place where that is possible.
func TestRetriedCreationGivesTheSameKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := purser.WithRequest(t.Context(), purser.Request{ID: "r", IdempotencyKey: "once", BodyHash: [32]byte{1}})
	draft := purser.KeyDraft{Name: "k", Role: purser.RoleOwner}
	first, token, err := f.CreateKey(ctx, f.operator, draft)
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := f.CreateKey(ctx, f.operator, draft)
	if err != nil || again.ID != first.ID || same.Expose() != token.Expose() {
		t.Errorf("a retry made %+v, %v", again, err)
	}
	other := f.verify(t, token)
	if key, _, err := f.CreateKey(ctx, other, draft); err != nil || key.ID == first.ID {
		t.Errorf("another principal was given the first answer: %+v, %v", key, err)
	}
}

func TestAuditEventsOfWhom(t *testing.T) {
	t.Parallel()
	f := setup(t)
	owner := f.newTeam(t, "vision")
	f.newTeam(t, "sound")
	teamsSeen := func(p auth.Principal) map[purser.TeamID]bool {
		page, err := f.AuditEvents(t.Context(), p, purser.PageRequest{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[purser.TeamID]bool{}
		for _, e := range page.Items {
			seen[e.TeamID] = true
		}
		return seen
	}
	if seen := teamsSeen(owner); len(seen) != 1 || !seen[owner.TeamID] {
		t.Errorf("an owner sees %v", seen)
	}
	if seen := teamsSeen(f.operator); len(seen) != 3 {
		t.Errorf("an operator sees %v", seen)
	}
	owner.Role = purser.RoleEditor
	if _, err := f.AuditEvents(t.Context(), owner, purser.PageRequest{Limit: 1}); purser.KindOf(err) != purser.KindPermissionDenied {
		t.Errorf("an editor: %v", err)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	f := setup(t)
	owner := f.newTeam(t, "vision")
	team, key, err := f.Session(t.Context(), owner)
	if err != nil || team.Namespace != "vision" || key.ID != owner.KeyID || key.Role != purser.RoleOwner {
		t.Errorf("%+v, %+v, %v", team, key, err)
	}
}
