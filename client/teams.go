package client

import (
	"context"
	"iter"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// ListTeams returns one page of all teams. It is for operators, as are the
// other methods for teams.
func (c *Client) ListTeams(ctx context.Context, o ListOptions) (Page[purser.Team], error) {
	page, err := c.api.TeamsList(ctx, oas.TeamsListParams{After: o.after(), Limit: o.limit(), Order: o.order()})
	return result(page, err, func(p *oas.TeamPage) (Page[purser.Team], error) {
		return toPage(p.Items, p.NextPage, fromTeam)
	})
}

// EachTeam goes through all teams.
func (c *Client) EachTeam(ctx context.Context, o ListOptions) iter.Seq2[purser.Team, error] {
	return each(ctx, o, c.ListTeams)
}

// GetTeam returns a team.
func (c *Client) GetTeam(ctx context.Context, id purser.TeamID) (purser.Team, error) {
	answer, err := c.api.TeamsGet(ctx, oas.TeamsGetParams{ID: pathID(id)})
	return result(answer, err, fromTeamAnswer)
}

// CreateTeam creates a team.
func (c *Client) CreateTeam(ctx context.Context, d purser.TeamDraft) (purser.Team, error) {
	answer, err := c.api.TeamsCreate(ctx, toTeam(d), oas.TeamsCreateParams{IdempotencyKey: oas.NewOptString(newChange())})
	return result(answer, err, fromTeamAnswer)
}

// UpdateTeam replaces a team by what d says.
func (c *Client) UpdateTeam(ctx context.Context, id purser.TeamID, d purser.TeamDraft) (purser.Team, error) {
	answer, err := c.api.TeamsUpdate(ctx, toTeam(d), oas.TeamsUpdateParams{ID: pathID(id)})
	return result(answer, err, fromTeamAnswer)
}

func fromTeamAnswer(t *oas.Team) (purser.Team, error) { return fromTeam(*t) }

// ListKeys returns one page of the API keys of a team; "" is the caller's own,
// others are for operators. It is for owners, as are the other methods for keys.
func (c *Client) ListKeys(ctx context.Context, team purser.TeamID, o ListOptions) (Page[purser.APIKey], error) {
	page, err := c.api.ApiKeysList(ctx, oas.ApiKeysListParams{
		TeamId: oas.OptString{Value: string(team), Set: team != ""},
		After:  o.after(), Limit: o.limit(), Order: o.order(),
	})
	return result(page, err, func(p *oas.ApiKeyPage) (Page[purser.APIKey], error) {
		return toPage(p.Items, p.NextPage, fromKey)
	})
}

// EachKey goes through all API keys of a team.
func (c *Client) EachKey(ctx context.Context, team purser.TeamID, o ListOptions) iter.Seq2[purser.APIKey, error] {
	return each(ctx, o, func(ctx context.Context, o ListOptions) (Page[purser.APIKey], error) {
		return c.ListKeys(ctx, team, o)
	})
}

// CreateKey creates an API key and returns what is known about it, and the key
// itself. Nobody can get the key again.
func (c *Client) CreateKey(ctx context.Context, d purser.KeyDraft) (purser.APIKey, purser.Secret, error) {
	answer, err := c.api.ApiKeysCreate(ctx, toKey(d), oas.ApiKeysCreateParams{IdempotencyKey: oas.NewOptString(newChange())})
	if err != nil {
		return purser.APIKey{}, purser.Secret{}, failure(err)
	}
	key, err := fromKeyCreated(answer)
	return key, purser.NewSecret(answer.Key), err
}

// RevokeKey makes an API key worthless, everywhere within one second.
func (c *Client) RevokeKey(ctx context.Context, id purser.KeyID) error {
	_, err := c.api.ApiKeysDelete(ctx, oas.ApiKeysDeleteParams{ID: pathID(id)})
	return deleted(err)
}

// ListAuditEvents returns one page of the record of who changed, or was
// refused, what: an owner's own team's, an operator's of all teams.
func (c *Client) ListAuditEvents(ctx context.Context, o ListOptions) (Page[purser.AuditEvent], error) {
	page, err := c.api.AuditEventsList(ctx, oas.AuditEventsListParams{After: o.after(), Limit: o.limit(), Order: o.order()})
	return result(page, err, func(p *oas.AuditEventPage) (Page[purser.AuditEvent], error) {
		return toPage(p.Items, p.NextPage, fromAuditEvent)
	})
}

// EachAuditEvent goes through the whole record.
func (c *Client) EachAuditEvent(ctx context.Context, o ListOptions) iter.Seq2[purser.AuditEvent, error] {
	return each(ctx, o, c.ListAuditEvents)
}
