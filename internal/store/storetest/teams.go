package storetest

import (
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

var teamPromises = []promise{
	{name: "what was created is found as it was, with nothing used", keep: func(k *kit) {
		team := k.teamValue()
		k.do(func(tx *store.Tx) error { return tx.CreateTeam(k.ctx(), team) })
		equal(k, "team", get[purser.Team](k)(k.GetTeam(k.ctx(), team.ID)), team)
		equal(k, "usage", get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), team.ID)), store.TeamUsage{TotalFreeStorage: team.TotalFreeStorage})
	}},
	{name: "an update replaces name, namespace and plan", keep: func(k *kit) {
		team := get[purser.Team](k)(k.GetTeam(k.ctx(), k.team))
		team.Name, team.Namespace, team.TotalFreeStorage = "Other", "other-"+string(k.team), 1
		asked := team
		asked.CreatedAt = k.now.Add(time.Hour) // not for anybody to say
		k.do(func(tx *store.Tx) error { return tx.UpdateTeam(k.ctx(), asked) })
		equal(k, "team", get[purser.Team](k)(k.GetTeam(k.ctx(), k.team)), team)
		equal(k, "plan", get[store.TeamUsage](k)(k.GetTeamUsage(k.ctx(), k.team)).TotalFreeStorage, 1)
	}},
	{name: "a namespace is taken once", keep: func(k *kit) {
		team := k.teamValue()
		team.Namespace = string(k.team)
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateTeam(k.ctx(), team) }), purser.KindConflict)
		team.Namespace = string(team.ID)
		k.do(func(tx *store.Tx) error { return tx.CreateTeam(k.ctx(), team) })
		team.Namespace = string(k.team)
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.UpdateTeam(k.ctx(), team) }), purser.KindConflict)
	}},
	{name: "an unknown team is not found by any method", keep: func(k *kit) {
		unknown := k.teamValue()
		_, err := k.GetTeam(k.ctx(), unknown.ID)
		k.fails(err, purser.KindNotFound)
		_, err = k.GetTeamUsage(k.ctx(), unknown.ID)
		k.fails(err, purser.KindNotFound)
		for _, change := range []func(*store.Tx) error{
			func(tx *store.Tx) error { return tx.LockTeam(k.ctx(), unknown.ID) },
			func(tx *store.Tx) error { return tx.UpdateTeam(k.ctx(), unknown) },
			func(tx *store.Tx) error { return tx.RefreshTeamUsage(k.ctx(), unknown.ID) },
		} {
			k.fails(k.InTx(k.ctx(), change), purser.KindNotFound)
		}
	}},
	{name: "teams are counted", alone: true, keep: func(k *kit) {
		equal(k, "teams", get[int64](k)(k.CountTeams(k.ctx())), 1)
		k.newTeam()
		equal(k, "teams", get[int64](k)(k.CountTeams(k.ctx())), 2)
	}},
	{name: "a key is found with its hash, by its id alone", keep: func(k *kit) {
		plain, full := k.key(), k.key()
		full.ExpiresAt = k.now.Add(time.Hour)
		for _, key := range []purser.StoredKey{plain, full} {
			k.do(func(tx *store.Tx) error { return tx.CreateKey(k.ctx(), key) })
			equal(k, "key", get[purser.StoredKey](k)(k.FindKey(k.ctx(), key.ID)), key)
		}
		page := get[purser.Page[purser.APIKey]](k)(k.ListKeys(k.ctx(), k.team, purser.PageRequest{Limit: 1, After: purser.Position{CreatedAt: k.now, ID: "z"}}))
		equal(k, "key", page.Items[0], max2(plain, full).APIKey)
	}},
	{name: "the use of a key is noted and never set back", keep: func(k *kit) {
		key := k.key()
		k.do(func(tx *store.Tx) error { return tx.CreateKey(k.ctx(), key) })
		for _, at := range []time.Time{k.now.Add(time.Minute), k.now} {
			k.do(func(tx *store.Tx) error { return tx.TouchKey(k.ctx(), key.ID, at) })
			equal(k, "last use", get[purser.StoredKey](k)(k.FindKey(k.ctx(), key.ID)).LastUsedAt, k.now.Add(time.Minute))
		}
		k.do(func(tx *store.Tx) error { return tx.TouchKey(k.ctx(), purser.NewKeyID(), k.now) })
	}},
	{name: "a revoked key is gone, and only its own team revokes it", keep: func(k *kit) {
		key, other := k.key(), k.newTeam()
		k.do(func(tx *store.Tx) error { return tx.CreateKey(k.ctx(), key) })
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.DeleteKey(k.ctx(), other, key.ID) }), purser.KindNotFound)
		k.do(func(tx *store.Tx) error { return tx.DeleteKey(k.ctx(), k.team, key.ID) })
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.DeleteKey(k.ctx(), k.team, key.ID) }), purser.KindNotFound)
		_, err := k.FindKey(k.ctx(), key.ID)
		k.fails(err, purser.KindNotFound)
	}},
	{name: "the id of a key is taken once, in all teams", keep: func(k *kit) {
		key := k.key()
		k.do(func(tx *store.Tx) error { return tx.CreateKey(k.ctx(), key) })
		key.TeamID = k.newTeam()
		k.fails(k.InTx(k.ctx(), func(tx *store.Tx) error { return tx.CreateKey(k.ctx(), key) }), purser.KindConflict)
	}},
}

func (k *kit) key() purser.StoredKey {
	return purser.StoredKey{
		APIKey: purser.APIKey{ID: purser.NewKeyID(), TeamID: k.team, Name: "notebook", Role: purser.RoleEditor, CreatedAt: k.now},
		Hash:   []byte("0123456789abcdef0123456789abcdef"),
	}
}

// max2 is the key that a list from the newest to the oldest has first: these two
// are of one age.
func max2(a, b purser.StoredKey) purser.StoredKey {
	if a.ID > b.ID {
		return a
	}
	return b
}
