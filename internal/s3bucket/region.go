package s3bucket

import (
	"context"
	"net/http"
	"net/url"

	"github.com/purserhq/purser"
)

// findRegion finds out which region to sign for, once, if nobody said: by the
// header that AWS sends with every answer about a bucket, then by asking, and
// otherwise it is the region of services that have none.
func (l *lister) findRegion(ctx context.Context) error {
	if l.region != "" || l.bucket.Signature == purser.SignatureV2 && l.bucket.Endpoint != "" {
		return nil
	}
	head, err := l.send(ctx, http.MethodHead, nil)
	if err != nil {
		return err
	}
	region := headerRegion(head.header)
	if region == "" && head.status >= 300 {
		if region, err = l.askRegion(ctx); err != nil {
			return err
		}
	}
	if region == "" {
		region = defaultRegion // HEAD, signed for it, was accepted, or nobody knows better
	}
	l.region = region
	return nil
}

// askRegion asks with GetBucketLocation; "" means that the answer does not say.
func (l *lister) askRegion(ctx context.Context) (string, error) {
	a, err := l.send(ctx, http.MethodGet, url.Values{"location": {""}})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusOK {
		return l.regionOf(a), nil
	}
	region, err := l.page.parseLocation(a.body)
	switch {
	case err != nil:
		return "", nil //nolint:nilerr // the listing will show what is wrong
	case region == "EU": // what AWS called it before 2009
		return "eu-west-1", nil
	case !regionPattern.MatchString(region):
		return "", nil
	}
	return region, nil
}

// namedRegion returns the region that an error names instead of ours, or "".
func (l *lister) namedRegion(a *answer) string {
	if a.status < 300 || a.status >= 500 {
		return ""
	}
	region := l.regionOf(a)
	if region == l.region || l.bucket.Endpoint == "" && !awsRegionPattern.MatchString(region) {
		return ""
	}
	return region
}

// regionOf returns the region that an answer names in its header or in its
// error document.
func (l *lister) regionOf(a *answer) string {
	if region := headerRegion(a.header); region != "" {
		return region
	}
	if err := l.page.parse(a.body); err == nil && l.page.fault != nil && regionPattern.MatchString(l.page.fault.Region) {
		return l.page.fault.Region
	}
	return ""
}

func headerRegion(h http.Header) string {
	if region := h.Get("X-Amz-Bucket-Region"); regionPattern.MatchString(region) {
		return region
	}
	return ""
}
