package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/config"
	"github.com/purserhq/purser/internal/egress"
	"github.com/purserhq/purser/internal/httpapi"
	"github.com/purserhq/purser/internal/metering"
	"github.com/purserhq/purser/internal/posixtree"
	"github.com/purserhq/purser/internal/providers"
	"github.com/purserhq/purser/internal/s3bucket"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/teams"
	"github.com/purserhq/purser/internal/utilization"
)

// opened is what a server needs from outside itself: its data and its key.
type opened struct {
	store   *store.Store
	keyring *seal.Keyring
	policy  *egress.Policy
}

// open opens the database and the keyring. Nothing is served unless both belong
// together.
func open(ctx context.Context, c config.Server, log *slog.Logger) (_ *opened, err error) {
	policy, err := newPolicy(c.EgressAllow)
	if err != nil {
		return nil, err
	}
	s, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	keyFile := c.SealKeyFile
	if keyFile == "" {
		keyFile = filepath.Join(c.DataDir, "seal.key")
	}
	keyring, err := seal.Open(ctx, seal.Options{Keysets: s, KeyFile: keyFile, Logger: log})
	if err != nil {
		_ = s.Close() // nothing was written that matters
		return nil, err
	}
	return &opened{store: s, keyring: keyring, policy: policy}, nil
}

func openStore(ctx context.Context, c config.Server) (*store.Store, error) {
	if c.DatabaseURL.IsZero() {
		return store.OpenSQLite(ctx, c.DataDir, metering.Migrate)
	}
	if err := store.PrepareDir(c.DataDir); err != nil {
		return nil, err
	}
	return store.OpenPostgres(ctx, c.DatabaseURL.Expose(), metering.Migrate)
}

func newPolicy(allow []string) (*egress.Policy, error) {
	rules := make([]egress.Rule, 0, len(allow))
	for _, text := range allow {
		rule, err := egress.ParseRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return egress.New(rules)
}

// app is a server that is ready to run.
type app struct {
	api      *httpapi.Server
	metering *metering.Service
	teams    *teams.Service
	verifier *auth.Verifier
	metrics  *metrics
}

// wire says who gets what.
func wire(c config.Server, o *opened, log *slog.Logger) (*app, error) {
	m := newMetrics(o.keyring.Uses)
	sites := purser.NewSites(c.Sites...)
	changes := change.NewMaker(o.store, o.keyring, time.Now)
	life := auth.LifeShared
	if o.store.Dialect() == store.SQLite {
		life = auth.LifeSole
	}
	verifier := auth.NewVerifier(o.store, time.Now, life)

	teamService := teams.New(teams.Options{
		Store: o.store, Changes: changes, DefaultFreeStorage: c.DefaultFreeStorage, Forget: verifier.Forget,
	})
	providerService := providers.New(providers.Options{
		Store: o.store, Changes: changes, Sealer: o.keyring, Sites: sites, CheckAddress: o.policy.CheckURL,
	})
	utilizationService := utilization.New(utilization.Options{
		Store: o.store, Changes: changes, ScanInterval: c.ScanInterval, RequestsPerDay: c.ScanRequestsPerDay, Now: time.Now,
	})
	buckets := s3bucket.New(o.policy, egress.Options{})
	meteringService, err := metering.New(metering.Options{
		Store: o.store, Changes: changes, Opener: o.keyring,
		OpenBucket: buckets.Open, SurveyBucket: buckets.Survey, OpenTree: posixtree.New(log).Open,
		Sites: sites, Trees: c.Trees, ScanInterval: c.ScanInterval, RequestsPerDay: c.ScanRequestsPerDay, Logger: log,
		Observer: metering.Observer{ScanEnded: m.observeScan, SliceBegan: m.running.Inc, SliceEnded: m.observeSlice},
	})
	if err != nil {
		return nil, err
	}
	api, err := httpapi.New(httpapi.Options{
		Providers: providerService, Utilization: utilizationService, Scans: meteringService, Teams: teamService,
		Verifier: verifier, MAC: o.keyring, Logger: log, Observe: m.observeRequest,
	})
	if err != nil {
		return nil, err
	}
	return &app{api: api, metering: meteringService, teams: teamService, verifier: verifier, metrics: m}, nil
}
