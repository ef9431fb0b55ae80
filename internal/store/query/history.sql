-- name: BeginSeries
INSERT INTO history_series (team_id, source_id, number, provider_id, began_at, patience) VALUES ($1, $2, $3, $4, $5, 0)

-- name: GetOpenSeries
-- With the newest reading, if there is one.
SELECT s.source_id, s.number, s.provider_id, s.began_at, s.ended_at, s.patience,
    h.measured_at, h.dataset_bytes, h.model_bytes, h.notebook_workspace_bytes, h.shared_storage_bytes, h.areas, h.unknown
FROM history_series s LEFT JOIN history h
    ON h.team_id = s.team_id AND h.source_id = s.source_id AND h.series = s.number AND h.step = 'day'
    AND h.at = (SELECT MAX(n.at) FROM history n
        WHERE n.team_id = s.team_id AND n.source_id = s.source_id AND n.series = s.number AND n.step = 'day')
WHERE s.team_id = $1 AND s.source_id = $2 AND s.ended_at IS NULL

-- name: SetPatience
UPDATE history_series SET patience = $4 WHERE team_id = $1 AND source_id = $2 AND number = $3

-- name: EndSeries
UPDATE history_series SET ended_at = $4 WHERE team_id = $1 AND source_id = $2 AND number = $3

-- name: DeleteSeries
DELETE FROM history_series WHERE team_id = $1 AND source_id = $2 AND number = $3

-- name: SaveReading
INSERT INTO history (team_id, source_id, series, step, at,
    first_measured_at, first_dataset_bytes, first_model_bytes, first_notebook_workspace_bytes, first_shared_storage_bytes, first_areas, first_unknown,
    measured_at, dataset_bytes, model_bytes, notebook_workspace_bytes, shared_storage_bytes, areas, unknown)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (team_id, source_id, series, step, at) DO UPDATE SET
    measured_at = excluded.measured_at, dataset_bytes = excluded.dataset_bytes, model_bytes = excluded.model_bytes,
    notebook_workspace_bytes = excluded.notebook_workspace_bytes, shared_storage_bytes = excluded.shared_storage_bytes,
    areas = excluded.areas, unknown = excluded.unknown

-- name: HasSeriesOfProvider
SELECT 1 FROM history_series WHERE team_id = $1 AND provider_id = $2 LIMIT 1

-- name: ListReadingsBefore
-- The last reading of each series before $3, the beginning of a day.
SELECT s.source_id, s.number,
    h.measured_at, h.dataset_bytes, h.model_bytes, h.notebook_workspace_bytes, h.shared_storage_bytes, h.areas, h.unknown
FROM history_series s JOIN history h
    ON h.team_id = s.team_id AND h.source_id = s.source_id AND h.series = s.number AND h.step = 'day'
    AND h.at = (SELECT MAX(n.at) FROM history n
        WHERE n.team_id = s.team_id AND n.source_id = s.source_id AND n.series = s.number AND n.step = 'day' AND n.at < $3)
WHERE s.team_id = $1 AND ($2 = '' OR s.provider_id = $2) AND (s.ended_at IS NULL OR s.ended_at > $3)

-- name: ListHistory
-- Each series in turn: its steps that begin between $3 and $4, and the one after them. A series without any is a row of its own.
SELECT s.source_id, s.number, s.provider_id, s.began_at, s.ended_at, s.patience,
    h.first_measured_at, h.first_dataset_bytes, h.first_model_bytes, h.first_notebook_workspace_bytes, h.first_shared_storage_bytes,
    h.first_areas, h.first_unknown,
    h.measured_at, h.dataset_bytes, h.model_bytes, h.notebook_workspace_bytes, h.shared_storage_bytes, h.areas, h.unknown
FROM history_series s LEFT JOIN history h
    ON h.team_id = s.team_id AND h.source_id = s.source_id AND h.series = s.number AND h.step = $5 AND h.at >= $3
    AND h.at <= COALESCE((SELECT MIN(n.at) FROM history n
        WHERE n.team_id = s.team_id AND n.source_id = s.source_id AND n.series = s.number AND n.step = $5 AND n.at >= $4), $4)
WHERE s.team_id = $1 AND ($2 = '' OR s.provider_id = $2) AND (s.ended_at IS NULL OR s.ended_at > $3)
ORDER BY s.source_id, s.number, h.at

-- name: DeleteOldHistory
DELETE FROM history WHERE (team_id, source_id, series, step, at) IN (
    SELECT team_id, source_id, series, step, at FROM history WHERE step = $1 AND at < $2 ORDER BY at LIMIT $3)

-- name: DeleteOldSeries
DELETE FROM history_series WHERE (team_id, source_id, number) IN (
    SELECT team_id, source_id, number FROM history_series WHERE ended_at < $1 ORDER BY ended_at LIMIT $2)
