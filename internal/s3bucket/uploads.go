package s3bucket

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// uploadsAtOnce is how many uploads are asked for: each costs a request of its
// own, and a step should not take long.
const uploadsAtOnce = 50

// uploads counts the parts of uploads that were not completed. No listing of
// objects shows them, and they are billed.
type uploads struct {
	*lister
	at uploadPosition
}

// uploadPosition is a place among the uploads. As JSON it is the cursor.
type uploadPosition struct {
	Key    []byte `json:"key,omitempty"`
	Upload []byte `json:"upload,omitempty"`
	// Empty counts the empty pages since the last upload.
	Empty int   `json:"empty,omitempty"`
	Chain chain `json:"chain,omitzero"`
}

func openUploads(l *lister, cursor []byte) (source.Source, error) {
	u := &uploads{lister: l}
	if cursor != nil {
		if err := json.Unmarshal(cursor, &u.at); err != nil {
			return nil, badCursor.because(err)
		}
	}
	return onlyCounts{u}, nil
}

// onlyCounts hides what a lister can do and uploads cannot: there are never so
// many that cutting them would help.
type onlyCounts struct{ source.Source }

// Cursor implements source.Source.
func (u *uploads) Cursor() []byte {
	cursor, err := json.Marshal(u.at)
	if err != nil {
		panic(err) // a struct of byte slices
	}
	return cursor
}

// Step counts one page of uploads.
func (u *uploads) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	defer u.shrink()
	before := u.requests
	step, err := u.step(ctx, count)
	step.Requests = u.requests - before
	return step, err
}

