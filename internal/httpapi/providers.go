package httpapi

import (
	"context"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// StorageProvidersList answers GET /storage-providers.
func (h *handlers) StorageProvidersList(ctx context.Context, params oas.StorageProvidersListParams) (*oas.StorageProviderPage, error) {
	c := callFrom(ctx)
	request, at := c.page(params.Limit, params.Order)
	page, err := h.providers.List(ctx, c.principal, request)
	if err != nil {
		return nil, err
	}
	items, err := convertAll(page.Items, toProvider)
	if err != nil {
		return nil, err
	}
	more, next := h.next(at, page.Next)
	return &oas.StorageProviderPage{HasMore: more, Items: items, NextPage: next}, nil
}

// StorageProvidersCreate answers POST /storage-providers.
func (h *handlers) StorageProvidersCreate(ctx context.Context, req *oas.StorageProviderCreate, _ oas.StorageProvidersCreateParams) (*oas.StorageProviderHeaders, error) {
	provider, err := h.providers.Create(ctx, callFrom(ctx).principal, fromProviderCreate(req))
	if err != nil {
		return nil, err
	}
	return toProviderHeaders(provider)
}

// StorageProvidersGet answers GET /storage-providers/{id}.
func (h *handlers) StorageProvidersGet(ctx context.Context, params oas.StorageProvidersGetParams) (*oas.StorageProviderHeaders, error) {
	provider, err := h.providers.Get(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID))
	if err != nil {
		return nil, err
	}
	return toProviderHeaders(provider)
}

// StorageProvidersUpdate answers PUT /storage-providers/{id}.
func (h *handlers) StorageProvidersUpdate(ctx context.Context, req *oas.StorageProviderUpdate, params oas.StorageProvidersUpdateParams) (*oas.StorageProviderHeaders, error) {
	provider, err := h.providers.Update(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID), fromProviderUpdate(req), ifMatch(params.IfMatch))
	if err != nil {
		return nil, err
	}
	return toProviderHeaders(provider)
}

// StorageProvidersDelete answers DELETE /storage-providers/{id}.
func (h *handlers) StorageProvidersDelete(ctx context.Context, params oas.StorageProvidersDeleteParams) (*oas.Deleted, error) {
	if err := h.providers.Delete(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID), ifMatch(params.IfMatch)); err != nil {
		return nil, err
	}
	return &oas.Deleted{ID: params.ID}, nil
}

// MeteringGet answers GET /storage-providers/{id}/metering.
func (h *handlers) MeteringGet(ctx context.Context, params oas.MeteringGetParams) (*oas.Metering, error) {
	rules, err := h.providers.MeteringRules(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID))
	if err != nil {
		return nil, err
	}
	return toMetering(rules), nil
}

// MeteringUpdate answers PUT /storage-providers/{id}/metering.
func (h *handlers) MeteringUpdate(ctx context.Context, req *oas.Metering, params oas.MeteringUpdateParams) (*oas.Metering, error) {
	rules, err := h.providers.SetMeteringRules(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID), fromMetering(req))
	if err != nil {
		return nil, err
	}
	return toMetering(rules), nil
}
