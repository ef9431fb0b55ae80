package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/metering"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
)

// target is somebody to ask for something.
type target struct{ key, provider string }

// seed fills a data directory through the store, for it is not the filling that
// is measured. No bucket is due, so that nothing else goes on.
func seed(ctx context.Context, dir string, teams, providers int) (targets []target, err error) {
	s, err := store.OpenSQLite(ctx, dir, metering.Migrate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	keyring, err := seal.Open(ctx, seal.Options{Keysets: s, KeyFile: filepath.Join(dir, "seal.key")})
	if err != nil {
		return nil, err
	}
	for i := range teams {
		made, err := seedTeam(ctx, s, keyring, i, providers)
		if err != nil {
			return nil, err
		}
		targets = append(targets, made...)
	}
	return targets, nil
}

func seedTeam(ctx context.Context, s *store.Store, keyring *seal.Keyring, number, providers int) (targets []target, err error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	name := fmt.Sprintf("team-%05d", number)
	team := purser.Team{ID: purser.NewTeamID(), Name: name, Namespace: name, TotalFreeStorage: 5 << 30, CreatedAt: now}
	id, token, hash := auth.NewKey()
	key := purser.StoredKey{APIKey: purser.APIKey{ID: id, TeamID: team.ID, Name: name, Role: purser.RoleOwner, CreatedAt: now}, Hash: hash}
	err = s.InTx(ctx, func(tx *store.Tx) error {
		targets = nil
		if err := errors.Join(tx.CreateTeam(ctx, team), tx.CreateKey(ctx, key)); err != nil {
			return err
		}
		for i := range providers {
			p := purser.Provider{
				ID: purser.NewProviderID(), TeamID: team.ID, Name: fmt.Sprintf("Training data %d", i), Version: 1,
				S3:        purser.S3Config{Endpoint: "https://s3.example.com", Bucket: "training-data", AccessKey: "AKIAIOSFODNN7EXAMPLE", RetainData: true},
				CreatedAt: now.Add(time.Duration(i) * time.Millisecond), UpdatedAt: now,
			}
			sealed, err := keyring.Seal(purser.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
				seal.Binding{Team: team.ID, Provider: p.ID, Field: seal.SecretAccessKey, Version: 1})
			if err != nil {
				return err
			}
			source := store.Source{TeamID: team.ID, ID: purser.NewSourceID(), ProviderID: p.ID, DueAt: now.AddDate(1, 0, 0)}
			if err := errors.Join(tx.CreateProvider(ctx, p, sealed), tx.CreateSource(ctx, source)); err != nil {
				return err
			}
			targets = append(targets, target{token.Expose(), string(p.ID)})
		}
		return nil
	})
	return targets, err
}
