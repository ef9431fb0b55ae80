-- name: GetTeamUsage
SELECT u.dataset_bytes, u.model_bytes, u.notebook_workspace_bytes, u.shared_storage_bytes, u.measured_at,
    u.pending_sources, u.troubled_sources, t.total_free_storage
FROM team_usage u JOIN teams t ON t.id = u.team_id WHERE u.team_id = $1

-- name: SumSources
-- The upper and lower 32 bits are summed apart: the sum of whole numbers may not fit into a BIGINT, which is an error
-- in both databases.
SELECT CAST(COALESCE(SUM(dataset_bytes / 4294967296), 0) AS BIGINT), CAST(COALESCE(SUM(dataset_bytes % 4294967296), 0) AS BIGINT),
    CAST(COALESCE(SUM(model_bytes / 4294967296), 0) AS BIGINT), CAST(COALESCE(SUM(model_bytes % 4294967296), 0) AS BIGINT),
    CAST(COALESCE(SUM(notebook_workspace_bytes / 4294967296), 0) AS BIGINT), CAST(COALESCE(SUM(notebook_workspace_bytes % 4294967296), 0) AS BIGINT),
    CAST(COALESCE(SUM(shared_storage_bytes / 4294967296), 0) AS BIGINT), CAST(COALESCE(SUM(shared_storage_bytes % 4294967296), 0) AS BIGINT),
    MIN(measured_at),
    COUNT(CASE WHEN measured_at IS NULL THEN 1 END),
    COUNT(CASE WHEN measured_at IS NOT NULL AND NOT complete THEN 1 END)
FROM sources WHERE team_id = $1

-- name: SetTeamUsage
UPDATE team_usage SET dataset_bytes = $2, model_bytes = $3, notebook_workspace_bytes = $4, shared_storage_bytes = $5,
    measured_at = $6, pending_sources = $7, troubled_sources = $8
WHERE team_id = $1

-- name: CreateSource
INSERT INTO sources (team_id, id, provider_id, tree_category, tree_path, due_at, dataset_bytes, model_bytes,
    notebook_workspace_bytes, shared_storage_bytes, tallies, method, complete, requests)
VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, 0, '{}', '', FALSE, 0)

-- name: AddPendingSource
UPDATE team_usage SET pending_sources = pending_sources + 1 WHERE team_id = $1

-- name: GetSource
SELECT team_id, id, provider_id, tree_category, tree_path, due_at FROM sources WHERE team_id = $1 AND id = $2

-- name: GetSourceOfProvider
SELECT team_id, id, provider_id, tree_category, tree_path, due_at FROM sources WHERE team_id = $1 AND provider_id = $2

-- name: ListSources
SELECT team_id, id, provider_id, tree_category, tree_path, due_at FROM sources WHERE team_id = $1 ORDER BY id

-- name: ListTreeSources
SELECT team_id, id, provider_id, tree_category, tree_path, due_at FROM sources WHERE provider_id IS NULL ORDER BY team_id, id

-- name: ListTeamsWithoutTree
SELECT t.id FROM teams t WHERE NOT EXISTS (
    SELECT 1 FROM sources s WHERE s.team_id = t.id AND s.provider_id IS NULL AND s.tree_category = $1 AND s.tree_path = $2)
LIMIT $3

-- name: ListDueSources
SELECT team_id, id, provider_id, tree_category, tree_path, due_at FROM sources WHERE due_at <= $1 ORDER BY due_at LIMIT $2

-- name: ListDueSources (postgres)
SELECT team_id, id, provider_id, tree_category, tree_path, due_at FROM sources WHERE due_at <= $1 ORDER BY due_at LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: SetDue
UPDATE sources SET due_at = $3 WHERE team_id = $1 AND id = $2

-- name: ResetSource
UPDATE sources SET dataset_bytes = 0, model_bytes = 0, notebook_workspace_bytes = 0, shared_storage_bytes = 0,
    tallies = '{}', method = '', complete = FALSE, requests = 0, measured_at = NULL, details = NULL, cuts = NULL
WHERE team_id = $1 AND id = $2

