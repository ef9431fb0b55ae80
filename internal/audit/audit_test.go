package audit_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/audit"
	"github.com/purserhq/purser/internal/store"
)

const team purser.TeamID = "tea000000000001"

// memory is a chain of one team in memory.
type memory struct {
	links []purser.AuditLink
	fails error
}

func (m *memory) LastAudit(context.Context, purser.TeamID) (int64, []byte, error) {
	if len(m.links) == 0 {
		return 0, nil, m.fails
	}
	last := m.links[len(m.links)-1]
	return last.Seq, last.Hash, m.fails
}

func (m *memory) AppendAudit(_ context.Context, e purser.AuditEvent, seq int64, prev, hash []byte) error {
	m.links = append(m.links, purser.AuditLink{AuditEvent: e, Seq: seq, Prev: prev, Hash: hash})
	return nil
}

func events() *rapid.Generator[purser.AuditEvent] {
	return rapid.Custom(func(t *rapid.T) purser.AuditEvent {
		text := rapid.String()
		return purser.AuditEvent{
			TeamID:        team,
			At:            time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "at")).UTC(),
			Actor:         text.Draw(t, "actor"),
			Action:        text.Draw(t, "action"),
			Target:        text.Draw(t, "target"),
			Result:        rapid.SampledFrom([]string{purser.AuditOK, purser.AuditDenied}).Draw(t, "result"),
			RequestID:     text.Draw(t, "request id"),
			SourceAddress: text.Draw(t, "source address"),
			Fields:        rapid.SliceOfN(text, 0, 3).Draw(t, "fields"),
		}
	})
}

// chain draws a whole chain of at least atLeast links.
func chain(t *rapid.T, atLeast int) []purser.AuditLink {
	var m memory
	for _, e := range rapid.SliceOfN(events(), atLeast, 8).Draw(t, "events") {
		if err := audit.Append(t.Context(), &m, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := audit.Verify(m.links); err != nil {
		t.Fatalf("the chain as it was written: %v", err)
	}
	return m.links
}

// mustBreak checks that links do not verify, and break at the link with the
// given index.
func mustBreak(t *rapid.T, links []purser.AuditLink, at int) {
	t.Helper()
	var broken *audit.BrokenError
	if err := audit.Verify(links); !errors.As(err, &broken) {
		t.Fatalf("Verify = %v, want a BrokenError", err)
	}
	if want := int64(at) + 1; broken.Seq != want {
		t.Fatalf("Verify found the break at %d (%v), want %d", broken.Seq, broken, want)
	}
}

// changes are the ways in which one link can be changed.
var changes = map[string]func(*purser.AuditLink){
	"id":             func(l *purser.AuditLink) { l.ID += "x" },
	"team":           func(l *purser.AuditLink) { l.TeamID += "x" },
	"time":           func(l *purser.AuditLink) { l.At = l.At.Add(time.Microsecond) },
	"actor":          func(l *purser.AuditLink) { l.Actor += "x" },
	"action":         func(l *purser.AuditLink) { l.Action += "x" },
	"target":         func(l *purser.AuditLink) { l.Target += "x" },
	"result":         func(l *purser.AuditLink) { l.Result += "x" },
	"request id":     func(l *purser.AuditLink) { l.RequestID += "x" },
	"source address": func(l *purser.AuditLink) { l.SourceAddress += "x" },
	"field added":    func(l *purser.AuditLink) { l.Fields = append(slices.Clone(l.Fields), "") },
	"number":         func(l *purser.AuditLink) { l.Seq++ },
	"previous hash":  func(l *purser.AuditLink) { l.Prev = append(slices.Clone(l.Prev), 0) },
	"hash":           func(l *purser.AuditLink) { l.Hash = append(slices.Clone(l.Hash[1:]), l.Hash[0]+1) },
	"text moved from one field to the next": func(l *purser.AuditLink) {
		l.Actor, l.Action = l.Actor+"x"+l.Action, ""
	},
}

func TestVerifyFindsAChange(t *testing.T) {
	t.Parallel()
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				links := chain(t, 1)
				at := rapid.IntRange(0, len(links)-1).Draw(t, "at")
				change(&links[at])
				mustBreak(t, links, at)
			})
		})
	}
}

func TestVerifyFindsARemoval(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		links := chain(t, 2)
		// The last one is missed only by who noted its hash; see the package comment.
		at := rapid.IntRange(0, len(links)-2).Draw(t, "at")
		mustBreak(t, slices.Delete(links, at, at+1), at)
	})
}

