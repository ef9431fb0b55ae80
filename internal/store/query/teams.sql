-- name: LockTeam
-- SQLite has one writer, which is the lock.
SELECT 1 FROM teams WHERE id = $1

-- name: LockTeam (postgres)
SELECT 1 FROM teams WHERE id = $1 FOR NO KEY UPDATE

-- name: GetTeam
SELECT id, name, namespace, total_free_storage, created_at FROM teams WHERE id = $1

-- name: CountTeams
SELECT COUNT(*) FROM teams

-- name: ListTeamsDescending
SELECT id, name, namespace, total_free_storage, created_at FROM teams
WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3

-- name: ListTeamsAscending
SELECT id, name, namespace, total_free_storage, created_at FROM teams
WHERE (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3

-- name: CreateTeam
INSERT INTO teams (id, name, namespace, total_free_storage, created_at) VALUES ($1, $2, $3, $4, $5)

-- name: CreateTeamUsage
INSERT INTO team_usage (team_id, dataset_bytes, model_bytes, notebook_workspace_bytes, shared_storage_bytes, pending_sources, troubled_sources)
VALUES ($1, 0, 0, 0, 0, 0, 0)

-- name: UpdateTeam
UPDATE teams SET name = $2, namespace = $3, total_free_storage = $4 WHERE id = $1

-- name: FindKey
SELECT id, team_id, name, role, created_at, expires_at, last_used_at, hash FROM api_keys WHERE id = $1

-- name: ListKeysDescending
SELECT id, team_id, name, role, created_at, expires_at, last_used_at FROM api_keys
WHERE team_id = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4

-- name: ListKeysAscending
SELECT id, team_id, name, role, created_at, expires_at, last_used_at FROM api_keys
WHERE team_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4

-- name: CreateKey
INSERT INTO api_keys (id, team_id, name, role, hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: DeleteKey
DELETE FROM api_keys WHERE team_id = $1 AND id = $2

-- name: TouchKey
UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)