func (u *uploads) step(ctx context.Context, count func(source.Entry)) (step source.Step, err error) {
	if err := u.findRegion(ctx); err != nil {
		return step, err
	}
	q := url.Values{"uploads": {""}, "max-uploads": {strconv.Itoa(uploadsAtOnce)}, "encoding-type": {"url"}}
	// Not by prefix: MinIO takes that for the whole key, and answers with nothing.
	set(q, "key-marker", string(u.at.Key))
	set(q, "upload-id-marker", string(u.at.Upload))
	a, err := u.ask(ctx, q)
	if err != nil {
		return step, err
	}
	if a.status != http.StatusOK {
		return u.refused(a)
	}
	page, err := u.page.parseUploads(a.body)
	if err != nil {
		err = u.unexpected(a, err)
		step.Done = err == nil
		return step, err
	}
	for _, upload := range page.uploads {
		if !bytes.HasPrefix(upload.key, []byte(u.bucket.Prefix)) {
			continue
		}
		size, incomplete, err := u.parts(ctx, upload)
		if err != nil {
			return step, err
		}
		if incomplete != nil {
			step.Incomplete = incomplete
		}
		if size > 0 {
			count(source.Entry{Class: source.Unfinished, Key: upload.key, Size: size})
		}
	}
	if step.Done = !page.truncated; step.Done {
		return step, nil
	}
	next := uploadPosition{Key: page.keyMarker, Upload: page.uploadMarker, Chain: u.at.Chain}
	if !next.Chain.follow(append(bytes.Clone(next.Key), next.Upload...)) {
		return step, noProgress.because(errors.New("uploads that lead nowhere"))
	}
	if len(page.uploads) == 0 {
		if next.Empty = u.at.Empty + 1; next.Empty > u.limits.empty {
			return step, noProgress.because(errors.New("empty pages without end"))
		}
	}
	u.at = next
	return step, nil
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// refused deals with an answer that is no list of uploads: a server without
// uploads has none, and one that does not tell makes the result incomplete.
func (u *uploads) refused(a *answer) (step source.Step, _ error) {
	var e *source.Error
	if !errors.As(u.accept(a), &e) || e.Temporary {
		return step, e
	}
	step.Done = true
	switch e.Code {
	case source.CodeAccessDenied:
		step.Incomplete = uploadsDenied
	case source.CodeServerError, source.CodeNotS3: // not implemented
	default:
		return source.Step{}, e
	}
	return step, nil
}

var uploadsDenied = &purser.ScanError{
	Code:    source.CodeAccessDenied,
	Message: "Unfinished uploads, which are stored and billed too, could not be listed.",
	Hint:    "Grant the access key s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts on the bucket.",
}

// upload is one unfinished upload.
type upload struct{ key, id []byte }

// uploadPage is a page of unfinished uploads, or of the parts of one.
type uploadPage struct {
	uploads                 []upload
	size                    int64 // of parts
	truncated               bool
	keyMarker, uploadMarker []byte
	partMarker              []byte
}

// maxPartPages bounds the pages of one upload, which has at most 10,000 parts.
const maxPartPages = 100

// parts adds up the parts of one upload. One that is gone by now holds nothing.
func (u *uploads) parts(ctx context.Context, of upload) (size int64, incomplete *purser.ScanError, _ error) {
	marker := ""
	for range maxPartPages {
		q := url.Values{"uploadId": {string(of.id)}, "max-parts": {"1000"}}
		set(q, "part-number-marker", marker)
		a, err := u.sendTo(ctx, http.MethodGet, string(of.key), q)
		switch {
		case err != nil:
			return 0, nil, err
		case a.status == http.StatusNotFound:
			return 0, nil, nil
		case a.status == http.StatusForbidden:
			return 0, uploadsDenied, nil
		case a.status != http.StatusOK:
			return 0, nil, u.accept(a)
		}
		page, err := u.page.parseUploads(a.body)
		if err != nil {
			return 0, nil, cmp.Or[error](u.unexpected(a, err), badListing.because(err))
		}
		if size += page.size; size < 0 {
			return 0, nil, badListing.because(errSize)
		}
		if !page.truncated {
			return size, nil, nil
		}
		marker = string(page.partMarker)
	}
	return 0, nil, noProgress.because(errors.New("parts without end"))
}

// parseUploads reads the answers to ListMultipartUploads and ListParts, whose
// elements have different names.
func (p *page) parseUploads(body []byte) (result uploadPage, _ error) {
	*p = page{objects: p.objects[:0], spare: p.spare[:0]}
	s := &p.scan
	s.reset(body)
	if found, err := s.next(); err != nil || found != tokenOpen ||
		string(s.local) != "ListMultipartUploadsResult" && string(s.local) != "ListPartsResult" {
		return result, errors.Join(errNotListing, err)
	}
	encoded := false
	for {
		found, err := s.next()
		if err != nil {
			return result, err
		}
		if found == tokenEnd {
			break
		}
		if found != tokenOpen {
			continue
		}
		if err := p.parseUploadElement(&result, &encoded); err != nil {
			return result, err
		}
	}
	if !p.answered {
		return result, errors.New("the listing does not say whether it is complete")
	}
	result.truncated = p.truncated
	if encoded {
		for i := range result.uploads {
			result.uploads[i].key = unescape(nil, result.uploads[i].key)
		}
		result.keyMarker = unescape(nil, result.keyMarker)
	}
	return result, nil
}

func (p *page) parseUploadElement(result *uploadPage, encoded *bool) (err error) {
	keep := func(to *[]byte) error {
		text, err := p.text()
		*to = bytes.Clone(text)
		return err
	}
	switch string(p.scan.local) {
	case "IsTruncated":
		return p.parseTruncated()
	case "NextKeyMarker":
		return keep(&result.keyMarker)
	case "NextUploadIdMarker":
		return keep(&result.uploadMarker)
	case "NextPartNumberMarker":
		return keep(&result.partMarker)
	case "EncodingType":
		var encoding []byte
		err = keep(&encoding)
		*encoded = string(encoding) == "url"
		return err
	case "Upload":
		var one upload
		err = p.fields(func(name string) error {
			switch name {
			case "Key":
				return keep(&one.key)
			case "UploadId":
				return keep(&one.id)
			}
			return p.scan.skip()
		})
		if len(one.key) == 0 || len(one.id) == 0 || len(result.uploads) == maxPageEntries {
			return errors.Join(err, errors.New("an upload without a key or an id, or too many of them"))
		}
		result.uploads = append(result.uploads, one)
		return err
	case "Part":
		return p.fields(func(name string) error {
			if name != "Size" {
				return p.scan.skip()
			}
			text, err := p.text()
			if err != nil {
				return err
			}
			size, err := parseSize(text)
			if result.size += size; result.size < 0 {
				return errSize
			}
			return err
		})
	}
	return p.scan.skip()
}

// fields calls each for every child of the element just opened, whose text it
// must read or skip.
func (p *page) fields(each func(name string) error) error {
	for outside := p.scan.depth - 1; ; {
		found, err := p.scan.next()
		if err != nil {
			return err
		}
		if found == tokenClose && p.scan.depth == outside {
			return nil
		}
		if found == tokenOpen {
			if err := each(string(p.scan.local)); err != nil {
				return err
			}
		}
	}
}
