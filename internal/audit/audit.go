// Package audit chains the rows of the record of who changed, or was refused,
// what.
//
// Each team has a chain of its own. A row carries its number, the hash of the
// row before and the hash of itself, so that nobody can change, remove, insert
// or reorder rows in the middle unnoticed. The package leaves to the store where
// rows are kept and to its callers what is worth a row. What always holds: a row
// is added in the transaction of the change it tells of, so there is never one
// without the other; and a row names what was changed, never the values, so it
// cannot hold a secret.
//
// What a chain cannot show by itself: that its newest rows were cut off, and
// that somebody who may write to the database computed all of it anew. Both show
// when the last hash is compared with one that was noted elsewhere.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/purserhq/purser"
)

// Chain is where one transaction finds the end of a team's chain and adds to it.
type Chain interface {
	// LastAudit returns number and hash of the last row; 0 and nil when there is none.
	LastAudit(ctx context.Context, team purser.TeamID) (seq int64, hash []byte, err error)
	AppendAudit(ctx context.Context, e purser.AuditEvent, seq int64, prev, hash []byte) error
}

// Append adds e to its team's chain. The caller holds the team's lock: two
// transactions that found the same end would otherwise both try to follow it. An
// event without an id gets one.
func Append(ctx context.Context, chain Chain, e purser.AuditEvent) error {
	seq, prev, err := chain.LastAudit(ctx, e.TeamID)
	if err != nil {
		return purser.Wrap("audit.Append", err)
	}
	if e.ID == "" {
		e.ID = purser.NewEventID()
	}
	e = storable(e)
	seq++
	return purser.Wrap("audit.Append", chain.AppendAudit(ctx, e, seq, prev, hash(prev, seq, e)))
}

// storable replaces what one of the databases would refuse or change: a refusal
// that fails to be recorded because of an odd byte in it would be a way around
// the record, and what comes back changed would break the chain.
func storable(e purser.AuditEvent) purser.AuditEvent {
	for _, text := range []*string{&e.Actor, &e.Action, &e.Target, &e.Result, &e.RequestID, &e.SourceAddress} {
		*text = storableText(*text)
	}
	fields := make([]string, len(e.Fields))
	for i, field := range e.Fields {
		fields[i] = storableText(field)
	}
	e.Fields = fields
	return e
}

// storableText replaces invalid UTF-8 and the NUL character, neither of which
// PostgreSQL has in its text type.
func storableText(s string) string {
	const replacement = "\uFFFD"
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
}

// BrokenError says where a chain breaks first.
type BrokenError struct {
	// Seq is the number the link at the break should have.
	Seq     int64
	Problem string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("the audit chain breaks at number %d: %s", e.Seq, e.Problem)
}

// Verify checks the whole chain of one team, in order, and returns a BrokenError
// for the first link that does not fit.
func Verify(links []purser.AuditLink) error {
	var prev []byte
	for i, link := range links {
		seq := int64(i) + 1
		if problem := check(link, links[0].TeamID, seq, prev); problem != "" {
			return &BrokenError{Seq: seq, Problem: problem}
		}
		prev = link.Hash
	}
	return nil
}

// check says what is wrong with a link in the place where it stands, or returns "".
func check(link purser.AuditLink, team purser.TeamID, seq int64, prev []byte) string {
	switch {
	case link.TeamID != team:
		return fmt.Sprintf("event %s belongs to another team", link.ID)
	case link.Seq != seq:
		return fmt.Sprintf("event %s stands here with number %d; events are missing, added or in another order", link.ID, link.Seq)
	case !bytes.Equal(link.Prev, prev):
		return fmt.Sprintf("event %s does not follow the event before it", link.ID)
	case !bytes.Equal(link.Hash, hash(link.Prev, link.Seq, link.AuditEvent)):
		return fmt.Sprintf("event %s was changed", link.ID)
	}
	return ""
}

// hash returns the hash of a link: SHA-256 over
//
//	label      "purser audit 1"
//	prev       hash of the link before; empty for the first
//	seq, at    8 bytes each, big endian; at in microseconds since 1970
//	id, team, actor, action, target, result, request id, source address
//	count      8 bytes, of the fields
//	fields
//
// in which every text and every hash stands behind its length (8 bytes, big
// endian), so that no byte can wander from one to the next.
func hash(prev []byte, seq int64, e purser.AuditEvent) []byte {
	b := make([]byte, 0, 512)
	b = appendText(b, "purser audit 1")
	b = appendText(b, prev)
	b = appendNumber(b, seq)
	b = appendNumber(b, e.At.UnixMicro())
	for _, text := range []string{
		string(e.ID), string(e.TeamID), e.Actor, e.Action, e.Target, e.Result, e.RequestID, e.SourceAddress,
	} {
		b = appendText(b, text)
	}
	b = appendNumber(b, int64(len(e.Fields)))
	for _, field := range e.Fields {
		b = appendText(b, field)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	b = appendNumber(b, int64(len(text)))
	return append(b, text...)
}

func appendNumber(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(n)) //nolint:gosec // the bits are kept, not the number
}
