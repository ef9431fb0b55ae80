package storetest

import (
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var providerPromises = []promise{
	{name: "what was created is found as it was", keep: func(k *kit) {
		p := k.newProvider()
		equal(k, "provider", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID)), p)
		equal(k, "credential", get[store.Credential](k)(k.GetCredential(k.ctx(), k.team, p.ID)), store.Credential{Sealed: sealed, Version: 1})
		rules := get[[]purser.MeteringRule](k)(k.GetMeteringRules(k.ctx(), k.team, p.ID))
		equal(k, "number of rules", len(rules), 0)
	}},
	{name: "empty settings stay empty", keep: func(k *kit) {
		p := k.provider()
		p.Managed, p.TeamDefault = true, true
		p.S3 = purser.S3Config{Bucket: "b", AccessKey: "a"}
		k.do(func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, []byte{}) })
		equal(k, "provider", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID)), p)
		equal(k, "length of the secret", len(get[store.Credential](k)(k.GetCredential(k.ctx(), k.team, p.ID)).Sealed), 0)
	}},
	{name: "an update replaces what users may change and nothing else", keep: func(k *kit) {
		p := k.newProvider()
		changed := p
		changed.Name, changed.TeamDefault, changed.Version, changed.UpdatedAt = "other", true, 2, k.now.Add(time.Minute)
		changed.S3 = purser.S3Config{Bucket: "other", AccessKey: "OTHER"}
		asked := changed
		asked.Managed, asked.CreatedAt = true, k.now.Add(time.Hour) // not for users to say
		k.do(func(tx *store.Tx) error { return tx.UpdateProvider(k.ctx(), asked) })
		equal(k, "provider", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID)), changed)
		equal(k, "secret", get[store.Credential](k)(k.GetCredential(k.ctx(), k.team, p.ID)).Sealed, sealed)
	}},
	{name: "another team's provider is not found by any method", keep: func(k *kit) {
		p := k.newProvider()
		p.TeamID = k.newTeam()
		k.strangersAreNotFound(p)
		equal(k, "items", len(get[purser.Page[purser.Provider]](k)(k.ListProviders(k.ctx(), p.TeamID, purser.PageRequest{Limit: 20})).Items), 0)
		equal(k, "version", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID)).Version, 1)
	}},
	{name: "a deleted provider is not found by any method", keep: func(k *kit) {
		p := k.newProvider()
		k.do(func(tx *store.Tx) error { return tx.DeleteProvider(k.ctx(), k.team, p.ID) })
		k.strangersAreNotFound(p)
	}},
	{name: "the id of a provider is taken only within its team", keep: func(k *kit) {
		p := k.newProvider()
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, sealed) }), purser.KindConflict)
		p.TeamID = k.newTeam()
		k.do(func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, sealed) })
	}},
	{name: "a new secret forgets the signing region found with the old one", keep: func(k *kit) {
		p := k.newProvider()
		k.do(func(tx *store.Tx) error { return tx.SetDetectedRegion(k.ctx(), k.team, p.ID, "eu-central-1", 1) })
		equal(k, "credential", get[store.Credential](k)(k.GetCredential(k.ctx(), k.team, p.ID)),
			store.Credential{Sealed: sealed, Version: 1, DetectedRegion: "eu-central-1"})
		k.do(func(tx *store.Tx) error { return tx.SetProviderSecret(k.ctx(), k.team, p.ID, []byte("new"), 2) })
		equal(k, "credential", get[store.Credential](k)(k.GetCredential(k.ctx(), k.team, p.ID)), store.Credential{Sealed: []byte("new"), Version: 2})
	}},
	{name: "a signing region found for an older version is not remembered", keep: func(k *kit) {
		p := k.newProvider()
		p.Version = 2
		k.do(func(tx *store.Tx) error { return tx.UpdateProvider(k.ctx(), p) })
		k.do(func(tx *store.Tx) error { return tx.SetDetectedRegion(k.ctx(), k.team, p.ID, "eu-central-1", 1) })
		equal(k, "region", get[store.Credential](k)(k.GetCredential(k.ctx(), k.team, p.ID)).DetectedRegion, "")
	}},
	{name: "own rules come back in their order and make a new version", keep: func(k *kit) {
		p := k.newProvider()
		rules := []purser.MeteringRule{
			{Category: purser.CategoryModel, Prefix: "m/\"ö\"/"},
			{Category: purser.CategoryDataset, Prefix: ""},
			{Category: purser.CategoryDataset, Prefix: "a"},
		}
		later := k.now.Add(time.Second)
		k.do(func(tx *store.Tx) error { return tx.SetMeteringRules(k.ctx(), k.team, p.ID, rules, later) })
		equal(k, "rules", get[[]purser.MeteringRule](k)(k.GetMeteringRules(k.ctx(), k.team, p.ID)), rules)
		p.Version, p.UpdatedAt = 2, later
		equal(k, "provider", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, p.ID)), p)

		k.do(func(tx *store.Tx) error { return tx.SetMeteringRules(k.ctx(), k.team, p.ID, nil, later) })
		equal(k, "number of rules", len(get[[]purser.MeteringRule](k)(k.GetMeteringRules(k.ctx(), k.team, p.ID))), 0)
	}},
	{name: "a team has one default", keep: func(k *kit) {
		first, second := k.provider(), k.provider()
		first.TeamDefault, second.TeamDefault = true, true
		k.do(func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), first, sealed) })
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), second, sealed) }), purser.KindConflict)
		second.TeamDefault = false
		k.do(func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), second, sealed) })
		second.TeamDefault = true
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.UpdateProvider(k.ctx(), second) }), purser.KindConflict)
	}},
	{name: "switching the default gives a new version to the one that was", keep: func(k *kit) {
		first, second, third := k.provider(), k.provider(), k.newProvider()
		first.TeamDefault = true
		later := k.now.Add(time.Second)
		k.do(func(tx *store.Tx) error {
			if err := tx.CreateProvider(k.ctx(), first, sealed); err != nil {
				return err
			}
			if err := tx.ClearTeamDefault(k.ctx(), k.team, second.ID, later); err != nil {
				return err
			}
			second.TeamDefault = true
			return tx.CreateProvider(k.ctx(), second, sealed)
		})
		first.TeamDefault, first.Version, first.UpdatedAt = false, 2, later
		for _, want := range []purser.Provider{first, second, third} {
			equal(k, "provider", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, want.ID)), want)
		}
		k.do(func(tx *store.Tx) error { return tx.ClearTeamDefault(k.ctx(), k.team, second.ID, later) })
		equal(k, "kept default", get[purser.Provider](k)(k.GetProvider(k.ctx(), k.team, second.ID)), second)
	}},
	{name: "a provider with a source cannot be deleted", keep: func(k *kit) {
		p := k.newProvider()
		s := k.newSource(p.ID)
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.DeleteProvider(k.ctx(), k.team, p.ID) }), purser.KindInternal)
		k.do(func(tx *store.Tx) error {
			if err := tx.DeleteSource(k.ctx(), k.team, s.ID); err != nil {
				return err
			}
			return tx.DeleteProvider(k.ctx(), k.team, p.ID)
		})
	}},
	{name: "a provider needs its team", keep: func(k *kit) {
		p := k.provider()
		p.TeamID = purser.NewTeamID()
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, sealed) }), purser.KindInternal)
	}},
}

