package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var transactionPromises = []promise{
	{name: "a transaction that fails leaves nothing and returns the error as it is", keep: func(k *kit) {
		p := k.provider()
		for _, want := range []error{errors.New("no"), purser.Errorf(purser.KindConflict, "test", "No.")} {
			err := k.InTx(k.ctx(), func(tx *store.Tx) error { return errors.Join(tx.CreateProvider(k.ctx(), p, sealed), want) })
			if !errors.Is(err, want) || purser.KindOf(err) != purser.KindOf(want) {
				k.Fatalf("error %v, want %v", err, want)
			}
		}
		k.isMissing(p)
	}},
	{name: "a transaction that panics leaves nothing and is an error of ours", keep: func(k *kit) {
		p := k.provider()
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error {
			if err := tx.CreateProvider(k.ctx(), p, sealed); err != nil {
				return err
			}
			panic("in the middle")
		}), purser.KindInternal)
		k.isMissing(p)
		k.newProvider() // the store goes on
	}},
	{name: "a transaction sees what it wrote, others only after it", keep: func(k *kit) {
		p := k.provider()
		k.do(func(tx *store.Tx) error {
			if err := tx.CreateProvider(k.ctx(), p, sealed); err != nil {
				return err
			}
			if _, err := tx.GetProvider(k.ctx(), k.team, p.ID); err != nil {
				return fmt.Errorf("inside: %w", err)
			}
			if _, err := k.GetProvider(k.ctx(), k.team, p.ID); purser.KindOf(err) != purser.KindNotFound {
				return fmt.Errorf("outside: %w", err)
			}
			return nil
		})
		get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID))
	}},
	{name: "a missing row does not end the transaction", keep: func(k *kit) {
		p := k.provider()
		k.do(func(tx *store.Tx) error {
			if err := tx.DeleteProvider(k.ctx(), k.team, p.ID); purser.KindOf(err) != purser.KindNotFound {
				return fmt.Errorf("want not found: %w", err)
			}
			return tx.CreateProvider(k.ctx(), p, sealed)
		})
		get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID))
	}},
	{name: "failures and panics do not touch those who commit at the same moment", keep: func(k *kit) {
		var ps []purser.Provider
		for range 60 {
			ps = append(ps, k.provider())
		}
		errs := k.at(len(ps), func(i int, s *store.Store) error {
			return s.InTx(k.ctx(), func(tx *store.Tx) error {
				if err := tx.CreateProvider(k.ctx(), ps[i], sealed); err != nil {
					return err
				}
				switch i % 4 {
				case 1:
					return errors.New("no")
				case 2:
					panic("in the middle")
				case 3: // a statement the database refuses
					return tx.CreateProvider(k.ctx(), ps[i], sealed)
				}
				return nil
			})
		})
		for i, p := range ps {
			if i%4 == 0 {
				k.must(errs[i])
				get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID))
				continue
			}
			k.fails(errs[i], map[int]purser.Kind{1: purser.KindInternal, 2: purser.KindInternal, 3: purser.KindConflict}[i%4])
			k.isMissing(p)
		}
	}},
	{name: "a caller who has gone before changes nothing", keep: func(k *kit) {
		ctx, cancel := context.WithCancel(k.ctx())
		cancel()
		p := k.provider()
		k.fails(k.InTx(ctx, func(tx *store.Tx) error { return tx.CreateProvider(ctx, p, sealed) }), purser.KindCanceled)
		k.isMissing(p)
	}},
	{name: "a caller who goes in the middle is told what came of it, and harms nobody", keep: func(k *kit) {
		var ps []purser.Provider
		for range 40 {
			ps = append(ps, k.provider())
		}
		errs := k.at(len(ps), func(i int, s *store.Store) error {
			ctx, cancel := context.WithCancel(k.ctx())
			defer cancel()
			return s.InTx(ctx, func(tx *store.Tx) error {
				if i%2 == 1 {
					cancel()
				}
				return tx.CreateProvider(ctx, ps[i], sealed)
			})
		})
		for i, p := range ps {
			_, err := k.GetProvider(k.ctx(), k.team, p.ID)
			if i%2 == 0 {
				k.must(errors.Join(errs[i], err))
				continue
			}
			if errs[i] != nil {
				k.fails(errs[i], purser.KindCanceled)
			}
			if (errs[i] == nil) != (err == nil) {
				k.Fatalf("told %v, but reading gives %v", errs[i], err)
			}
		}
	}},
	{name: "a read for a caller who has gone is at most given up", keep: func(k *kit) {
		p := k.newProvider()
		ctx, cancel := context.WithCancel(k.ctx())
		cancel()
		if _, err := k.GetProvider(ctx, k.team, p.ID); err != nil {
			k.fails(err, purser.KindCanceled)
		}
		get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID))
	}},
	{name: "the database answers", keep: func(k *kit) { k.must(k.Ping(k.ctx())) }},
	{name: "after closing, changes are refused and nothing is lost", alone: true, keep: func(k *kit) {
		var ps []purser.Provider
		for range 50 {
			ps = append(ps, k.provider())
		}
		closed := make(chan error, 1)
		errs := k.at(len(ps), func(i int, s *store.Store) error {
			if i == len(ps)/2 {
				closed <- s.Close()
			}
			return s.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), ps[i], sealed) })
		})
		k.must(<-closed)
		for _, err := range errs {
			if err != nil {
				k.fails(err, purser.KindUnavailable)
			}
		}
		if _, err := k.GetProvider(k.ctx(), k.team, ps[0].ID); err == nil {
			k.Fatal("a closed store still answers")
		}
		k.must(k.Close()) // a second time is no harm
	}},
}

func (k *kit) isMissing(p purser.Provider) {
	k.Helper()
	_, err := k.GetProvider(k.ctx(), p.TeamID, p.ID)
	k.fails(err, purser.KindNotFound)
}
