package client

import (
	"context"

	"github.com/go-faster/jx"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// Session says whom an API key belongs to.
type Session struct {
	// Key has the id, the name and the age of the API key.
	Key purser.APIKey
	// Team has the id, the names and the age of its team.
	Team purser.Team
	// Owner is set if the key may manage the team's keys.
	Owner bool
}

// AccountStanding says whether the account may create things.
type AccountStanding struct {
	Good     bool     // it may
	Locked   bool     // the operator has locked it
	Messages []string // why it may not
}

// Session returns whom the client's API key belongs to: the zero Session if the
// client has none.
func (c *Client) Session(ctx context.Context) (Session, error) {
	answer, err := c.api.AuthSession(ctx)
	return result(answer, err, fromSession)
}

// AccountStanding returns whether the account may create things.
func (c *Client) AccountStanding(ctx context.Context) (AccountStanding, error) {
	answer, err := c.api.BillingAccountStandingGet(ctx)
	return result(answer, err, func(a *oas.AccountStanding) (AccountStanding, error) {
		return AccountStanding{Good: a.IsInGoodStanding, Locked: a.IsAdminLocked, Messages: a.Messages}, nil
	})
}

// Health returns nil if the server answers.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.api.Health(ctx)
	if err != nil {
		return failure(err)
	}
	return nil
}

// OpenAPI returns the server's own description of its API, as JSON.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	answer, err := c.api.Openapi(ctx)
	return result(answer, err, func(raw jx.Raw) ([]byte, error) { return raw, nil })
}
