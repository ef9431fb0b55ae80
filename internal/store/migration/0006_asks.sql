-- +goose Up
-- The nodes that have nothing to do and would take a part of a scan that another one works on, until a time. For the forms of
-- columns, and for WITHOUT ROWID, see 0001.
CREATE TABLE asks (
    node  TEXT PRIMARY KEY,
    until BIGINT NOT NULL
) /* /* */ WITHOUT ROWID -- */
;