func TestVerifyFindsRemovalAndRenumbering(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		links := chain(t, 2)
		at := rapid.IntRange(0, len(links)-2).Draw(t, "at")
		links = slices.Delete(links, at, at+1)
		for i := range links {
			links[i].Seq = int64(i) + 1
		}
		mustBreak(t, links, at)
	})
}

func TestVerifyFindsAnotherOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		links := chain(t, 2)
		a := rapid.IntRange(0, len(links)-2).Draw(t, "a")
		b := rapid.IntRange(a+1, len(links)-1).Draw(t, "b")
		links[a], links[b] = links[b], links[a]
		mustBreak(t, links, a)
	})
}

// An inserted row can be right by itself: number, previous hash and own hash may
// be what they would have been at that time. Then the row after it is the break.
func TestVerifyFindsAnInsertion(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		links := chain(t, 2)
		at := rapid.IntRange(0, len(links)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "copy") {
			mustBreak(t, slices.Insert(links, at+1, links[at]), at+1)
			return
		}
		forged := memory{links: slices.Clone(links[:at])}
		if err := audit.Append(t.Context(), &forged, events().Draw(t, "forged")); err != nil {
			t.Fatal(err)
		}
		links = append(forged.links, links[at:]...)
		for i := range links {
			links[i].Seq = int64(i) + 1
		}
		mustBreak(t, links, at+1)
	})
}

func TestAppend(t *testing.T) {
	t.Parallel()
	var m memory
	e := purser.AuditEvent{TeamID: team, Action: "provider.create", Target: "spl\x00\xff", Fields: []string{"name\xff"}}
	for range 2 {
		if err := audit.Append(t.Context(), &m, e); err != nil {
			t.Fatal(err)
		}
	}
	if m.links[0].ID == m.links[1].ID || !purser.ValidID(string(m.links[0].ID)) {
		t.Errorf("ids are %q and %q, want two fresh ones", m.links[0].ID, m.links[1].ID)
	}
	if got := m.links[0].Target + m.links[0].Fields[0]; got != "spl\uFFFD\uFFFDname\uFFFD" {
		t.Errorf("stored %q, want what every database can keep", got)
	}
	if e.Fields[0] != "name\xff" {
		t.Error("Append changed the caller's event")
	}

	e.ID = "evt000000000001"
	if err := audit.Append(t.Context(), &m, e); err != nil || m.links[2].ID != e.ID {
		t.Errorf("an event with an id got %q (error %v)", m.links[2].ID, err)
	}
}

func TestAppendReportsTheStoresError(t *testing.T) {
	t.Parallel()
	fails := purser.Errorf(purser.KindUnavailable, "store", "Try again.")
	err := audit.Append(t.Context(), &memory{fails: fails}, purser.AuditEvent{TeamID: team})
	if purser.KindOf(err) != purser.KindUnavailable {
		t.Errorf("Append = %v, want the store's error", err)
	}
}

func TestVerifyOfNothing(t *testing.T) {
	t.Parallel()
	if err := audit.Verify(nil); err != nil {
		t.Errorf("Verify of an empty chain = %v", err)
	}
}

func TestChainSurvivesTheStore(t *testing.T) {
	t.Parallel()
	s, err := store.OpenSQLite(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", 3600))
	want := []purser.AuditEvent{
		{TeamID: team, At: at, Actor: "key000000000001", Action: "provider.create", Target: "spl1", Result: purser.AuditOK, RequestID: "r1", SourceAddress: "::1", Fields: []string{"name", "<&>\u2028"}},
		{TeamID: team, At: at.Add(time.Second), Actor: "system", Action: "provider.delete\r\n\x1b[0m", Target: "\x00\xff", Result: purser.AuditDenied},
	}
	err = s.InTx(t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateTeam(t.Context(), purser.Team{ID: team, Name: "Team", Namespace: "team", CreatedAt: at}); err != nil {
			return err
		}
		for _, e := range want {
			if err := audit.Append(t.Context(), tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	links, err := s.WalkAudit(t.Context(), team)
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.Verify(links); err != nil {
		t.Error(err)
	}
	got := make([]string, 0, len(links))
	for _, l := range links {
		got = append(got, l.Action)
	}
	if diff := cmp.Diff([]string{want[0].Action, want[1].Action}, got); diff != "" {
		t.Errorf("actions in the store (-want +got):\n%s", diff)
	}
}
