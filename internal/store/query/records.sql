-- name: LoadKeyset
SELECT wrapped FROM keysets WHERE name = $1

-- name: CreateKeyset
INSERT INTO keysets (name, wrapped) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING

-- name: LastAudit
SELECT seq, hash FROM audit_events WHERE team_id = $1 ORDER BY seq DESC LIMIT 1

-- name: AppendAudit
INSERT INTO audit_events (team_id, seq, id, at, actor, action, target, result, request_id, source_address, fields, prev_hash, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: ListAuditDescending
SELECT id, team_id, at, actor, action, target, result, request_id, source_address, fields FROM audit_events
WHERE team_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4

-- name: ListAuditAscending
SELECT id, team_id, at, actor, action, target, result, request_id, source_address, fields FROM audit_events
WHERE team_id = $1 AND (at, id) > ($2, $3) ORDER BY at, id LIMIT $4

-- name: ListAllAuditDescending
SELECT id, team_id, at, actor, action, target, result, request_id, source_address, fields FROM audit_events
WHERE (at, id) < ($1, $2) ORDER BY at DESC, id DESC LIMIT $3

-- name: ListAllAuditAscending
SELECT id, team_id, at, actor, action, target, result, request_id, source_address, fields FROM audit_events
WHERE (at, id) > ($1, $2) ORDER BY at, id LIMIT $3

-- name: WalkAudit
SELECT id, team_id, at, actor, action, target, result, request_id, source_address, fields, seq, prev_hash, hash FROM audit_events
WHERE team_id = $1 ORDER BY seq

-- name: GetAnswer
SELECT body_hash, answer, created_at FROM idempotent_answers WHERE team_id = $1 AND key = $2

-- name: SaveAnswer
INSERT INTO idempotent_answers (team_id, key, body_hash, answer, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (team_id, key) DO UPDATE SET body_hash = excluded.body_hash, answer = excluded.answer, created_at = excluded.created_at

-- name: DeleteOldAnswers
DELETE FROM idempotent_answers WHERE created_at < $1

-- name: Now
SELECT CAST(unixepoch('subsec') * 1000000 AS BIGINT)

-- name: Now (postgres)
SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)
