-- +goose Up
-- Whether a source could be read when that was tried last: what was found, since when, and when it was found again. Sources
-- that are there already are unknown until their next scan.
ALTER TABLE sources ADD COLUMN health TEXT NOT NULL DEFAULT 'unknown';
ALTER TABLE sources ADD COLUMN health_since BIGINT;
ALTER TABLE sources ADD COLUMN checked_at BIGINT;
ALTER TABLE sources ADD COLUMN health_error TEXT;
