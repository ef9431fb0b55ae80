-- +goose Up
-- How the store of a source wants to be asked, and what its bucket keeps, as JSON: what scans found out that got to their end.
ALTER TABLE sources ADD COLUMN detected TEXT;
