-- +goose Up
-- What was stored in the course of time. For the forms of columns, and for WITHOUT ROWID, see 0001.

-- A series is the time in which a source was one and the same place. It outlives its source: what a team stored in a
-- bucket stays true when the provider is deleted or moves to another bucket, which begins the next series.
-- patience is how long the source could go unmeasured, in microseconds, when it was measured last.
CREATE TABLE history_series (
    team_id     TEXT NOT NULL REFERENCES teams (id),
    source_id   TEXT NOT NULL,
    number      BIGINT NOT NULL,
    provider_id TEXT,
    began_at    BIGINT NOT NULL,
    ended_at    BIGINT,
    patience    BIGINT NOT NULL,
    PRIMARY KEY (team_id, source_id, number)
) /* /* */ WITHOUT ROWID -- */
;
CREATE UNIQUE INDEX history_series_open ON history_series (team_id, source_id) WHERE ended_at IS NULL;
CREATE INDEX history_series_by_provider ON history_series (team_id, provider_id);
CREATE INDEX history_series_by_age ON history_series (ended_at) WHERE ended_at IS NOT NULL;

-- The first and the last reading of a series within an hour or a day, which begins at "at". Areas are four numbers of 128
-- bits; unknown is in microseconds (package purser, Reading).
CREATE TABLE history (
    team_id                        TEXT NOT NULL REFERENCES teams (id),
    source_id                      TEXT NOT NULL,
    series                         BIGINT NOT NULL,
    step                           TEXT NOT NULL,
    at                             BIGINT NOT NULL,
    first_measured_at              BIGINT NOT NULL,
    first_dataset_bytes            BIGINT NOT NULL,
    first_model_bytes              BIGINT NOT NULL,
    first_notebook_workspace_bytes BIGINT NOT NULL,
    first_shared_storage_bytes     BIGINT NOT NULL,
    first_areas                    BYTEA NOT NULL,
    first_unknown                  BIGINT NOT NULL,
    measured_at                    BIGINT NOT NULL,
    dataset_bytes                  BIGINT NOT NULL,
    model_bytes                    BIGINT NOT NULL,
    notebook_workspace_bytes       BIGINT NOT NULL,
    shared_storage_bytes           BIGINT NOT NULL,
    areas                          BYTEA NOT NULL,
    unknown                        BIGINT NOT NULL,
    PRIMARY KEY (team_id, source_id, series, step, at)
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX history_by_age ON history (step, at);

-- Sources that are there already have a history from now on.
INSERT INTO history_series (team_id, source_id, number, provider_id, began_at, patience)
SELECT team_id, id, 1, provider_id, due_at, 0 FROM sources;