-- name: DeleteSource
DELETE FROM sources WHERE team_id = $1 AND id = $2

-- name: PublishSource
UPDATE sources SET dataset_bytes = $3, model_bytes = $4, notebook_workspace_bytes = $5, shared_storage_bytes = $6,
    tallies = $7, method = $8, complete = TRUE, requests = $9, measured_at = $10, details = $11
WHERE team_id = $1 AND id = $2

-- name: MarkSourceIncomplete
UPDATE sources SET complete = FALSE WHERE team_id = $1 AND id = $2

-- name: SetCuts
UPDATE sources SET cuts = $3 WHERE team_id = $1 AND id = $2

-- name: GetCuts
SELECT cuts FROM sources WHERE team_id = $1 AND id = $2

-- name: GetSourceUsage
SELECT tallies, measured_at, method, complete, requests, details, spent, spent_on FROM sources WHERE team_id = $1 AND provider_id = $2

-- name: SetHealth
UPDATE sources SET health_since = CASE WHEN health = $3 THEN health_since ELSE $5 END, health = $3, health_error = $4, checked_at = $5
WHERE team_id = $1 AND id = $2

-- name: ForgetHealth
UPDATE sources SET health = 'unknown', health_since = NULL, health_error = NULL, checked_at = NULL, detected = NULL
WHERE team_id = $1 AND id = $2

-- name: SetDetected
UPDATE sources SET detected = $3 WHERE team_id = $1 AND id = $2

-- name: GetHealth
SELECT s.health, s.health_since, s.checked_at, s.health_error, s.method, s.detected, p.detected_region, s.spent, s.spent_on
FROM sources s JOIN providers p ON p.team_id = s.team_id AND p.id = s.provider_id
WHERE s.team_id = $1 AND s.provider_id = $2

-- name: SpendRequests
UPDATE sources SET spent = $4 + CASE WHEN spent_on = $3 THEN spent ELSE 0 END, spent_on = $3 WHERE team_id = $1 AND id = $2
RETURNING spent

-- name: CreateScan
INSERT INTO scans (team_id, id, source_id, provider_id, source, state, objects, bytes, requests, created_at)
VALUES ($1, $2, $3, $4, $5, 'queued', 0, 0, 0, $6)

-- name: GetScan
SELECT s.team_id, s.id, s.source_id, s.provider_id, s.source, s.state, s.objects, s.bytes, s.requests, s.created_at, s.started_at, s.finished_at,
    s.error_code, s.error_message, s.error_hint, b.spent, b.spent_on
FROM scans s LEFT JOIN sources b ON b.team_id = s.team_id AND b.id = s.source_id AND b.provider_id IS NOT NULL
WHERE s.team_id = $1 AND s.id = $2

-- name: GetRunningScan
SELECT s.team_id, s.id, s.source_id, s.provider_id, s.source, s.state, s.objects, s.bytes, s.requests, s.created_at, s.started_at, s.finished_at,
    s.error_code, s.error_message, s.error_hint, b.spent, b.spent_on
FROM scans s LEFT JOIN sources b ON b.team_id = s.team_id AND b.id = s.source_id AND b.provider_id IS NOT NULL
WHERE s.team_id = $1 AND s.source_id = $2 AND s.state IN ('queued', 'running')

-- name: ListScansDescending
SELECT s.team_id, s.id, s.source_id, s.provider_id, s.source, s.state, s.objects, s.bytes, s.requests, s.created_at, s.started_at, s.finished_at,
    s.error_code, s.error_message, s.error_hint, b.spent, b.spent_on
FROM scans s LEFT JOIN sources b ON b.team_id = s.team_id AND b.id = s.source_id AND b.provider_id IS NOT NULL
WHERE s.team_id = $1 AND (s.created_at, s.id) < ($2, $3) ORDER BY s.created_at DESC, s.id DESC LIMIT $4

-- name: ListScansAscending
SELECT s.team_id, s.id, s.source_id, s.provider_id, s.source, s.state, s.objects, s.bytes, s.requests, s.created_at, s.started_at, s.finished_at,
    s.error_code, s.error_message, s.error_hint, b.spent, b.spent_on
