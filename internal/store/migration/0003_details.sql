-- +goose Up
-- What scans find out of buckets beside the sums, as JSON: of a range so far, of a source at its newest complete scan. cuts is
-- where the next scan begins to count.
ALTER TABLE ranges ADD COLUMN details BYTEA;
ALTER TABLE sources ADD COLUMN details TEXT;
ALTER TABLE sources ADD COLUMN cuts BYTEA;
