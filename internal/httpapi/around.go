package httpapi

import (
	"context"

	"github.com/go-faster/jx"

	"github.com/purserhq/purser/api"
	"github.com/purserhq/purser/internal/oas"
)

// AuthSession answers GET /auth/session: null for nobody.
func (h *handlers) AuthSession(ctx context.Context) (oas.NilSession, error) {
	principal := callFrom(ctx).principal
	if principal.KeyID == "" {
		return oas.NilSession{Null: true}, nil
	}
	team, key, err := h.teams.Session(ctx, principal)
	if err != nil {
		return oas.NilSession{}, err
	}
	return oas.NewNilSession(toSession(team, key)), nil
}

// BillingAccountStandingGet answers GET /billing/account-standing. Purser bills
// nobody, so the standing is always good.
func (*handlers) BillingAccountStandingGet(context.Context) (*oas.AccountStanding, error) {
	return &oas.AccountStanding{HasPaymentMethod: true, IsInGoodStanding: true, Messages: []string{}}, nil
}

// Health answers GET /health: that it answers is the answer.
func (*handlers) Health(context.Context) (oas.HealthOK, error) { return oas.HealthOKHEALTHY, nil }

// Openapi answers GET /openapi.json.
func (*handlers) Openapi(context.Context) (jx.Raw, error) { return api.OpenAPI, nil }
