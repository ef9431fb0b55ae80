-- +goose Up
-- One text for SQLite and PostgreSQL: ids are TEXT, times BIGINT microseconds since 1970 UTC, amounts BIGINT bytes.
-- team_id leads the keys of everything that belongs to a team, so that a sharded PostgreSQL can spread by it.
--
-- WITHOUT ROWID keeps a row with its primary key, where SQLite would otherwise keep a second tree to find it by: a page less
-- to read for each look-up, and one less to write for each change. Only SQLite sees it: PostgreSQL, where comments nest,
-- takes all of /* /* */ … */ for one.

CREATE TABLE keysets (
    name    TEXT PRIMARY KEY,
    wrapped BYTEA NOT NULL
) /* /* */ WITHOUT ROWID -- */
;

CREATE TABLE teams (
    id                 TEXT PRIMARY KEY,
    name               TEXT NOT NULL,
    namespace          TEXT NOT NULL UNIQUE,
    total_free_storage BIGINT NOT NULL,
    created_at         BIGINT NOT NULL
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX teams_by_creation ON teams (created_at, id);

CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    team_id      TEXT NOT NULL REFERENCES teams (id),
    name         TEXT NOT NULL,
    role         TEXT NOT NULL,
    hash         BYTEA NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX api_keys_by_creation ON api_keys (team_id, created_at, id);

CREATE TABLE providers (
    team_id           TEXT NOT NULL REFERENCES teams (id),
    id                TEXT NOT NULL,
    name              TEXT NOT NULL,
    managed           BOOLEAN NOT NULL,
    team_default      BOOLEAN NOT NULL,
    endpoint          TEXT,
    bucket            TEXT NOT NULL,
    access_key        TEXT NOT NULL,
    region            TEXT,
    retain_data       BOOLEAN NOT NULL,
    signature_version TEXT,
    sealed_secret     BYTEA NOT NULL,
    secret_version    BIGINT NOT NULL,
    detected_region   TEXT NOT NULL,
    metering_rules    TEXT NOT NULL,
    version           BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    PRIMARY KEY (team_id, id)
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX providers_by_creation ON providers (team_id, created_at, id);
CREATE UNIQUE INDEX providers_one_default ON providers (team_id) WHERE team_default;

-- A source is one countable place: the bucket of a provider, or a team's part of a directory tree.
-- The four sums are what the team's usage is added up from; tallies has them in detail.
CREATE TABLE sources (
    team_id                  TEXT NOT NULL REFERENCES teams (id),
    id                       TEXT NOT NULL,
    provider_id              TEXT,
    tree_category            TEXT,
    tree_path                TEXT,
    due_at                   BIGINT NOT NULL,
    dataset_bytes            BIGINT NOT NULL,
    model_bytes              BIGINT NOT NULL,
    notebook_workspace_bytes BIGINT NOT NULL,
    shared_storage_bytes     BIGINT NOT NULL,
    tallies                  TEXT NOT NULL,
    method                   TEXT NOT NULL,
    complete                 BOOLEAN NOT NULL,
    requests                 BIGINT NOT NULL,
    measured_at              BIGINT,
    PRIMARY KEY (team_id, id),
    FOREIGN KEY (team_id, provider_id) REFERENCES providers (team_id, id)
) /* /* */ WITHOUT ROWID -- */
;
CREATE UNIQUE INDEX sources_by_provider ON sources (team_id, provider_id) WHERE provider_id IS NOT NULL;
CREATE UNIQUE INDEX sources_by_tree ON sources (team_id, tree_category, tree_path) WHERE provider_id IS NULL;
CREATE INDEX sources_due ON sources (due_at);

-- What GET utilization answers from: changed only in the transactions that change a source.
CREATE TABLE team_usage (
    team_id                  TEXT PRIMARY KEY REFERENCES teams (id),
    dataset_bytes            BIGINT NOT NULL,
    model_bytes              BIGINT NOT NULL,
    notebook_workspace_bytes BIGINT NOT NULL,
    shared_storage_bytes     BIGINT NOT NULL,
    measured_at              BIGINT,
    pending_sources          BIGINT NOT NULL,
    troubled_sources         BIGINT NOT NULL
) /* /* */ WITHOUT ROWID -- */
;

CREATE TABLE scans (
    team_id       TEXT NOT NULL REFERENCES teams (id),
    id            TEXT NOT NULL,
    source_id     TEXT NOT NULL,
    provider_id   TEXT,
    source        TEXT NOT NULL,
    state         TEXT NOT NULL,
    objects       BIGINT NOT NULL,
    bytes         BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    started_at    BIGINT,
    finished_at   BIGINT,
    error_code    TEXT,
    error_message TEXT,
    error_hint    TEXT,
    PRIMARY KEY (team_id, id)
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX scans_by_creation ON scans (team_id, created_at, id);
CREATE UNIQUE INDEX scans_one_running ON scans (team_id, source_id) WHERE state IN ('queued', 'running');

-- A range is a part of a running scan's key space. Its row is the work: gone when the scan has ended.
-- place is a fingerprint of what the scan began to measure and by which rules.
CREATE TABLE ranges (
    team_id     TEXT NOT NULL,
    scan_id     TEXT NOT NULL,
    number      BIGINT NOT NULL,
    place       BIGINT NOT NULL,
    cursor      BYTEA,
    tallies     TEXT NOT NULL,
    requests    BIGINT NOT NULL,
    incomplete  TEXT,
    failures    BIGINT NOT NULL,
    fence       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    done        BOOLEAN NOT NULL,
    PRIMARY KEY (team_id, scan_id, number),
    FOREIGN KEY (team_id, scan_id) REFERENCES scans (team_id, id)
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX ranges_by_lease ON ranges (lease_until) WHERE NOT done;

CREATE TABLE audit_events (
    team_id        TEXT NOT NULL REFERENCES teams (id),
    seq            BIGINT NOT NULL,
    id             TEXT NOT NULL,
    at             BIGINT NOT NULL,
    actor          TEXT NOT NULL,
    action         TEXT NOT NULL,
    target         TEXT NOT NULL,
    result         TEXT NOT NULL,
    request_id     TEXT NOT NULL,
    source_address TEXT NOT NULL,
    fields         TEXT NOT NULL,
    prev_hash      BYTEA NOT NULL,
    hash           BYTEA NOT NULL,
    PRIMARY KEY (team_id, seq)
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX audit_events_of_team ON audit_events (team_id, at, id);
CREATE INDEX audit_events_of_all ON audit_events (at, id);

-- The first answers to requests with an Idempotency-Key, sealed, for 24 hours.
CREATE TABLE idempotent_answers (
    team_id    TEXT NOT NULL REFERENCES teams (id),
    key        TEXT NOT NULL,
    body_hash  BYTEA NOT NULL,
    answer     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, key)
) /* /* */ WITHOUT ROWID -- */
;
CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);
