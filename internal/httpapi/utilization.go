package httpapi

import (
	"context"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// StorageUtilizationGetPublic answers GET /storage-providers/utilization.
func (h *handlers) StorageUtilizationGetPublic(ctx context.Context) (*oas.StorageUtilizationHeaders, error) {
	utilization, err := h.utilization.Team(ctx, callFrom(ctx).principal)
	if err != nil {
		return nil, err
	}
	return toUtilization(utilization), nil
}

// StorageProvidersUtilization answers GET /storage-providers/{id}/utilization.
func (h *handlers) StorageProvidersUtilization(ctx context.Context, params oas.StorageProvidersUtilizationParams) (*oas.ProviderUtilization, error) {
	usage, err := h.utilization.Provider(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID))
	if err != nil {
		return nil, err
	}
	return toProviderUtilization(usage, h.now()), nil
}

// StorageProvidersHealth answers GET /storage-providers/{id}/health.
func (h *handlers) StorageProvidersHealth(ctx context.Context, params oas.StorageProvidersHealthParams) (*oas.ProviderHealth, error) {
	health, err := h.utilization.Health(ctx, callFrom(ctx).principal, purser.ProviderID(params.ID))
	if err != nil {
		return nil, err
	}
	return toProviderHealth(health), nil
}

// StorageUtilizationHistory answers GET /storage-providers/utilization/history,
// in the form that is asked for.
func (h *handlers) StorageUtilizationHistory(ctx context.Context, params oas.StorageUtilizationHistoryParams) (oas.StorageUtilizationHistoryRes, error) {
	c := callFrom(ctx)
	history, err := h.utilization.History(ctx, c.principal, fromHistoryParams(params))
	switch {
	case err != nil:
		return nil, err
	case c.wantsCSV:
		return toHistoryCSV(history)
	}
	return toHistory(history), nil
}