// strangersAreNotFound checks every method that takes a provider's id with one
// that is not there, or another team's.
func (k *kit) strangersAreNotFound(p purser.Provider) {
	k.Helper()
	_, err := k.GetProvider(k.ctx(), p.TeamID, p.ID)
	k.fails(err, purser.KindNotFound)
	_, err = k.GetCredential(k.ctx(), p.TeamID, p.ID)
	k.fails(err, purser.KindNotFound)
	_, err = k.GetMeteringRules(k.ctx(), p.TeamID, p.ID)
	k.fails(err, purser.KindNotFound)
	_, err = k.GetSourceOfProvider(k.ctx(), p.TeamID, p.ID)
	k.fails(err, purser.KindNotFound)
	_, err = k.GetSourceUsage(k.ctx(), p.TeamID, p.ID)
	k.fails(err, purser.KindNotFound)
	for _, change := range []func(*store.Tx) error{
		func(tx *store.Tx) error { return tx.UpdateProvider(k.ctx(), p) },
		func(tx *store.Tx) error { return tx.SetProviderSecret(k.ctx(), p.TeamID, p.ID, sealed, 2) },
		func(tx *store.Tx) error { return tx.SetMeteringRules(k.ctx(), p.TeamID, p.ID, nil, k.now) },
		func(tx *store.Tx) error { return tx.DeleteProvider(k.ctx(), p.TeamID, p.ID) },
	} {
		k.fails(k.InTx(k.ctx(), change), purser.KindNotFound)
	}
}
