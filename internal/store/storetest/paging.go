package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var pagingPromises = []promise{
	{name: "providers", keep: func(k *kit) {
		pages(k, func(tx *store.Tx, p purser.Position) error {
			v := k.provider()
			v.ID, v.CreatedAt = purser.ProviderID(p.ID), p.CreatedAt
			return tx.CreateProvider(k.ctx(), v, sealed)
		}, func(page purser.PageRequest) (purser.Page[purser.Provider], error) {
			return k.ListProviders(k.ctx(), k.team, page)
		}, providerPosition)
	}},
	{name: "keys", keep: func(k *kit) {
		pages(k, func(tx *store.Tx, p purser.Position) error {
			v := k.key()
			v.ID, v.CreatedAt = purser.KeyID(p.ID), p.CreatedAt
			return tx.CreateKey(k.ctx(), v)
		}, func(page purser.PageRequest) (purser.Page[purser.APIKey], error) {
			return k.ListKeys(k.ctx(), k.team, page)
		}, func(v purser.APIKey) purser.Position {
			return purser.Position{CreatedAt: v.CreatedAt, ID: string(v.ID)}
		})
	}},
	{name: "scans", keep: func(k *kit) {
		pages(k, func(tx *store.Tx, p purser.Position) error {
			return tx.CreateScan(k.ctx(), purser.Scan{ID: purser.ScanID(p.ID), TeamID: k.team, SourceID: purser.SourceID(p.ID), CreatedAt: p.CreatedAt})
		}, func(page purser.PageRequest) (purser.Page[purser.Scan], error) {
			return k.ListScans(k.ctx(), k.team, page)
		}, func(v purser.Scan) purser.Position {
			return purser.Position{CreatedAt: v.CreatedAt, ID: string(v.ID)}
		})
	}},
	{name: "audit events of a team", keep: func(k *kit) { pageAudit(k, k.team) }},
	{name: "audit events of all teams", alone: true, keep: func(k *kit) { pageAudit(k, "") }},
	{name: "teams", alone: true, keep: func(k *kit) {
		pages(k, func(tx *store.Tx, p purser.Position) error {
			return tx.CreateTeam(k.ctx(), purser.Team{ID: purser.TeamID(p.ID), Namespace: p.ID, CreatedAt: p.CreatedAt})
		}, func(page purser.PageRequest) (purser.Page[purser.Team], error) {
			return k.ListTeams(k.ctx(), page)
		}, func(v purser.Team) purser.Position {
			return purser.Position{CreatedAt: v.CreatedAt, ID: string(v.ID)}
		})
	}},
	{name: "the place of a deleted row is still a place", keep: func(k *kit) {
		first, gone, last := k.newProvider(), k.provider(), k.provider()
		gone.CreatedAt, last.CreatedAt = k.now.Add(1), k.now.Add(2*time.Microsecond)
		gone.CreatedAt = k.now.Add(time.Microsecond)
		k.do(func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), last, sealed) })
		for ascending, want := range map[bool]purser.Provider{true: last, false: first} {
			page := get[purser.Page[purser.Provider]](k)(k.ListProviders(k.ctx(), k.team, purser.PageRequest{After: providerPosition(gone), Limit: 5, Ascending: ascending}))
			equal(k, "page", page, purser.Page[purser.Provider]{Items: []purser.Provider{want}})
		}
	}},
	{name: "while rows come and go, those that stay are listed once", keep: pageWhileChanging},
}

func providerPosition(p purser.Provider) purser.Position {
	return purser.Position{CreatedAt: p.CreatedAt, ID: string(p.ID)}
}

func pageAudit(k *kit, team purser.TeamID) {
	seq := int64(0)
	pages(k, func(tx *store.Tx, p purser.Position) error {
		e := k.event(1)
		e.ID, e.At = purser.EventID(p.ID), p.CreatedAt
		seq++
		return tx.AppendAudit(k.ctx(), e, seq, nil, sealed)
	}, func(page purser.PageRequest) (purser.Page[purser.AuditEvent], error) {
		return k.ListAudit(k.ctx(), team, page)
	}, func(v purser.AuditEvent) purser.Position {
		return purser.Position{CreatedAt: v.At, ID: string(v.ID)}
	})
}

