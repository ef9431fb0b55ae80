package s3bucket

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// nextVersion returns the position behind a page of versions whose last key is
// last. A page may end between two versions of a key. The key to go on from need
// not be one: MinIO writes into it where it has the rest of the listing.
func (l *lister) nextVersion(last []byte) (position, error) {
	p := &l.page
	next := position{After: bytes.Clone(last)}
	if !p.truncated {
		return next, nil
	}
	next.Token, next.Version = bytes.Clone(p.marker), bytes.Clone(p.versionID)
	if p.encoded {
		next.Token = unescape(nil, p.marker)
	}
	if len(p.marker) == 0 {
		next.Token = next.After
		if len(next.Version) == 0 {
			next.Version = bytes.Clone(l.lastVersion)
		}
	}
	next.Chain = l.at.Chain
	if bytes.Compare(next.Token, last) < 0 || !next.Chain.follow(append(bytes.Clone(next.Token), next.Version...)) {
		return position{}, noProgress.because(errors.New("versions that lead nowhere"))
	}
	if len(p.objects)+len(p.markers) == 0 {
		if next.Empty = l.at.Empty + 1; next.Empty > l.limits.empty {
			return position{}, noProgress.because(errors.New("empty pages without end"))
		}
	}
	return next, nil
}

// Survey finds out which listings a bucket must be read by: those of versions if
// it keeps any, since what is not current is stored and billed too, and that of
// unfinished uploads. What it may not find out makes the result incomplete.
func (o *Opener) Survey(ctx context.Context, b source.Bucket) (survey source.Survey, _ error) {
	b.What = source.Objects
	l, err := o.lister(b)
	if err != nil {
		return survey, err
	}
	defer l.shrink()
	survey.Listings = []source.Listing{source.Objects, source.Uploads}
	defer func() { survey.Requests = l.requests }()
	if err := l.findRegion(ctx); err != nil {
		return survey, err
	}
	versioned, err := l.versioned(ctx)
	if err != nil {
		return survey, err
	}
	switch versioned {
	case yes:
		survey.Listings[0] = source.Versions
	case unknown:
		survey.Incomplete = &purser.ScanError{
			Code:    source.CodeAccessDenied,
			Message: "It could not be found out whether the bucket keeps older versions, which are stored and billed too.",
			Hint:    "Grant the access key s3:GetBucketVersioning and s3:ListBucketVersions on the bucket.",
		}
	}
	return survey, nil
}

// answerTo is the answer to a question that a key may not be allowed to ask.
type answerTo int

const (
	no answerTo = iota
	yes
	unknown
)

// versioned asks whether the bucket keeps, or has kept, versions; and if it may
// not ask that, whether it may list them, which is as good.
func (l *lister) versioned(ctx context.Context) (answerTo, error) {
	a, err := l.ask(ctx, url.Values{"versioning": {""}})
	if err != nil {
		return unknown, err
	}
	switch {
	case a.status == http.StatusOK:
		status, err := l.page.parseVersioning(a.body)
		if err != nil {
			return no, l.unexpected(a, err)
		}
		if status == "" {
			return no, nil
		}
		return yes, nil
	case a.status != http.StatusForbidden && a.status < 500 || a.status == http.StatusNotImplemented:
		return l.alive(a) // a server that does not know versions
	case a.status != http.StatusForbidden:
		return unknown, l.accept(a)
	}
	a, err = l.ask(ctx, url.Values{"versions": {""}, "max-keys": {"1"}, "prefix": {l.bucket.Prefix}})
	switch {
	case err != nil:
		return unknown, err
	case a.status == http.StatusOK:
		return yes, nil
	case a.status >= 500:
		return unknown, l.accept(a)
	}
	return unknown, nil
}

// alive tells a server that does not know the question from one that refuses
// all of them: that one's own error is more telling.
func (l *lister) alive(a *answer) (answerTo, error) {
	var e *source.Error
	if errors.As(l.accept(a), &e) && e.Code != source.CodeServerError && e.Code != source.CodeNotS3 {
		return unknown, e
	}
	return no, nil
}

// unexpected is what is wrong with a document that does not answer the question,
// as err says: it may be S3's error, sent as if all were well, or no S3 at all.
// It is nil for a listing of objects, which comes from servers that do not look
// at the question; what they were asked about, they do not have.
func (l *lister) unexpected(a *answer, err error) error {
	if errors.Is(err, errNotListing) {
		return l.accept(a)
	}
	return badListing.because(err)
}

// ask sends a question about the bucket, and once more for the region that the
// answer names.
func (l *lister) ask(ctx context.Context, query url.Values) (*answer, error) {
	for {
		a, err := l.send(ctx, http.MethodGet, query)
		if err != nil {
			return nil, err
		}
		region := l.namedRegion(a)
		if region == "" || l.regionRetried {
			return a, nil
		}
		l.region, l.regionRetried = region, true
	}
}

// parseVersioning reads the answer to GetBucketVersioning: Enabled, Suspended, or
// nothing.
func (p *page) parseVersioning(body []byte) (status string, _ error) {
	*p = page{objects: p.objects[:0], spare: p.spare[:0]}
	s := &p.scan
	s.reset(body)
	if found, err := s.next(); err != nil || found != tokenOpen || string(s.local) != "VersioningConfiguration" {
		return "", errors.Join(errNotListing, err)
	}
	for {
		found, err := s.next()
		switch {
		case err != nil:
			return "", err
		case found == tokenEnd:
			return status, nil
		case found != tokenOpen:
		case string(s.local) == "Status":
			text, err := p.text()
			if err != nil {
				return "", err
			}
			status = clip(bytes.TrimSpace(text))
		default:
			if err := s.skip(); err != nil {
				return "", err
			}
		}
	}
}
