package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/purserhq/purser"
)

// reads are the questions that a Store and a transaction both answer.
type reads struct{ run runner }

// Credential is a provider's secret as it is stored.
type Credential struct {
	Sealed []byte
	// Version of the secret; it is part of what the seal binds.
	Version int64
	// DetectedRegion is the signing region that the last scan found; empty when
	// unknown.
	DetectedRegion string
}

func noProvider(op string) error { return purser.NotFound("store."+op, "storage provider") }

// GetProvider returns a team's provider; KindNotFound if the team has none with
// this id.
func (r reads) GetProvider(ctx context.Context, team purser.TeamID, id purser.ProviderID) (purser.Provider, error) {
	return one(ctx, r.run, scanProvider, noProvider, "GetProvider", string(team), string(id))
}

// ListProviders returns a page of a team's providers.
func (r reads) ListProviders(ctx context.Context, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.Provider], error) {
	return list(ctx, r.run, scanProvider, func(p purser.Provider) purser.Position {
		return purser.Position{CreatedAt: p.CreatedAt, ID: string(p.ID)}
	}, "ListProviders", page, string(team))
}

// GetCredential returns the sealed secret of a provider.
func (r reads) GetCredential(ctx context.Context, team purser.TeamID, id purser.ProviderID) (Credential, error) {
	return one(ctx, r.run, func(row scanner) (c Credential, err error) {
		err = row.Scan(&c.Sealed, &c.Version, &c.DetectedRegion)
		return c, err
	}, noProvider, "GetCredential", string(team), string(id))
}

// GetMeteringRules returns a provider's own rules; none means the default ones.
func (r reads) GetMeteringRules(ctx context.Context, team purser.TeamID, id purser.ProviderID) ([]purser.MeteringRule, error) {
	return one(ctx, r.run, func(row scanner) (rules []purser.MeteringRule, err error) {
		var text string
		if err := row.Scan(&text); err != nil {
			return nil, err
		}
		err = json.Unmarshal([]byte(text), &rules)
		return rules, err
	}, noProvider, "GetMeteringRules", string(team), string(id))
}

// CreateProvider stores a new provider and its sealed secret, version 1.
func (t *Tx) CreateProvider(ctx context.Context, p purser.Provider, sealed []byte) error {
	return run(ctx, t.run, "CreateProvider", string(p.TeamID), string(p.ID), p.Name, p.Managed, p.TeamDefault,
		nullText(p.S3.Endpoint), p.S3.Bucket, p.S3.AccessKey, nullText(p.S3.Region), p.S3.RetainData,
		nullText(p.S3.SignatureVersion), sealed, int64(1), p.Version, toMicros(p.CreatedAt), toMicros(p.UpdatedAt))
}

// UpdateProvider replaces what users may change of a provider.
func (t *Tx) UpdateProvider(ctx context.Context, p purser.Provider) error {
	return mustChange(ctx, t.run, noProvider, "UpdateProvider", string(p.TeamID), string(p.ID), p.Name, p.TeamDefault,
		nullText(p.S3.Endpoint), p.S3.Bucket, p.S3.AccessKey, nullText(p.S3.Region), p.S3.RetainData,
		nullText(p.S3.SignatureVersion), p.Version, toMicros(p.UpdatedAt))
}

// SetProviderSecret replaces the sealed secret, and forgets the signing region
// that was found with the old one.
func (t *Tx) SetProviderSecret(ctx context.Context, team purser.TeamID, id purser.ProviderID, sealed []byte, version int64) error {
	return mustChange(ctx, t.run, noProvider, "SetProviderSecret", string(team), string(id), sealed, version)
}

// SetDetectedRegion remembers the signing region of a provider's bucket, unless
// the provider has changed since version.
func (t *Tx) SetDetectedRegion(ctx context.Context, team purser.TeamID, id purser.ProviderID, region string, version int64) error {
	return run(ctx, t.run, "SetDetectedRegion", string(team), string(id), region, version)
}

// ClearTeamDefault takes the mark of the team's default from every provider but
// keep. The marked one gets a new version.
func (t *Tx) ClearTeamDefault(ctx context.Context, team purser.TeamID, keep purser.ProviderID, now time.Time) error {
	return run(ctx, t.run, "ClearTeamDefault", string(team), string(keep), toMicros(now))
}

// DeleteProvider deletes a provider. Its source must be gone before.
func (t *Tx) DeleteProvider(ctx context.Context, team purser.TeamID, id purser.ProviderID) error {
	return mustChange(ctx, t.run, noProvider, "DeleteProvider", string(team), string(id))
}

// SetMeteringRules replaces a provider's own rules and gives it a new version.
func (t *Tx) SetMeteringRules(ctx context.Context, team purser.TeamID, id purser.ProviderID, rules []purser.MeteringRule, now time.Time) error {
	text, err := json.Marshal(append([]purser.MeteringRule{}, rules...)) // [] rather than null
	if err != nil {
		return convertError(err)
	}
	return mustChange(ctx, t.run, noProvider, "SetMeteringRules", string(team), string(id), string(text), toMicros(now))
}

func scanProvider(row scanner) (p purser.Provider, err error) {
	var endpoint, region, signature sql.NullString
	var created, updated int64
	err = row.Scan(&p.ID, &p.TeamID, &p.Name, &p.Managed, &p.TeamDefault, &endpoint, &p.S3.Bucket, &p.S3.AccessKey, &region,
		&p.S3.RetainData, &signature, &p.Version, &created, &updated)
	p.S3.Endpoint, p.S3.Region, p.S3.SignatureVersion = endpoint.String, region.String, signature.String
	p.CreatedAt, p.UpdatedAt = fromMicros(created), fromMicros(updated)
	return p, err
}
