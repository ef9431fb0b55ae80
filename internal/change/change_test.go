package change_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/audit"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
)

type fixture struct {
	store *store.Store
	maker *change.Maker
	now   time.Time
	team  purser.Team
}

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
	f.maker = change.NewMaker(s, keyring, func() time.Time { return f.now })
	f.team = purser.Team{ID: purser.NewTeamID(), Name: "vision", Namespace: "vision", CreatedAt: f.now}
	if err := s.InTx(t.Context(), func(tx *store.Tx) error { return tx.CreateTeam(t.Context(), f.team) }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) principal(role purser.Role) auth.Principal {
	return auth.Principal{KeyID: "key000000000001", TeamID: f.team.ID, Role: role}
}

func (f *fixture) events(t *testing.T) []purser.AuditEvent {
	t.Helper()
	page, err := f.store.ListAudit(t.Context(), f.team.ID, purser.PageRequest{Limit: 100, Ascending: true})
	if err != nil {
		t.Fatal(err)
	}
	links, err := f.store.WalkAudit(t.Context(), f.team.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.Verify(links); err != nil {
		t.Errorf("the chain is broken: %v", err)
	}
	return page.Items
}

// rename is a change that counts how often it was really made.
func (f *fixture) rename(ctx context.Context, p auth.Principal, name string, made *int) (purser.Team, error) {
	c := change.Change{Action: "team.update", Permission: auth.Edit, Target: string(f.team.ID), Fields: []string{"name"}}
	return change.Make(ctx, f.maker, p, c, func(tx change.Tx) (purser.Team, error) {
		*made++
		team := f.team
		team.Name = name
		return team, tx.UpdateTeam(ctx, team)
	})
}

func request(key string, hash byte) purser.Request {
	return purser.Request{ID: "0123456789abcdef", SourceAddress: "192.0.2.1", IdempotencyKey: key, BodyHash: [32]byte{hash}}
}

func TestChangeIsRecorded(t *testing.T) {
	t.Parallel()
	f, made := setup(t), 0
	ctx := purser.WithRequest(t.Context(), request("", 0))
	if _, err := f.rename(ctx, f.principal(purser.RoleEditor), "sound", &made); err != nil {
		t.Fatal(err)
	}
	events := f.events(t)
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	want := purser.AuditEvent{
		ID: events[0].ID, TeamID: f.team.ID, At: f.now, Actor: "key000000000001", Action: "team.update", Target: string(f.team.ID),
		Result: purser.AuditOK, RequestID: "0123456789abcdef", SourceAddress: "192.0.2.1", Fields: []string{"name"},
	}
	if diff := cmp.Diff(want, events[0]); diff != "" {
		t.Error(diff)
	}
}

func TestRefusalIsRecordedAndChangesNothing(t *testing.T) {
	t.Parallel()
	f, made := setup(t), 0
	_, err := f.rename(t.Context(), f.principal(purser.RoleViewer), "sound", &made)
	if purser.KindOf(err) != purser.KindPermissionDenied || made != 0 {
		t.Errorf("err = %v, made %d times", err, made)
	}
	f.now = f.now.Add(time.Second)
	if err := f.maker.Permit(t.Context(), f.principal(purser.RoleEditor), auth.Own, "audit.list", ""); purser.KindOf(err) != purser.KindPermissionDenied {
		t.Errorf("Permit = %v", err)
	}
	events := f.events(t)
	if len(events) != 2 || events[0].Result != purser.AuditDenied || events[0].Action != "team.update" || events[1].Action != "audit.list" {
		t.Errorf("events: %+v", events)
	}
}

func TestFailedChangeLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := change.Change{Action: "team.update", Permission: auth.Edit}
	_, err := change.Make(t.Context(), f.maker, f.principal(purser.RoleEditor), c, func(tx change.Tx) (purser.Team, error) {
		team := f.team
		team.Name = "sound"
		return team, errors.Join(tx.UpdateTeam(t.Context(), team), purser.Errorf(purser.KindConflict, "test", "No."))
	})
	if purser.KindOf(err) != purser.KindConflict {
		t.Errorf("err = %v", err)
	}
	if team, err := f.store.GetTeam(t.Context(), f.team.ID); err != nil || team.Name != "vision" || len(f.events(t)) != 0 {
		t.Errorf("after a failed change: %+v, %v", team, err)
	}
}

func TestRetryGivesTheFirstAnswer(t *testing.T) {
	t.Parallel()
	f, made := setup(t), 0
	editor := f.principal(purser.RoleEditor)
	ctx := purser.WithRequest(t.Context(), request("retry-1", 1))
	first, err := f.rename(ctx, editor, "sound", &made)
	if err != nil {
		t.Fatal(err)
	}
	again, err := f.rename(ctx, editor, "sound", &made)
	if err != nil || made != 1 {
		t.Fatalf("made %d times, err = %v", made, err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Error(diff)
	}
	if len(f.events(t)) != 1 {
		t.Error("a retry was recorded as a change")
	}

	other := purser.WithRequest(t.Context(), request("retry-1", 2))
	if _, err := f.rename(other, editor, "light", &made); purser.KindOf(err) != purser.KindConflict || made != 1 {
		t.Errorf("the same key for another body: %v", err)
	}
	// Somebody else's key of the same name is another key.
	stranger := editor
	stranger.KeyID = "key000000000002"
	if _, err := f.rename(other, stranger, "light", &made); err != nil || made != 2 {
		t.Errorf("another principal: %v, made %d times", err, made)
	}
	f.now = f.now.Add(24*time.Hour + time.Second)
	if _, err := f.rename(ctx, editor, "sound", &made); err != nil || made != 3 {
		t.Errorf("a day later: %v, made %d times", err, made)
	}
}

func TestRetryNeedsTheSamePermission(t *testing.T) {
	t.Parallel()
	f, made := setup(t), 0
	ctx := purser.WithRequest(t.Context(), request("retry-1", 1))
	if _, err := f.rename(ctx, f.principal(purser.RoleEditor), "sound", &made); err != nil {
		t.Fatal(err)
	}
	if _, err := f.rename(ctx, f.principal(purser.RoleViewer), "sound", &made); purser.KindOf(err) != purser.KindPermissionDenied {
		t.Errorf("a viewer got the answer of an editor: %v", err)
	}
}

func TestUnknownTeam(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := change.Change{Action: "key.create", Permission: auth.Operate, Team: "tea000000000000"}
	_, err := change.Make(t.Context(), f.maker, f.principal(purser.RoleOperator), c, func(change.Tx) (int, error) { return 0, nil })
	if purser.KindOf(err) != purser.KindNotFound {
		t.Errorf("err = %v", err)
	}
}
