package storetest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var recordPromises = []promise{
	{name: "the first keyset of a name stays", keep: func(k *kit) {
		name := string(k.team)
		equal(k, "keyset", get[[]byte](k)(k.LoadKeyset(k.ctx(), name)), nil)
		equal(k, "keyset", get[[]byte](k)(k.CreateKeyset(k.ctx(), name, sealed)), sealed)
		equal(k, "keyset", get[[]byte](k)(k.CreateKeyset(k.ctx(), name, []byte("second"))), sealed)
		equal(k, "keyset", get[[]byte](k)(k.LoadKeyset(k.ctx(), name)), sealed)
	}},
	{name: "an answer is kept under its key, the newest in place of an older one", keep: func(k *kit) {
		equal(k, "answer", get[store.Answer](k)(k.GetAnswer(k.ctx(), k.team, "retry-1")), store.Answer{CreatedAt: time.Time{}})
		for i := range 2 {
			a := store.Answer{BodyHash: []byte{byte(i), 0}, Sealed: []byte(fmt.Sprint("answer ", i)), CreatedAt: k.now.Add(time.Duration(i))}
			a.CreatedAt = a.CreatedAt.Truncate(time.Microsecond)
			k.do(func(tx *store.Tx) error { return tx.SaveAnswer(k.ctx(), k.team, "retry-1", a) })
			equal(k, "answer", get[store.Answer](k)(k.GetAnswer(k.ctx(), k.team, "retry-1")), a)
		}
		equal(k, "another team's answer", get[store.Answer](k)(k.GetAnswer(k.ctx(), k.newTeam(), "retry-1")), store.Answer{})
	}},
	{name: "old answers are deleted, those of the moment itself are not", alone: true, keep: func(k *kit) {
		for i, key := range []string{"old", "kept"} {
			a := store.Answer{BodyHash: []byte{1}, Sealed: []byte{2}, CreatedAt: k.now.Add(time.Duration(i) * time.Microsecond)}
			k.do(func(tx *store.Tx) error { return tx.SaveAnswer(k.ctx(), k.team, key, a) })
		}
		k.do(func(tx *store.Tx) error { return tx.DeleteAnswersBefore(k.ctx(), k.now.Add(time.Microsecond)) })
		equal(k, "old answer", get[store.Answer](k)(k.GetAnswer(k.ctx(), k.team, "old")), store.Answer{})
		equal(k, "kept answer", get[store.Answer](k)(k.GetAnswer(k.ctx(), k.team, "kept")).Sealed, []byte{2})
	}},
	{name: "the audit chain comes back link by link", keep: func(k *kit) {
		var want []purser.AuditLink
		var prev []byte
		for i := range 3 {
			event, hash := k.event(i), []byte{byte(i), 0, 0xff}
			k.do(func(tx *store.Tx) error {
				seq, last, err := tx.LastAudit(k.ctx(), k.team)
				if err == nil && (seq != int64(i) || !bytes.Equal(last, prev)) {
					err = fmt.Errorf("the chain ends at %d, %x; want %d, %x", seq, last, i, prev)
				}
				if err != nil {
					return err
				}
				return tx.AppendAudit(k.ctx(), event, seq+1, last, hash)
			})
			want = append(want, purser.AuditLink{AuditEvent: event, Seq: int64(i + 1), Prev: append([]byte{}, prev...), Hash: hash})
			prev = hash
		}
		equal(k, "chain", get[[]purser.AuditLink](k)(k.WalkAudit(k.ctx(), k.team)), want)
		equal(k, "chain of another team", len(get[[]purser.AuditLink](k)(k.WalkAudit(k.ctx(), k.newTeam()))), 0)
	}},
	{name: "two links cannot have one place", keep: func(k *kit) {
		k.do(func(tx *store.Tx) error { return tx.AppendAudit(k.ctx(), k.event(1), 1, nil, sealed) })
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.AppendAudit(k.ctx(), k.event(2), 1, nil, sealed) }), purser.KindConflict)
	}},
}

// event is an audit event with every field set; the first has changed no fields.
func (k *kit) event(i int) purser.AuditEvent {
	e := purser.AuditEvent{
		ID: purser.NewEventID(), TeamID: k.team, At: k.now.Add(time.Duration(i) * time.Second), Actor: "key000000000001",
		Action: "provider.create", Target: "spl000000000001", Result: purser.AuditOK, RequestID: "request", SourceAddress: "192.0.2.1",
		Fields: []string{},
	}
	if i > 0 {
		e.Fields = []string{"name", `"quoted"`}
	}
	return e
}
