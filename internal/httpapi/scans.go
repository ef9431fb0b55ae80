package httpapi

import (
	"context"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// ScansList answers GET /scans.
func (h *handlers) ScansList(ctx context.Context, params oas.ScansListParams) (*oas.ScanPage, error) {
	c := callFrom(ctx)
	request, at := c.page(params.Limit, params.Order)
	page, err := h.scans.List(ctx, c.principal, request)
	if err != nil {
		return nil, err
	}
	more, next := h.next(at, page.Next)
	return &oas.ScanPage{HasMore: more, Items: toScans(page.Items), NextPage: next}, nil
}

// ScansCreate answers POST /scans: one scan if a provider is named, else one
// for each source of the team.
func (h *handlers) ScansCreate(ctx context.Context, req *oas.ScanCreate, _ oas.ScansCreateParams) (oas.ScansCreateOK, error) {
	principal := callFrom(ctx).principal
	if id, named := req.ProviderId.Get(); named {
		scan, err := h.scans.Start(ctx, principal, purser.ProviderID(cleanID(id)))
		if err != nil {
			return oas.ScansCreateOK{}, err
		}
		return oas.NewScanScansCreateOK(toScan(scan)), nil
	}
	scans, err := h.scans.StartAll(ctx, principal)
	if err != nil {
		return oas.ScansCreateOK{}, err
	}
	return oas.NewScanListScansCreateOK(oas.ScanList{Items: toScans(scans)}), nil
}

// ScansGet answers GET /scans/{id}.
func (h *handlers) ScansGet(ctx context.Context, params oas.ScansGetParams) (*oas.Scan, error) {
	scan, err := h.scans.Get(ctx, callFrom(ctx).principal, purser.ScanID(params.ID))
	if err != nil {
		return nil, err
	}
	answer := toScan(scan)
	return &answer, nil
}

// ScansCancel answers DELETE /scans/{id}.
func (h *handlers) ScansCancel(ctx context.Context, params oas.ScansCancelParams) (*oas.Scan, error) {
	scan, err := h.scans.Cancel(ctx, callFrom(ctx).principal, purser.ScanID(params.ID))
	if err != nil {
		return nil, err
	}
	answer := toScan(scan)
	return &answer, nil
}
