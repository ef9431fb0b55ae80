// Package change is the one way to change what Purser keeps: permit, lock the
// team, answer a retry, change, record, remember the answer, commit.
//
// It leaves to the services what a change is and which rules it obeys. What
// always holds: a change and its audit record are in the store together or not
// at all, a refusal for lack of rights is recorded before it is answered, and a
// change that was made under an Idempotency-Key is not made again.
package change

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/audit"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/store"
)

// answerLife is how long the first answer to a request with an Idempotency-Key
// is given again.
const answerLife = 24 * time.Hour

// Sealer keeps stored answers unreadable: the one to the creation of an API key
// holds the key.
type Sealer interface {
	SealAnswer(team purser.TeamID, key string, plain []byte) ([]byte, error)
	OpenAnswer(team purser.TeamID, key string, sealed []byte) ([]byte, error)
}

// Maker makes changes. It is safe for concurrent use.
type Maker struct {
	store  *store.Store
	sealer Sealer
	now    func() time.Time
}

// NewMaker makes a Maker; now tells the time.
func NewMaker(s *store.Store, sealer Sealer, now func() time.Time) *Maker {
	return &Maker{store: s, sealer: sealer, now: now}
}

// Now tells the time, in UTC and as exact as the store keeps it.
func (m *Maker) Now() time.Time { return m.now().UTC().Truncate(time.Microsecond) }

// Change is what somebody wants to do.
type Change struct {
	// Action names the operation for the audit record, noun first: "provider.create".
	Action string
	// Permission is what the principal must hold.
	Permission auth.Permission
	// Team is whose things change; empty means the principal's own.
	Team purser.TeamID
	// Target is the object named in the request; empty if it is yet to be made.
	Target string
	// Fields are the names of what the request changes.
	Fields []string
}

// Tx is the transaction in which a change is made.
type Tx struct {
	*store.Tx
	// Now is the time of the change.
	Now time.Time
	// Event is what will be recorded; the change may complete it.
	Event *purser.AuditEvent
}

// Permit returns KindPermissionDenied, and records the refusal, unless p holds
// the permission. Changes need not call it: Make does.
func (m *Maker) Permit(ctx context.Context, p auth.Principal, permission auth.Permission, action, target string) error {
	if p.May(permission) {
		return nil
	}
	err := m.store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.LockTeam(ctx, p.TeamID); err != nil {
			return err
		}
		event := m.event(ctx, p, p.TeamID, action, target)
		event.Result = purser.AuditDenied
		return audit.Append(ctx, tx, *event)
	})
	if err != nil {
		return purser.Wrap("change.Permit", err)
	}
	return purser.Errorf(purser.KindPermissionDenied, "change.Permit",
		"Your API key has the role %s; this needs %s or more.", p.Role, permission)
}

// Make makes a change by calling fn in a transaction that holds the team's lock.
// A retry of a change that was made before gets the result of then, and fn is
// not called. T must survive JSON.
//
// Errors: KindPermissionDenied, KindConflict when the Idempotency-Key was used
// for another change, and what fn returns.
func Make[T any](ctx context.Context, m *Maker, p auth.Principal, c Change, fn func(Tx) (T, error)) (T, error) {
	var result T
	if err := m.Permit(ctx, p, c.Permission, c.Action, c.Target); err != nil {
		return result, err
	}
	team := c.Team
	if team == "" {
		team = p.TeamID
	}
	err := m.store.InTx(ctx, func(tx *store.Tx) error {
		if err := tx.LockTeam(ctx, team); err != nil {
			return err
		}
		found, err := m.recall(ctx, tx, p, &result)
		if found || err != nil {
			return err
		}
		event := m.event(ctx, p, team, c.Action, c.Target)
		event.Fields = c.Fields
		if result, err = fn(Tx{Tx: tx, Now: event.At, Event: event}); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, *event); err != nil {
			return err
		}
		return m.remember(ctx, tx, p, event.At, result)
	})
	return result, purser.Wrap(c.Action, err)
}

func (m *Maker) event(ctx context.Context, p auth.Principal, team purser.TeamID, action, target string) *purser.AuditEvent {
	request := purser.RequestFrom(ctx)
	return &purser.AuditEvent{
		ID: purser.NewEventID(), TeamID: team, At: m.Now(), Actor: string(p.KeyID), Action: action, Target: target,
		Result: purser.AuditOK, RequestID: request.ID, SourceAddress: request.SourceAddress,
	}
}

// answerKey is what an answer is kept under. The principal's own key is part of
// it: a key may be created for somebody more powerful, and its first answer is
// for its creator only.
func answerKey(ctx context.Context, p auth.Principal) string {
	key := purser.RequestFrom(ctx).IdempotencyKey
	if key == "" {
		return ""
	}
	return string(p.KeyID) + ":" + key
}

// recall reads the stored result of this very change into result and reports
// whether there was one.
func (m *Maker) recall(ctx context.Context, tx *store.Tx, p auth.Principal, result any) (bool, error) {
	key := answerKey(ctx, p)
	if key == "" {
		return false, nil
	}
	answer, err := tx.GetAnswer(ctx, p.TeamID, key)
	if err != nil || answer.Sealed == nil || m.Now().Sub(answer.CreatedAt) > answerLife {
		return false, err
	}
	hash := purser.RequestFrom(ctx).BodyHash
	if subtle.ConstantTimeCompare(answer.BodyHash, hash[:]) != 1 {
		return false, purser.Errorf(purser.KindConflict, "change.recall",
			"This Idempotency-Key was used for another request within the last 24 hours; use a new key for a new change.")
	}
	plain, err := m.sealer.OpenAnswer(p.TeamID, key, answer.Sealed)
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(plain, result)
}

// remember stores the result for retries.
func (m *Maker) remember(ctx context.Context, tx *store.Tx, p auth.Principal, now time.Time, result any) error {
	key := answerKey(ctx, p)
	if key == "" {
		return nil
	}
	plain, err := json.Marshal(result)
	if err != nil {
		return err
	}
	sealed, err := m.sealer.SealAnswer(p.TeamID, key, plain)
	if err != nil {
		return err
	}
	hash := purser.RequestFrom(ctx).BodyHash
	return tx.SaveAnswer(ctx, p.TeamID, key, store.Answer{BodyHash: hash[:], Sealed: sealed, CreatedAt: now})
}
