// Package providers holds the rules for storage providers: who may register,
// change and delete them, when a stored secret may be kept, which one is the
// team's default, and what happens to the figures of a bucket that moves.
//
// It leaves the form of requests to the caller, and measuring to package
// metering. What always holds: a team has one default provider or none; a
// stored secret is only ever used with the place it was given for; reading a
// provider opens no secret.
package providers

import (
	"context"
	"strings"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
)

// Sealer seals secrets for the place they belong to.
type Sealer interface {
	Seal(secret purser.Secret, b seal.Binding) ([]byte, error)
}

// Options are the parts of a Service; all are needed.
type Options struct {
	Store   *store.Store
	Changes *change.Maker
	Sealer  Sealer
	Sites   purser.Sites
	// CheckAddress says what is wrong with the address in an endpoint by the
	// operator's rules for connections, or returns "".
	CheckAddress func(endpoint string) string
}

// Service is the service for storage providers. It is safe for concurrent use.
type Service struct {
	store        *store.Store
	changes      *change.Maker
	sealer       Sealer
	sites        purser.Sites
	checkAddress func(string) string
}

// New makes a Service.
func New(o Options) *Service {
	return &Service{store: o.Store, changes: o.Changes, sealer: o.Sealer, sites: o.Sites, checkAddress: o.CheckAddress}
}

// CheckEndpoint says what is wrong with the address of an S3 service, in form or
// by the operator's rules, or returns "".
func (s *Service) CheckEndpoint(endpoint string) string {
	if sentence := purser.CheckEndpoint(endpoint); sentence != "" {
		return sentence
	}
	return s.checkAddress(endpoint)
}

// CheckSite says what is wrong with the name of a site, or returns "".
func (s *Service) CheckSite(name string) string { return s.sites.Check(name) }

// List returns a page of the team's providers.
func (s *Service) List(ctx context.Context, p auth.Principal, page purser.PageRequest) (purser.Page[purser.Provider], error) {
	if err := s.changes.Permit(ctx, p, auth.Read, "provider.list", ""); err != nil {
		return purser.Page[purser.Provider]{}, err
	}
	return s.store.ListProviders(ctx, p.TeamID, page)
}

// Get returns one of the team's providers.
func (s *Service) Get(ctx context.Context, p auth.Principal, id purser.ProviderID) (purser.Provider, error) {
	if err := s.changes.Permit(ctx, p, auth.Read, "provider.get", string(id)); err != nil {
		return purser.Provider{}, err
	}
	return s.store.GetProvider(ctx, p.TeamID, id)
}

// Delete deletes a provider and what was measured of it; the objects in the
// bucket stay as they are. It obeys match as Update does.
func (s *Service) Delete(ctx context.Context, p auth.Principal, id purser.ProviderID, match func(purser.Provider) bool) error {
	c := change.Change{Action: "provider.delete", Permission: auth.Edit, Target: string(id)}
	_, err := change.Make(ctx, s.changes, p, c, func(tx change.Tx) (struct{}, error) {
		provider, err := current(ctx, tx, p.TeamID, id, match)
		if err != nil {
			return struct{}{}, err
		}
		if provider.Managed {
			return struct{}{}, errManaged("providers.Delete")
		}
		source, err := stopMeasuring(ctx, tx, provider)
		if err != nil {
			return struct{}{}, err
		}
		if err := tx.DeleteSource(ctx, p.TeamID, source.ID); err != nil {
			return struct{}{}, err
		}
		if err := tx.DeleteProvider(ctx, p.TeamID, id); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, tx.RefreshTeamUsage(ctx, p.TeamID)
	})
	return err
}

// MeteringRules returns a provider's own rules; none means the default ones.
func (s *Service) MeteringRules(ctx context.Context, p auth.Principal, id purser.ProviderID) ([]purser.MeteringRule, error) {
	if err := s.changes.Permit(ctx, p, auth.Read, "metering.get", string(id)); err != nil {
		return nil, err
	}
	return s.store.GetMeteringRules(ctx, p.TeamID, id)
}

// SetMeteringRules replaces a provider's own rules and has it measured anew by
// them; until then the old figures stand.
func (s *Service) SetMeteringRules(ctx context.Context, p auth.Principal, id purser.ProviderID, rules []purser.MeteringRule) ([]purser.MeteringRule, error) {
	c := change.Change{Action: "metering.update", Permission: auth.Edit, Target: string(id), Fields: []string{"rules"}}
	return change.Make(ctx, s.changes, p, c, func(tx change.Tx) ([]purser.MeteringRule, error) {
		provider, err := tx.GetProvider(ctx, p.TeamID, id)
		if err != nil {
			return nil, err
		}
		if err := tx.SetMeteringRules(ctx, p.TeamID, id, rules, tx.Now); err != nil {
			return nil, err
		}
		return rules, measureAnew(ctx, tx, provider)
	})
}

// current returns the provider if it is as the caller expects.
func current(ctx context.Context, tx change.Tx, team purser.TeamID, id purser.ProviderID, match func(purser.Provider) bool) (purser.Provider, error) {
	provider, err := tx.GetProvider(ctx, team, id)
	if err != nil {
		return provider, err
	}
	if match != nil && !match(provider) {
		return provider, purser.Errorf(purser.KindPreconditionFailed, "providers.current",
			"The storage provider has changed since you read it; read it again and decide anew.")
	}
	return provider, nil
}

// stopMeasuring ends the scan of a provider's bucket that is under way, if there
// is one, and returns the bucket's source.
func stopMeasuring(ctx context.Context, tx change.Tx, p purser.Provider) (store.Source, error) {
	source, err := tx.GetSourceOfProvider(ctx, p.TeamID, p.ID)
	if err != nil {
		return source, err
	}
	scan, err := tx.GetRunningScan(ctx, p.TeamID, source.ID)
	if purser.KindOf(err) == purser.KindNotFound {
		return source, nil
	}
	if err != nil {
		return source, err
	}
	_, err = tx.EndScan(ctx, p.TeamID, scan.ID, purser.ScanCancelled, &purser.ScanError{
		Code:    purser.ScanCodeChanged,
		Message: "The storage provider was changed or deleted while it was measured.",
		Hint:    "Nothing needs to be done: a provider that is still there is measured anew.",
	}, tx.Now)
	return source, err
}

// measureAnew has a provider's bucket measured from the beginning, now.
func measureAnew(ctx context.Context, tx change.Tx, p purser.Provider) error {
	source, err := stopMeasuring(ctx, tx, p)
	if err != nil {
		return err
	}
	return tx.SetDue(ctx, p.TeamID, source.ID, tx.Now)
}

// newSource is the source of a new provider: due at once, so that the first
// measurement shows whether the credentials work.
func newSource(p purser.Provider, now time.Time) store.Source {
	return store.Source{TeamID: p.TeamID, ID: purser.NewSourceID(), ProviderID: p.ID, DueAt: now}
}

func errManaged(op string) error {
	return purser.Errorf(purser.KindPermissionDenied, op,
		"This storage provider is managed by the operator; only its name and whether it is the default may be changed.")
}

// trimmed returns the draft with its name as it is stored.
func trimmed(d purser.ProviderDraft) purser.ProviderDraft {
	d.Name = strings.TrimSpace(d.Name)
	return d
}
