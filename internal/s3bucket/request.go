package s3bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// limits bound one request. Connecting and waiting for headers are bounded by
// package egress.
type limits struct {
	page time.Duration // the whole exchange
	body time.Duration // from headers to the last byte: a minimum throughput
	// empty is how many pages in a row may hold nothing and still promise more.
	empty int
}

var defaultLimits = limits{page: 150 * time.Second, body: 60 * time.Second, empty: 1000}

const (
	maxErrorBytes = 64 << 10
	// ordinaryAnswer is as large as honest answers are, with few exceptions: a page
	// has 350 kB, and 1.3 MB with the longest keys there may be. An answer that is
	// larger, from keys that are percent-encoded or from a server that means harm,
	// waits for the endpoint's turn; else it could give each of sixteen requests the
	// most there may be.
	ordinaryAnswer = 5 << 18
	emptySHA256    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// tooLongError is why one of the limits cancelled a request.
type tooLongError struct{ what string }

func (e tooLongError) Error() string { return e.what + " takes too long" }
func (tooLongError) Timeout() bool   { return true }

// answer is what a server sent. Its body is good until the next request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends one request without a body, when the endpoint's turn has come, and
// reads the answer. An error is ctx's or a *source.Error.
func (l *lister) send(ctx context.Context, method string, query url.Values) (*answer, error) {
	return l.sendTo(ctx, method, "", query)
}

// sendTo sends a request about one of the bucket's objects, as send does about
// the bucket.
func (l *lister) sendTo(ctx context.Context, method, key string, query url.Values) (*answer, error) {
	virtualHost := l.opener.habitsOf(l.bucket.Endpoint).virtualHost
	a, err := l.sendAs(ctx, virtualHost, method, key, query)
	if err == nil && !virtualHost && l.wantsVirtualHost(a) {
		l.opener.learn(l.bucket.Endpoint, func(h *habits) { h.virtualHost = true })
		return l.sendAs(ctx, true, method, key, query)
	}
	return a, err
}

// wantsVirtualHost reports whether the answer refuses the bucket in the path.
func (l *lister) wantsVirtualHost(a *answer) bool {
	if a.status < 400 || a.status >= 500 || len(a.body) == 0 {
		return false
	}
	err := l.page.parse(a.body)
	return err == nil && l.page.fault != nil && slices.Contains(virtualHostCodes, l.page.fault.Code)
}

// sendAs sends a request with the bucket in the path or in the host.
func (l *lister) sendAs(ctx context.Context, virtualHost bool, method, key string, query url.Values) (*answer, error) {
	at, bad := addressOf(l.bucket, l.region, virtualHost)
	if bad != nil {
		return nil, bad
	}
	l.virtualHost = at.virtualHost
	l.shrink() // the answer before is not needed any more
	l.gate = l.opener.gates.of(at.scheme + "://" + at.host)
	place, err := l.gate.enter(ctx, l.bucket.Source)
	if err != nil {
		return nil, err
	}
	at.path += key
	a, err := l.exchange(ctx, at, method, query)
	place.leave(ctx, a)
	if err == nil {
		l.walks = strings.HasPrefix(a.header.Get("Server"), "MinIO")
	}
	return a, err
}

// exchange signs and sends one request.
func (l *lister) exchange(ctx context.Context, at address, method string, query url.Values) (*answer, error) {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer after(l.limits.page, cancel, "the request").Stop()
	var asked atomic.Bool
	u := url.URL{Scheme: at.scheme, Host: at.host, Path: at.path, RawPath: s3utils.EncodePath(at.path), RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { asked.Store(true) },
	}), method, u.String(), nil)
	if err != nil {
		return nil, badEndpoint.because(err)
	}
	l.requests++
	response, err := l.client.Do(l.sign(r, at.virtualHost))
	if err == nil {
		defer func() { _ = response.Body.Close() }() // nothing was written
		defer after(l.limits.body, cancel, "the answer").Stop()
		return l.read(limited, response)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if cause := context.Cause(limited); cause != nil {
		err = cause
	}
	return nil, transportError(err, asked.Load())
}

// after cancels a request after d.
func after(d time.Duration, cancel context.CancelCauseFunc, what string) *time.Timer {
	return time.AfterFunc(d, func() { cancel(tooLongError{what}) })
}

// sign adds the signature to r.
func (l *lister) sign(r *http.Request, virtualHost bool) *http.Request {
	r.Header.Set("User-Agent", "purser")
	if l.bucket.AccessKey == "" {
		return r
	}
	if l.bucket.Signature == purser.SignatureV2 {
		return signer.SignV2(*r, l.bucket.AccessKey, l.bucket.Secret.Expose(), virtualHost)
	}
	r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
	region := l.region
	if region == "" {
		region = defaultRegion
	}
	return signer.SignV4(*r, l.bucket.AccessKey, l.bucket.Secret.Expose(), l.bucket.SessionToken.Expose(), region)
}

// read reads the body. ctx ends when that takes too long: a server that drips
// would keep a worker for as long as it liked.
func (l *lister) read(ctx context.Context, response *http.Response) (*answer, error) {
	a := &answer{status: response.StatusCode, header: response.Header}
	most := maxPageBytes
	if a.status != http.StatusOK {
		most = maxErrorBytes
	}
	err := l.fill(ctx, response, most)
	a.body = l.buf
	cause := context.Cause(ctx)
	switch {
	case err == nil:
		return a, nil
	case cause != nil && !errors.As(cause, &tooLongError{}): // the caller's own
		return nil, cause
	case a.status != http.StatusOK: // what it is about is known
		return a, nil
	case errors.Is(err, errPageTooLarge):
		return nil, badListing.because(err)
	case cause != nil:
		return nil, timedOut.because(cause)
	}
	return nil, brokenOff.because(err)
}

var errPageTooLarge = fmt.Errorf("a page of more than %d bytes", maxPageBytes)

// fill reads the body into the buffer of the source.
func (l *lister) fill(ctx context.Context, response *http.Response, most int) error {
	l.buf = l.buf[:0]
	if response.Request.Method == http.MethodHead {
		return nil
	}
	// A length is not believed before the bytes are there. One more than it says
	// lets the end be seen without growing.
	if n := min(response.ContentLength+1, ordinaryAnswer); n > int64(cap(l.buf)) {
		l.buf = make([]byte, 0, n)
	}
	for {
		if len(l.buf) == cap(l.buf) {
			if err := l.grow(ctx); err != nil {
				return err
			}
		}
		n, err := response.Body.Read(l.buf[len(l.buf):min(cap(l.buf), most+1)])
		l.buf = l.buf[:len(l.buf)+n]
		switch {
		case len(l.buf) > most:
			return errPageTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// grow makes room for more of an answer, and waits for the endpoint's turn when
// it becomes larger than is ordinary.
func (l *lister) grow(ctx context.Context) error {
	if size := cap(l.buf); size < ordinaryAnswer {
		l.buf = append(make([]byte, 0, min(max(2*size, 64<<10), ordinaryAnswer)), l.buf...)
		return nil
	}
	large, err := l.gate.takeLarge(ctx)
	if err != nil {
		return err
	}
	l.ordinary, l.buf = l.buf, append(large, l.buf...)
	l.large = true
	return nil
}

// shrink gives back the memory of an answer that was larger than usual.
func (l *lister) shrink() {
	if cap(l.page.spare) > ordinaryAnswer {
		l.page.spare = nil
	}
	if !l.large {
		return
	}
	l.gate.giveLarge(l.buf[:0])
	l.buf, l.ordinary, l.large = l.ordinary[:0], nil, false
}

var _ source.Source = (*lister)(nil)
