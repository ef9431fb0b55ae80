package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/purserhq/purser"
)

// Changes that wait share one commit, and each still stands or falls alone.
func TestChangesOfOneBatchStandAlone(t *testing.T) {
	t.Parallel()
	s, err := OpenSQLite(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()

	begun, goOn := make(chan struct{}), make(chan struct{})
	first := outcome(s, t.Context(), func(*Tx) error {
		close(begun)
		<-goOn
		return nil
	})
	<-begun // from here on, all others wait
	gone, leave := context.WithCancel(t.Context())
	create := func(i int, then func() error) func(*Tx) error {
		return func(tx *Tx) error {
			team := purser.Team{ID: purser.TeamID(fmt.Sprint("tea", i)), Namespace: fmt.Sprint(i)}
			if err := tx.CreateTeam(t.Context(), team); err != nil {
				return err
			}
			return then()
		}
	}
	fine := func() error { return nil }
	waiting := []struct {
		then func() error
		ctx  context.Context
		kind purser.Kind
	}{
		{fine, t.Context(), ""},
		{func() error { return errors.New("no") }, t.Context(), purser.KindInternal},
		{func() error { panic("in the middle") }, t.Context(), purser.KindInternal},
		{fine, gone, purser.KindCanceled},
		{func() error { return context.DeadlineExceeded }, t.Context(), purser.KindCanceled},
		{fine, t.Context(), ""},
	}
	var outcomes []<-chan error
	for i, w := range waiting {
		outcomes = append(outcomes, outcome(s, w.ctx, create(i, w.then)))
		for len(s.batch.queue) <= i { // one after the other, so that the order is known
			time.Sleep(time.Millisecond)
		}
	}
	leave()
	close(goOn)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	for i, w := range waiting {
		if err := <-outcomes[i]; purser.KindOf(err) != w.kind {
			t.Errorf("change %d: error %v, want kind %q", i, err, w.kind)
		}
		_, err := s.GetTeam(t.Context(), purser.TeamID(fmt.Sprint("tea", i)))
		if stored := err == nil; stored != (w.kind == "") {
			t.Errorf("change %d: stored is %v", i, stored)
		}
	}
}

func outcome(s *Store, ctx context.Context, fn func(*Tx) error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.InTx(ctx, fn) }()
	return done
}

// A transaction that SQLite has rolled back by itself takes all of its changes
// with it; none may be reported as done.
func TestLostTransactionIsNobodysSuccess(t *testing.T) {
	t.Parallel()
	s, err := OpenSQLite(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	batch := []*change{}
	for i := range 3 {
		batch = append(batch, &change{ctx: t.Context(), done: make(chan struct{}), fn: func(tx *Tx) error {
			if err := tx.CreateTeam(t.Context(), purser.Team{ID: purser.TeamID(fmt.Sprint(i)), Namespace: fmt.Sprint(i)}); err != nil {
				return err
			}
			if i == 1 {
				_, err := tx.SQL().ExecContext(t.Context(), "ROLLBACK") // as after a full disk
				return err
			}
			return nil
		}})
	}
	s.batch.commit(batch)
	for i, c := range batch[:2] {
		if purser.KindOf(c.err) != purser.KindUnavailable {
			t.Errorf("change %d: error %v", i, c.err)
		}
	}
	if n, err := s.CountTeams(t.Context()); n != 0 || err != nil {
		t.Errorf("%d teams are stored, %v", n, err)
	}
	if err := s.InTx(t.Context(), func(*Tx) error { return nil }); err != nil {
		t.Errorf("the store does not go on: %v", err)
	}
}
