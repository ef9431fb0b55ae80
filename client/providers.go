package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// ETag names one state of a provider. It is the server's affair what is in it.
type ETag string

// Condition is what must hold for a change to be made.
type Condition struct{ ifMatch string }

// IfMatch is the condition that the provider is still the one that tag names;
// otherwise the change fails with an error of which IsChanged is true.
func IfMatch(tag ETag) Condition { return Condition{ifMatch: string(tag)} }

func ifMatch(conditions []Condition) oas.OptString {
	for _, c := range conditions {
		if c.ifMatch != "" {
			return oas.NewOptString(c.ifMatch)
		}
	}
	return oas.OptString{}
}

// ListProviders returns one page of the team's providers.
func (c *Client) ListProviders(ctx context.Context, o ListOptions) (Page[purser.Provider], error) {
	page, err := c.api.StorageProvidersList(ctx, oas.StorageProvidersListParams{After: o.after(), Limit: o.limit(), Order: o.order()})
	return result(page, err, func(p *oas.StorageProviderPage) (Page[purser.Provider], error) {
		return toPage(p.Items, p.NextPage, fromProvider)
	})
}

// EachProvider goes through all of the team's providers.
func (c *Client) EachProvider(ctx context.Context, o ListOptions) iter.Seq2[purser.Provider, error] {
	return each(ctx, o, c.ListProviders)
}

// GetProvider returns a provider and the name of its present state.
func (c *Client) GetProvider(ctx context.Context, id purser.ProviderID) (purser.Provider, ETag, error) {
	answer, err := c.api.StorageProvidersGet(ctx, oas.StorageProvidersGetParams{ID: pathID(id)})
	return tagged(answer, err)
}

// CreateProvider registers a bucket. Its first scan starts by itself.
func (c *Client) CreateProvider(ctx context.Context, d purser.ProviderDraft) (purser.Provider, ETag, error) {
	request, err := toProviderCreate(d)
	if err != nil {
		return purser.Provider{}, "", err
	}
	answer, err := c.api.StorageProvidersCreate(ctx, request, oas.StorageProvidersCreateParams{IdempotencyKey: oas.NewOptString(newChange())})
	return tagged(answer, err)
}

// UpdateProvider replaces a provider by what d says. A zero d.Secret keeps the
// stored one, which is only possible if the place stays the same
// (purser.S3Config.SameLocation).
func (c *Client) UpdateProvider(ctx context.Context, id purser.ProviderID, d purser.ProviderDraft, conditions ...Condition) (purser.Provider, ETag, error) {
	request, err := toProviderUpdate(d)
	if err != nil {
		return purser.Provider{}, "", err
	}
	answer, err := c.api.StorageProvidersUpdate(ctx, request, oas.StorageProvidersUpdateParams{ID: pathID(id), IfMatch: ifMatch(conditions)})
	if e := failure(err); err != nil && e.repeated && IsChanged(e) {
		e.Message = "The provider has changed, perhaps by this very request: the answer to its first attempt was lost. Read it again."
	}
	return tagged(answer, err)
}

// DeleteProvider deletes a provider.
func (c *Client) DeleteProvider(ctx context.Context, id purser.ProviderID, conditions ...Condition) error {
	_, err := c.api.StorageProvidersDelete(ctx, oas.StorageProvidersDeleteParams{ID: pathID(id), IfMatch: ifMatch(conditions)})
	return deleted(err)
}

// MeteringRules returns the provider's own rules for what counts as what; none
// means the default rules.
func (c *Client) MeteringRules(ctx context.Context, id purser.ProviderID) ([]purser.MeteringRule, error) {
	answer, err := c.api.MeteringGet(ctx, oas.MeteringGetParams{ID: pathID(id)})
	return result(answer, err, fromMetering)
}

// SetMeteringRules replaces the provider's own rules; none restores the default
// rules. A new scan starts at once.
func (c *Client) SetMeteringRules(ctx context.Context, id purser.ProviderID, rules []purser.MeteringRule) ([]purser.MeteringRule, error) {
	answer, err := c.api.MeteringUpdate(ctx, toMetering(rules), oas.MeteringUpdateParams{ID: pathID(id)})
	return result(answer, err, fromMetering)
}

// ProviderUsage returns the newest complete measurement of a provider's bucket.
func (c *Client) ProviderUsage(ctx context.Context, id purser.ProviderID) (purser.SourceUsage, error) {
	answer, err := c.api.StorageProvidersUtilization(ctx, oas.StorageProvidersUtilizationParams{ID: pathID(id)})
	return result(answer, err, fromProviderUtilization)
}

// ProviderHealth returns whether a provider's bucket could be read lately.
func (c *Client) ProviderHealth(ctx context.Context, id purser.ProviderID) (purser.Health, error) {
	answer, err := c.api.StorageProvidersHealth(ctx, oas.StorageProvidersHealthParams{ID: pathID(id)})
	return result(answer, err, fromProviderHealth)
}

// Utilization returns the team's usage against its plan.
func (c *Client) Utilization(ctx context.Context) (purser.Utilization, error) {
	answer, err := c.api.StorageUtilizationGetPublic(ctx)
	return result(answer, err, fromUtilization)
}

// History returns what the team, or one provider, stored in the course of time.
func (c *Client) History(ctx context.Context, q purser.HistoryRequest) (purser.History, error) {
	answer, err := c.api.StorageUtilizationHistory(ctx, oas.StorageUtilizationHistoryParams{
		From:       oas.OptDateTime{Value: q.From.UTC(), Set: !q.From.IsZero()},
		To:         oas.OptDateTime{Value: q.To.UTC(), Set: !q.To.IsZero()},
		Step:       oas.OptStorageUtilizationHistoryStep{Value: oas.StorageUtilizationHistoryStep(q.Step), Set: q.Step != ""},
		ProviderId: oas.OptString{Value: string(q.Provider), Set: q.Provider != ""},
	})
	return result(answer, err, fromHistory)
}

func tagged(answer *oas.StorageProviderHeaders, err error) (purser.Provider, ETag, error) {
	if err != nil {
		return purser.Provider{}, "", failure(err)
	}
	provider, err := fromProvider(answer.Response)
	return provider, ETag(answer.ETag), err
}

// deleted is the result of a deletion. That a thing is not there when the
// deletion is repeated means that the first try did its work.
func deleted(err error) error {
	if err == nil {
		return nil
	}
	e := failure(err)
	if e.Status == http.StatusNotFound && e.repeated {
		return nil
	}
	return e
}

// malformedID stands for every id that is none.
const malformedID = "malformed"

// pathID returns id for use in a path. What has not the form of an id would
// lead to another path, such as that of the list; the server knows nothing by
// this name and says so.
func pathID[ID ~string](id ID) string {
	if purser.ValidID(string(id)) {
		return string(id)
	}
	return malformedID
}
