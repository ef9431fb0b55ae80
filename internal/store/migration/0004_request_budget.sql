-- +goose Up
-- The requests that scans send to a bucket, for a budget of them per day.

-- spent requests were sent on the day that began at spent_on (UTC); none yet when that is NULL.
ALTER TABLE sources ADD COLUMN spent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN spent_on BIGINT;

-- allowed requests may have been sent on the range since it was saved: of the day's budget they are spoken for.
ALTER TABLE ranges ADD COLUMN allowed BIGINT NOT NULL DEFAULT 0;
