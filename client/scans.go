package client

import (
	"context"
	"iter"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// How often WaitScan looks: soon at first, for most scans are short.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = 2 * time.Second
)

// StartScan measures a provider's bucket now. If it is being measured already,
// the result is the scan under way.
func (c *Client) StartScan(ctx context.Context, id purser.ProviderID) (purser.Scan, error) {
	scans, err := c.startScans(ctx, oas.ScanCreate{ProviderId: oas.NewOptString(string(id))})
	if err != nil {
		return purser.Scan{}, err
	}
	if len(scans) != 1 {
		return purser.Scan{}, errUnfit
	}
	return scans[0], nil
}

// StartScans measures all sources of the team now and returns one scan for each.
func (c *Client) StartScans(ctx context.Context) ([]purser.Scan, error) {
	return c.startScans(ctx, oas.ScanCreate{})
}

func (c *Client) startScans(ctx context.Context, request oas.ScanCreate) ([]purser.Scan, error) {
	answer, err := c.api.ScansCreate(ctx, &request, oas.ScansCreateParams{IdempotencyKey: oas.NewOptString(newChange())})
	return result(answer, err, func(a oas.ScansCreateOK) ([]purser.Scan, error) {
		list := a.ScanList.Items
		if a.IsScan() {
			list = []oas.Scan{a.Scan}
		}
		page, err := toPage(list, oas.NilNextPage{Null: true}, fromScan)
		return page.Items, err
	})
}

// ListScans returns one page of the team's scans.
func (c *Client) ListScans(ctx context.Context, o ListOptions) (Page[purser.Scan], error) {
	page, err := c.api.ScansList(ctx, oas.ScansListParams{After: o.after(), Limit: o.limit(), Order: o.order()})
	return result(page, err, func(p *oas.ScanPage) (Page[purser.Scan], error) {
		return toPage(p.Items, p.NextPage, fromScan)
	})
}

// EachScan goes through all scans of the team.
func (c *Client) EachScan(ctx context.Context, o ListOptions) iter.Seq2[purser.Scan, error] {
	return each(ctx, o, c.ListScans)
}

// GetScan returns a scan and its progress.
func (c *Client) GetScan(ctx context.Context, id purser.ScanID) (purser.Scan, error) {
	answer, err := c.api.ScansGet(ctx, oas.ScansGetParams{ID: pathID(id)})
	return result(answer, err, func(s *oas.Scan) (purser.Scan, error) { return fromScan(*s) })
}

// CancelScan cancels a scan. One that has ended stays as it is.
func (c *Client) CancelScan(ctx context.Context, id purser.ScanID) (purser.Scan, error) {
	answer, err := c.api.ScansCancel(ctx, oas.ScansCancelParams{ID: pathID(id)})
	return result(answer, err, func(s *oas.Scan) (purser.Scan, error) { return fromScan(*s) })
}

// WaitScan waits until a scan has ended, however, and returns it; whether it
// failed is in its State. Each look at the scan is handed to look, unless that
// is nil.
func (c *Client) WaitScan(ctx context.Context, id purser.ScanID, look func(purser.Scan)) (purser.Scan, error) {
	for pause := firstLook; ; pause = min(lastLook, pause*3/2) {
		scan, err := c.GetScan(ctx, id)
		if err != nil {
			return purser.Scan{}, err
		}
		if look != nil {
			look(scan)
		}
		if scan.State.Ended() {
			return scan, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return scan, givenUp(ctx)
		}
	}
}