FROM scans s LEFT JOIN sources b ON b.team_id = s.team_id AND b.id = s.source_id AND b.provider_id IS NOT NULL
WHERE s.team_id = $1 AND (s.created_at, s.id) > ($2, $3) ORDER BY s.created_at, s.id LIMIT $4

-- name: StartScan
UPDATE scans SET state = 'running', started_at = $3 WHERE team_id = $1 AND id = $2 AND state = 'queued'

-- name: SetScanProgress
UPDATE scans SET objects = $3, bytes = $4, requests = $5, error_code = $6, error_message = $7, error_hint = $8
WHERE team_id = $1 AND id = $2 AND state = 'running'

-- name: EndScan
UPDATE scans SET state = $3, finished_at = $4, error_code = $5, error_message = $6, error_hint = $7
WHERE team_id = $1 AND id = $2 AND state IN ('queued', 'running')

-- name: DeleteOldScans
DELETE FROM scans WHERE team_id = $1 AND created_at < $2 AND state IN ('done', 'failed', 'cancelled')

-- name: CreateRange
INSERT INTO ranges (team_id, scan_id, number, place, cursor, tallies, requests, failures, fence, lease_until, done)
VALUES ($1, $2, $3, $4, $5, '{}', 0, 0, 0, 0, FALSE)

-- name: ListIdleRanges
SELECT team_id, scan_id, number FROM ranges WHERE NOT done AND lease_until <= $1 ORDER BY lease_until LIMIT $2

-- name: ListIdleRanges (postgres)
SELECT team_id, scan_id, number FROM ranges WHERE NOT done AND lease_until <= $1 ORDER BY lease_until LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: OfferRange
UPDATE ranges SET fence = fence + 1, lease_until = $4 WHERE team_id = $1 AND scan_id = $2 AND number = $3
RETURNING fence

-- name: ClaimRange
UPDATE ranges SET fence = fence + 1, lease_until = $5
WHERE team_id = $1 AND scan_id = $2 AND number = $3 AND fence = $4 AND NOT done
RETURNING fence, place, cursor, tallies, requests, incomplete, failures, details

-- name: RenewLease
UPDATE ranges SET lease_until = $5 WHERE team_id = $1 AND scan_id = $2 AND number = $3 AND fence = $4

-- name: SaveRange
UPDATE ranges SET cursor = $5, tallies = $6, requests = $7, incomplete = $8, failures = $9, lease_until = $10, done = $11, details = $12,
    allowed = $13
WHERE team_id = $1 AND scan_id = $2 AND number = $3 AND fence = $4

-- name: HoldsRange
SELECT 1 FROM ranges WHERE team_id = $1 AND scan_id = $2 AND number = $3 AND fence = $4

-- name: ListRanges
SELECT number, fence, place, cursor, tallies, requests, incomplete, failures, lease_until, done, details, allowed
FROM ranges WHERE team_id = $1 AND scan_id = $2 ORDER BY number

-- name: AllowRequests
UPDATE ranges SET allowed = $5 WHERE team_id = $1 AND scan_id = $2 AND number = $3 AND fence = $4

-- name: SumAllowed
SELECT CAST(COALESCE(SUM(CASE WHEN number <> $3 THEN allowed END), 0) AS BIGINT), COUNT(*)
FROM ranges WHERE team_id = $1 AND scan_id = $2 AND NOT done

-- name: AskForWork
INSERT INTO asks (node, until)
SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT) WHERE EXISTS (SELECT 1 FROM ranges WHERE NOT done AND lease_until > $3)
ON CONFLICT (node) DO UPDATE SET until = excluded.until

-- name: FindAsk
SELECT node FROM asks WHERE node <> $1 AND until > $2 ORDER BY until LIMIT 1

-- name: DeleteAsk
DELETE FROM asks WHERE node = $1

-- name: DeleteAsksBefore
DELETE FROM asks WHERE until < $1

-- name: WakeRanges
UPDATE ranges SET lease_until = $1 WHERE NOT done AND lease_until > $2

-- name: DeleteRanges
DELETE FROM ranges WHERE team_id = $1 AND scan_id = $2