// pages makes rows of which many are of one age and checks that pages of any
// size, in both directions, show each of them once and in order.
func pages[T any](k *kit, create func(*store.Tx, purser.Position) error, list func(purser.PageRequest) (purser.Page[T], error), position func(T) purser.Position) {
	const rows = 50
	k.do(func(tx *store.Tx) error {
		for i := range rows {
			at := k.now.Add(time.Duration(i*7919%11) * time.Microsecond) // eleven ages, in no order
			if err := create(tx, purser.Position{CreatedAt: at, ID: named[string]("row", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	all := get[purser.Page[T]](k)(list(purser.PageRequest{Limit: 1000, Ascending: true})) // may hold what others made
	if len(all.Items) < rows || !all.Next.IsZero() {
		k.Fatalf("one large page has %d rows and goes on at %v; want %d or more and the end", len(all.Items), all.Next, rows)
	}
	var want []purser.Position
	for _, v := range all.Items {
		want = append(want, position(v))
	}
	if !slices.IsSortedFunc(want, comparePositions) {
		k.Fatalf("out of order: %v", want)
	}
	rapid.Check(k.T, func(t *rapid.T) {
		page := purser.PageRequest{Limit: rapid.IntRange(1, rows+5).Draw(t, "limit"), Ascending: rapid.Bool().Draw(t, "ascending")}
		start := rapid.IntRange(0, len(want)-1).Draw(t, "start")
		expect := slices.Clone(want)
		if !page.Ascending {
			slices.Reverse(expect)
		}
		page.After, expect = expect[start], expect[start+1:]
		got, err := walk(page, list, position)
		if err != nil || !slices.Equal(got, expect) {
			t.Fatalf("%+v: %v\n got %v\nwant %v", page, err, got, expect)
		}
	})
}

func comparePositions(a, b purser.Position) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// walk returns the positions of everything that follows page.After, page by page.
func walk[T any](page purser.PageRequest, list func(purser.PageRequest) (purser.Page[T], error), position func(T) purser.Position) (found []purser.Position, err error) {
	for {
		got, err := list(page)
		if err != nil {
			return nil, err
		}
		if len(got.Items) > page.Limit || !got.Next.IsZero() && len(got.Items) < page.Limit {
			return nil, fmt.Errorf("a page of %d has %d rows", page.Limit, len(got.Items))
		}
		for _, v := range got.Items {
			found = append(found, position(v))
		}
		if got.Next.IsZero() {
			return found, nil
		}
		page.After = got.Next
	}
}

// pageWhileChanging lists providers again and again while others are created and
// deleted around them.
func pageWhileChanging(k *kit) {
	var stay []purser.Position
	k.do(func(tx *store.Tx) error {
		for i := range 60 {
			p := k.provider()
			p.ID, p.CreatedAt = named[purser.ProviderID]("stay", i), k.now.Add(time.Duration(i/10)*time.Microsecond)
			stay = append(stay, providerPosition(p))
			if err := tx.CreateProvider(k.ctx(), p, sealed); err != nil {
				return err
			}
		}
		return nil
	})
	ctx, stop := context.WithCancel(k.ctx())
	changed := make(chan error, 1)
	go func() { changed <- comeAndGo(k, ctx) }()
	for i := range 20 {
		page := purser.PageRequest{Limit: 7, Ascending: i%2 == 0}
		got, err := walk(page, func(page purser.PageRequest) (purser.Page[purser.Provider], error) {
			return k.ListProviders(k.ctx(), k.team, page)
		}, providerPosition)
		k.must(err)
		if !page.Ascending {
			slices.Reverse(got)
		}
		if !slices.IsSortedFunc(got, comparePositions) || len(slices.Compact(slices.Clone(got))) != len(got) {
			k.Fatalf("out of order, or twice: %v", got)
		}
		got = slices.DeleteFunc(got, func(p purser.Position) bool { return p.ID[:4] != "stay" })
		equal(k, "those that stay", got, stay)
	}
	stop()
	k.must(<-changed)
}

// comeAndGo creates and deletes providers of the same ages until ctx ends.
func comeAndGo(k *kit, ctx context.Context) error {
	for i := 0; ctx.Err() == nil; i++ {
		p := k.provider()
		p.CreatedAt = k.now.Add(time.Duration(i%6) * time.Microsecond)
		p.ID = purser.ProviderID([]string{"aaaa", "zzzz"}[i%2] + string(p.ID))
		if err := k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, sealed) }); err != nil {
			return err
		}
		if err := k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.DeleteProvider(k.ctx(), p.TeamID, p.ID) }); err != nil {
			return err
		}
	}
	return nil
}
