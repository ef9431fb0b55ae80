package storetest

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

// What the benchmarks run on: as many teams and providers as a large installation
// has.
const (
	benchTeams     = 1000
	benchProviders = 100 // a team
)

// Bench measures what requests cost in the store that open returns.
func Bench(b *testing.B, open func(testing.TB) *store.Store) {
	b.Helper()
	s := open(b)
	all := fill(b, s)
	some := func(i int) purser.Provider { return all[i*7919%len(all)] } // from all over the table
	ctx := b.Context()

	b.Run("GetProvider", func(b *testing.B) {
		each(b, 1, func(i int) error {
			_, err := s.GetProvider(ctx, some(i).TeamID, some(i).ID)
			return err
		})
	})
	b.Run("GetProvider32", func(b *testing.B) {
		each(b, 32, func(i int) error {
			_, err := s.GetProvider(ctx, some(i).TeamID, some(i).ID)
			return err
		})
	})
	b.Run("ListProviders20", func(b *testing.B) {
		each(b, 1, func(i int) error {
			_, err := s.ListProviders(ctx, some(i).TeamID, purser.PageRequest{Limit: 20})
			return err
		})
	})
	b.Run("GetTeamUsage", func(b *testing.B) {
		each(b, 1, func(i int) error {
			_, err := s.GetTeamUsage(ctx, some(i).TeamID)
			return err
		})
	})
	create := func(i int) error {
		p := some(i)
		p.ID = purser.NewProviderID()
		return s.InTx(ctx, func(tx *store.Tx) error {
			if err := tx.LockTeam(ctx, p.TeamID); err != nil {
				return err
			}
			return tx.CreateProvider(ctx, p, make([]byte, 120))
		})
	}
	b.Run("Create", func(b *testing.B) { each(b, 1, create) })
	b.Run("Create64", func(b *testing.B) { each(b, 64, create) })
}

// each runs fn by a number of callers at once.
func each(b *testing.B, callers int, fn func(i int) error) {
	b.Helper()
	b.ReportAllocs()
	if callers == 1 {
		for i := 0; b.Loop(); i++ {
			if err := fn(i); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(loop *testing.PB) {
		for i := int(time.Now().UnixNano() & 0xffff); loop.Next(); i++ {
			if err := fn(i); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func fill(b *testing.B, s *store.Store) (all []purser.Provider) {
	b.Helper()
	ctx, now := b.Context(), time.Now()
	for n := range benchTeams {
		err := s.InTx(ctx, func(tx *store.Tx) error {
			team := purser.Team{ID: purser.NewTeamID(), Name: "Team", Namespace: fmt.Sprint("team-", n), TotalFreeStorage: 5 << 30, CreatedAt: now}
			made, err := fillTeam(ctx, tx, team)
			all = append(all, made...)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return all
}

func fillTeam(ctx context.Context, tx *store.Tx, team purser.Team) (made []purser.Provider, err error) {
	if err := tx.CreateTeam(ctx, team); err != nil {
		return nil, err
	}
	for i := range benchProviders {
		p := purser.Provider{
			ID: purser.NewProviderID(), TeamID: team.ID, Name: "Training data of the vision group", Version: 1,
			S3:        purser.S3Config{Endpoint: "https://s3.example.com", Bucket: "vision-training", AccessKey: "AKIAIOSFODNN7EXAMPLE", Region: "ny2"},
			CreatedAt: team.CreatedAt.Add(time.Duration(i) * time.Second), UpdatedAt: team.CreatedAt,
		}
		if err := tx.CreateProvider(ctx, p, make([]byte, 120)); err != nil {
			return nil, err
		}
		made = append(made, p)
	}
	return made, nil
}
