package httpapi

import (
	"context"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// TeamsList answers GET /teams.
func (h *handlers) TeamsList(ctx context.Context, params oas.TeamsListParams) (*oas.TeamPage, error) {
	c := callFrom(ctx)
	request, at := c.page(params.Limit, params.Order)
	page, err := h.teams.List(ctx, c.principal, request)
	if err != nil {
		return nil, err
	}
	items := make([]oas.Team, 0, len(page.Items))
	for _, team := range page.Items {
		items = append(items, *toTeam(team))
	}
	more, next := h.next(at, page.Next)
	return &oas.TeamPage{HasMore: more, Items: items, NextPage: next}, nil
}

// TeamsCreate answers POST /teams.
func (h *handlers) TeamsCreate(ctx context.Context, req *oas.TeamWrite, _ oas.TeamsCreateParams) (*oas.Team, error) {
	draft, err := fromTeam(req)
	if err != nil {
		return nil, err
	}
	team, err := h.teams.Create(ctx, callFrom(ctx).principal, draft)
	if err != nil {
		return nil, err
	}
	return toTeam(team), nil
}

// TeamsGet answers GET /teams/{id}.
func (h *handlers) TeamsGet(ctx context.Context, params oas.TeamsGetParams) (*oas.Team, error) {
	team, err := h.teams.Get(ctx, callFrom(ctx).principal, purser.TeamID(params.ID))
	if err != nil {
		return nil, err
	}
	return toTeam(team), nil
}

// TeamsUpdate answers PUT /teams/{id}.
func (h *handlers) TeamsUpdate(ctx context.Context, req *oas.TeamWrite, params oas.TeamsUpdateParams) (*oas.Team, error) {
	draft, err := fromTeam(req)
	if err != nil {
		return nil, err
	}
	team, err := h.teams.Update(ctx, callFrom(ctx).principal, purser.TeamID(params.ID), draft)
	if err != nil {
		return nil, err
	}
	return toTeam(team), nil
}

// ApiKeysList answers GET /api-keys.
func (h *handlers) ApiKeysList(ctx context.Context, params oas.ApiKeysListParams) (*oas.ApiKeyPage, error) { //nolint:revive // ogen's spelling
	c := callFrom(ctx)
	request, at := c.page(params.Limit, params.Order)
	var team purser.TeamID
	if id, named := params.TeamId.Get(); named {
		team = purser.TeamID(cleanID(id))
		at.team = team
	}
	page, err := h.teams.ListKeys(ctx, c.principal, team, request)
	if err != nil {
		return nil, err
	}
	items := make([]oas.ApiKey, 0, len(page.Items))
	for _, key := range page.Items {
		items = append(items, toKey(key))
	}
	more, next := h.next(at, page.Next)
	return &oas.ApiKeyPage{HasMore: more, Items: items, NextPage: next}, nil
}

// ApiKeysCreate answers POST /api-keys.
func (h *handlers) ApiKeysCreate(ctx context.Context, req *oas.ApiKeyCreate, _ oas.ApiKeysCreateParams) (*oas.ApiKeyCreated, error) { //nolint:revive // ogen's spelling
	key, secret, err := h.teams.CreateKey(ctx, callFrom(ctx).principal, fromKey(req))
	if err != nil {
		return nil, err
	}
	return toKeyCreated(key, secret), nil
}

// ApiKeysDelete answers DELETE /api-keys/{id}.
func (h *handlers) ApiKeysDelete(ctx context.Context, params oas.ApiKeysDeleteParams) (*oas.Deleted, error) { //nolint:revive // ogen's spelling
	if err := h.teams.RevokeKey(ctx, callFrom(ctx).principal, purser.KeyID(params.ID)); err != nil {
		return nil, err
	}
	return &oas.Deleted{ID: params.ID}, nil
}

// AuditEventsList answers GET /audit-events.
func (h *handlers) AuditEventsList(ctx context.Context, params oas.AuditEventsListParams) (*oas.AuditEventPage, error) {
	c := callFrom(ctx)
	request, at := c.page(params.Limit, params.Order)
	page, err := h.teams.AuditEvents(ctx, c.principal, request)
	if err != nil {
		return nil, err
	}
	items := make([]oas.AuditEvent, 0, len(page.Items))
	for _, event := range page.Items {
		items = append(items, toAuditEvent(event))
	}
	more, next := h.next(at, page.Next)
	return &oas.AuditEventPage{HasMore: more, Items: items, NextPage: next}, nil
}
