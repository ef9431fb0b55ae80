package providers

import (
	"context"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/seal"
)

// Create registers a bucket. Nothing connects to it here: its first measurement,
// which is due at once, shows whether the credentials work.
func (s *Service) Create(ctx context.Context, p auth.Principal, d purser.ProviderDraft) (purser.Provider, error) {
	d = trimmed(d)
	c := change.Change{Action: "provider.create", Permission: auth.Edit, Fields: createdFields(d)}
	return change.Make(ctx, s.changes, p, c, func(tx change.Tx) (purser.Provider, error) {
		provider := purser.Provider{
			ID: purser.NewProviderID(), TeamID: p.TeamID, Name: d.Name, TeamDefault: d.TeamDefault, S3: d.S3,
			Version: 1, CreatedAt: tx.Now, UpdatedAt: tx.Now,
		}
		tx.Event.Target = string(provider.ID)
		sealed, err := s.sealer.Seal(d.Secret, binding(provider, 1))
		if err != nil {
			return provider, err
		}
		if err := takeDefault(ctx, tx, provider); err != nil {
			return provider, err
		}
		if err := tx.CreateProvider(ctx, provider, sealed); err != nil {
			return provider, err
		}
		return provider, tx.CreateSource(ctx, newSource(provider, tx.Now))
	})
}

// Update replaces a provider if match, called within the transaction, agrees; a
// nil match is no condition.
//
// Errors: KindInvalid when the place changes and no secret is given, since the
// stored one must not follow; KindPermissionDenied for what teams may not change
// of a managed provider; KindPreconditionFailed when match disagrees.
func (s *Service) Update(ctx context.Context, p auth.Principal, id purser.ProviderID, d purser.ProviderDraft, match func(purser.Provider) bool) (purser.Provider, error) {
	d = trimmed(d)
	c := change.Change{Action: "provider.update", Permission: auth.Edit, Target: string(id)}
	return change.Make(ctx, s.changes, p, c, func(tx change.Tx) (purser.Provider, error) {
		before, err := current(ctx, tx, p.TeamID, id, match)
		if err != nil {
			return before, err
		}
		if err := checkUpdate(before, d); err != nil {
			return before, err
		}
		after := before
		after.Name, after.TeamDefault, after.S3 = d.Name, d.TeamDefault, d.S3
		after.Version, after.UpdatedAt = before.Version+1, tx.Now
		tx.Event.Fields = changedFields(before, after, d.Secret)
		if err := takeDefault(ctx, tx, after); err != nil {
			return after, err
		}
		if err := tx.UpdateProvider(ctx, after); err != nil {
			return after, err
		}
		return after, s.follow(ctx, tx, before, after, d.Secret)
	})
}

// checkUpdate holds a change against the rules that need to know what is there.
func checkUpdate(before purser.Provider, d purser.ProviderDraft) error {
	const op = "providers.Update"
	if before.Managed && (d.S3 != before.S3 || !d.Secret.IsZero()) {
		return errManaged(op)
	}
	if d.Secret.IsZero() && !before.S3.SameLocation(d.S3) {
		return purser.Invalid(op, purser.Faults{
			"/s3Config/secretAccessKey": "is required when endpoint, region, bucket or accessKey changes: the stored secret is for the old place only",
		})
	}
	return nil
}

// follow brings secret and measurements in line with a changed provider.
func (s *Service) follow(ctx context.Context, tx change.Tx, before, after purser.Provider, secret purser.Secret) error {
	if !secret.IsZero() {
		if err := s.reseal(ctx, tx, after, secret); err != nil {
			return err
		}
	}
	if secret.IsZero() && before.S3 == after.S3 {
		return nil // only what people see has changed
	}
	if err := measureAnew(ctx, tx, after); err != nil {
		return err
	}
	source, err := tx.GetSourceOfProvider(ctx, after.TeamID, after.ID)
	if err != nil {
		return err
	}
	asked := before.S3 // what the bucket is asked with, and for
	asked.RetainData = after.S3.RetainData
	if !secret.IsZero() || asked != after.S3 {
		if err := tx.ForgetHealth(ctx, after.TeamID, source.ID); err != nil {
			return err
		}
	}
	if before.S3.SamePlace(after.S3) {
		return nil
	}
	// The figures of the old place say nothing about the new one.
	if err := tx.ResetSource(ctx, after.TeamID, source.ID); err != nil {
		return err
	}
	return tx.RefreshTeamUsage(ctx, after.TeamID)
}

// reseal stores a new secret under the next version, so that the old one cannot
// be put back in its place.
func (s *Service) reseal(ctx context.Context, tx change.Tx, p purser.Provider, secret purser.Secret) error {
	stored, err := tx.GetCredential(ctx, p.TeamID, p.ID)
	if err != nil {
		return err
	}
	sealed, err := s.sealer.Seal(secret, binding(p, stored.Version+1))
	if err != nil {
		return err
	}
	return tx.SetProviderSecret(ctx, p.TeamID, p.ID, sealed, stored.Version+1)
}

// takeDefault makes room for a new default of the team.
func takeDefault(ctx context.Context, tx change.Tx, p purser.Provider) error {
	if !p.TeamDefault {
		return nil
	}
	return tx.ClearTeamDefault(ctx, p.TeamID, p.ID, tx.Now)
}

// binding is what the seal of a provider's secret is bound to.
func binding(p purser.Provider, version int64) seal.Binding {
	return seal.Binding{Team: p.TeamID, Provider: p.ID, Field: seal.SecretAccessKey, Version: version}
}

// field is a part of a provider as the contract names it, for the audit record.
type field struct {
	name    string
	changed bool
}

func names(fields []field) []string {
	var list []string
	for _, f := range fields {
		if f.changed {
			list = append(list, f.name)
		}
	}
	return list
}

func createdFields(d purser.ProviderDraft) []string {
	return changedFields(purser.Provider{}, purser.Provider{Name: d.Name, TeamDefault: d.TeamDefault, S3: d.S3}, d.Secret)
}

func changedFields(before, after purser.Provider, secret purser.Secret) []string {
	a, b := before.S3, after.S3
	return names([]field{
		{"name", before.Name != after.Name},
		{"isTeamDefault", before.TeamDefault != after.TeamDefault},
		{"accessKey", a.AccessKey != b.AccessKey},
		{"bucket", a.Bucket != b.Bucket},
		{"endpoint", a.Endpoint != b.Endpoint},
		{"region", a.Region != b.Region},
		{"retainData", a.RetainData != b.RetainData},
		{"secretAccessKey", !secret.IsZero()},
		{"signatureVersion", a.SignatureVersion != b.SignatureVersion},
	})
}
