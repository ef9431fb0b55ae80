package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/purserhq/purser"
)

// LoadKeyset returns a wrapped keyset, or nil if there is none of this name.
func (s *Store) LoadKeyset(ctx context.Context, name string) ([]byte, error) {
	return loadKeyset(ctx, s.run, name)
}

// CreateKeyset stores a wrapped keyset and returns it, or the one that is there
// already.
func (s *Store) CreateKeyset(ctx context.Context, name string, wrapped []byte) (stored []byte, err error) {
	err = s.InTx(ctx, func(tx *Tx) error {
		if err := run(ctx, tx.run, "CreateKeyset", name, wrapped); err != nil {
			return err
		}
		stored, err = loadKeyset(ctx, tx.run, name)
		return err
	})
	return stored, err
}

func loadKeyset(ctx context.Context, r runner, name string) ([]byte, error) {
	return one(ctx, r, scalar[[]byte], optional, "LoadKeyset", name)
}

// Answer is the stored first answer to a request with an Idempotency-Key.
type Answer struct {
	BodyHash  []byte
	Sealed    []byte
	CreatedAt time.Time
}

// GetAnswer returns the stored answer for a team's key; the zero Answer if there
// is none.
func (r reads) GetAnswer(ctx context.Context, team purser.TeamID, key string) (Answer, error) {
	return one(ctx, r.run, func(row scanner) (a Answer, err error) {
		var created int64
		err = row.Scan(&a.BodyHash, &a.Sealed, &created)
		a.CreatedAt = fromMicros(created)
		return a, err
	}, optional, "GetAnswer", string(team), key)
}

// SaveAnswer stores an answer, in place of an older one under the same key.
func (t *Tx) SaveAnswer(ctx context.Context, team purser.TeamID, key string, a Answer) error {
	return run(ctx, t.run, "SaveAnswer", string(team), key, a.BodyHash, a.Sealed, toMicros(a.CreatedAt))
}

// DeleteAnswersBefore deletes the answers stored before a time.
func (t *Tx) DeleteAnswersBefore(ctx context.Context, before time.Time) error {
	return run(ctx, t.run, "DeleteOldAnswers", toMicros(before))
}

// LastAudit returns where a team's audit chain ends; 0 and nil when it is empty.
func (t *Tx) LastAudit(ctx context.Context, team purser.TeamID) (seq int64, hash []byte, err error) {
	_, err = one(ctx, t.run, func(row scanner) (struct{}, error) {
		return struct{}{}, row.Scan(&seq, &hash)
	}, optional, "LastAudit", string(team))
	return seq, hash, err
}

// AppendAudit adds a link to a team's audit chain.
func (t *Tx) AppendAudit(ctx context.Context, e purser.AuditEvent, seq int64, prev, hash []byte) error {
	fields, err := json.Marshal(append([]string{}, e.Fields...)) // [] rather than null
	if err != nil {
		return convertError(err)
	}
	if prev == nil {
		prev = []byte{}
	}
	return run(ctx, t.run, "AppendAudit", string(e.TeamID), seq, string(e.ID), toMicros(e.At), e.Actor, e.Action, e.Target,
		e.Result, e.RequestID, e.SourceAddress, string(fields), prev, hash)
}

// ListAudit returns a page of a team's audit events, or of all teams' for the
// empty TeamID.
func (r reads) ListAudit(ctx context.Context, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.AuditEvent], error) {
	position := func(e purser.AuditEvent) purser.Position { return purser.Position{CreatedAt: e.At, ID: string(e.ID)} }
	scan := func(row scanner) (purser.AuditEvent, error) { return scanAudit(row) }
	if team == "" {
		return list(ctx, r.run, scan, position, "ListAllAudit", page)
	}
	return list(ctx, r.run, scan, position, "ListAudit", page, string(team))
}

// WalkAudit returns a team's whole audit chain in order, for its verification.
func (r reads) WalkAudit(ctx context.Context, team purser.TeamID) ([]purser.AuditLink, error) {
	return all(ctx, r.run, func(row scanner) (l purser.AuditLink, err error) {
		l.AuditEvent, err = scanAudit(row, &l.Seq, &l.Prev, &l.Hash)
		return l, err
	}, "WalkAudit", string(team))
}

func scanAudit(row scanner, more ...any) (e purser.AuditEvent, err error) {
	var at int64
	var fields string
	err = row.Scan(append([]any{&e.ID, &e.TeamID, &at, &e.Actor, &e.Action, &e.Target, &e.Result, &e.RequestID, &e.SourceAddress, &fields}, more...)...)
	if err != nil {
		return e, err
	}
	e.At = fromMicros(at)
	err = json.Unmarshal([]byte(fields), &e.Fields)
	return e, err
}
