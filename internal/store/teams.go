package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/purserhq/purser"
)

func noTeam(op string) error {
	return purser.Errorf(purser.KindNotFound, "store."+op, "No team with this id exists.")
}

func noKey(op string) error { return purser.NotFound("store."+op, "API key") }

// GetTeam returns a team; KindNotFound if there is none with this id.
func (r reads) GetTeam(ctx context.Context, id purser.TeamID) (purser.Team, error) {
	return one(ctx, r.run, scanTeam, noTeam, "GetTeam", string(id))
}

// CountTeams returns how many teams there are.
func (r reads) CountTeams(ctx context.Context) (int64, error) {
	return one(ctx, r.run, scalar[int64], optional, "CountTeams")
}

// ListTeams returns a page of all teams.
func (r reads) ListTeams(ctx context.Context, page purser.PageRequest) (purser.Page[purser.Team], error) {
	return list(ctx, r.run, scanTeam, func(t purser.Team) purser.Position {
		return purser.Position{CreatedAt: t.CreatedAt, ID: string(t.ID)}
	}, "ListTeams", page)
}

// FindKey returns an API key of any team; KindNotFound if there is none, or it
// was revoked.
func (r reads) FindKey(ctx context.Context, id purser.KeyID) (purser.StoredKey, error) {
	return one(ctx, r.run, func(row scanner) (k purser.StoredKey, err error) {
		k.APIKey, err = scanKey(row, &k.Hash)
		return k, err
	}, noKey, "FindKey", string(id))
}

// ListKeys returns a page of a team's API keys.
func (r reads) ListKeys(ctx context.Context, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.APIKey], error) {
	return list(ctx, r.run, func(row scanner) (purser.APIKey, error) { return scanKey(row) }, func(k purser.APIKey) purser.Position {
		return purser.Position{CreatedAt: k.CreatedAt, ID: string(k.ID)}
	}, "ListKeys", page, string(team))
}

// LockTeam makes every other change of this team wait until this transaction has
// ended. Every change of a team's things starts with it: it is what keeps the
// audit chain in one line and the team's default unique.
func (t *Tx) LockTeam(ctx context.Context, id purser.TeamID) error {
	_, err := one(ctx, t.run, scalar[int64], noTeam, "LockTeam", string(id))
	return err
}

// CreateTeam stores a new team; KindConflict if the namespace is taken.
func (t *Tx) CreateTeam(ctx context.Context, team purser.Team) error {
	err := run(ctx, t.run, "CreateTeam", string(team.ID), team.Name, team.Namespace, int64(team.TotalFreeStorage), toMicros(team.CreatedAt))
	if err != nil {
		return err
	}
	return run(ctx, t.run, "CreateTeamUsage", string(team.ID))
}

// UpdateTeam replaces what operators may change of a team; KindConflict if the
// namespace is taken.
func (t *Tx) UpdateTeam(ctx context.Context, team purser.Team) error {
	return mustChange(ctx, t.run, noTeam, "UpdateTeam", string(team.ID), team.Name, team.Namespace, int64(team.TotalFreeStorage))
}

// CreateKey stores a new API key.
func (t *Tx) CreateKey(ctx context.Context, k purser.StoredKey) error {
	return run(ctx, t.run, "CreateKey", string(k.ID), string(k.TeamID), k.Name, string(k.Role), k.Hash, toMicros(k.CreatedAt), nullMicros(k.ExpiresAt))
}

// DeleteKey revokes a team's API key.
func (t *Tx) DeleteKey(ctx context.Context, team purser.TeamID, id purser.KeyID) error {
	return mustChange(ctx, t.run, noKey, "DeleteKey", string(team), string(id))
}

// TouchKey notes that a key was used; a key that is gone is no error.
func (t *Tx) TouchKey(ctx context.Context, id purser.KeyID, at time.Time) error {
	return run(ctx, t.run, "TouchKey", string(id), toMicros(at))
}

func scanTeam(row scanner) (t purser.Team, err error) {
	var created int64
	err = row.Scan(&t.ID, &t.Name, &t.Namespace, &t.TotalFreeStorage, &created)
	t.CreatedAt = fromMicros(created)
	return t, err
}

func scanKey(row scanner, more ...any) (k purser.APIKey, err error) {
	var created int64
	var expires, used sql.NullInt64
	err = row.Scan(append([]any{&k.ID, &k.TeamID, &k.Name, &k.Role, &created, &expires, &used}, more...)...)
	k.CreatedAt, k.ExpiresAt, k.LastUsedAt = fromMicros(created), fromNullMicros(expires), fromNullMicros(used)
	return k, err
}
