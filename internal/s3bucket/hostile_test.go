package s3bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/egress"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/s3bucket/s3buckettest"
)

// newOpener may connect to loopback and does not wait long.
func newOpener(t *testing.T) *Opener {
	t.Helper()
	rule, err := egress.ParseRule("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := egress.New([]egress.Rule{rule})
	if err != nil {
		t.Fatal(err)
	}
	o := New(policy, egress.Options{})
	o.limits = limits{page: 20 * time.Second, body: 20 * time.Second, empty: 20}
	t.Cleanup(o.Close)
	return o
}

func bucketAt(endpoint string) source.Bucket {
	return source.Bucket{
		Endpoint: endpoint, Bucket: "bucket", AccessKey: "AKIDEXAMPLE", Secret: purser.NewSecret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
		Signature: purser.SignatureV4, Region: "us-east-1",
	}
}

// result is what draining a source gave.
type result struct {
	keys     []string
	bytes    int64
	requests int64
	err      error
}

// drain steps until the source is done or fails; steps that fail count nothing.
func drain(ctx context.Context, s source.Source) (r result) {
	for range 10_000 {
		var (
			keys []string
			sum  int64
		)
		step, err := s.Step(ctx, func(e source.Entry) { keys = append(keys, string(e.Key)); sum += e.Size })
		r.requests += step.Requests
		if err != nil {
			r.err = err
			return r
		}
		r.keys = append(r.keys, keys...)
		r.bytes += sum
		if step.Done {
			return r
		}
	}
	r.err = errors.New("10,000 steps without an end")
	return r
}

func open(t *testing.T, o *Opener, b source.Bucket, cursor []byte) source.Source {
	t.Helper()
	s, err := o.Open(t.Context(), b, cursor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// What the tests write down.
const complete = s3buckettest.Complete

var (
	listing   = s3buckettest.Listing
	truncated = s3buckettest.Truncated
	nextToken = s3buckettest.Token
	entry     = s3buckettest.Entry
	write     = s3buckettest.Write
	status    = s3buckettest.Status
	s3Error   = s3buckettest.Error
	counting  = s3buckettest.Counting
)

func TestHostileServers(t *testing.T) {
	t.Parallel()
	var strayed atomic.Int64
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { strayed.Add(1) })
	for _, c := range s3buckettest.Scripts(elsewhere) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			b := bucketAt(serve(t, c.Handler))
			b.What = c.Of
			r := drain(t.Context(), open(t, newOpener(t), b, nil))
			wantError(t, r.err, c.Code, c.Temporary)
			if r.requests > s3buckettest.MostRequests {
				t.Errorf("%d requests were sent", r.requests)
			}
			if c.Code != source.CodeUnordered {
				return
			}
			b.OneChain = true
			r = drain(t.Context(), open(t, newOpener(t), b, nil))
			if c.Chain != "" {
				wantError(t, r.err, c.Chain, false)
			} else if r.err != nil {
				t.Errorf("by one chain: %v", r.err)
			}
			if r.requests > s3buckettest.MostRequests {
				t.Errorf("%d requests were sent by one chain", r.requests)
			}
		})
	}
	t.Cleanup(func() {
		if n := strayed.Load(); n != 0 {
			t.Errorf("%d requests went where Location pointed", n)
		}
	})
}

// wantError checks the code, and that people are told something of ours.
func wantError(t *testing.T, err error, code string, temporary bool) {
	t.Helper()
	var e *source.Error
	if !errors.As(err, &e) || e.Code != code || e.Temporary != temporary {
		t.Fatalf("error = %v, want code %s, temporary %t", err, code, temporary)
	}
	if !strings.HasSuffix(e.Message, ".") || !strings.HasSuffix(e.Hint, ".") || strings.Contains(e.Message+e.Hint, s3buckettest.Canary) {
		t.Errorf("message %q, hint %q", e.Message, e.Hint)
	}
}

// TestOneChain counts where keys come in no order, as directory buckets list
// them, and notices a server that goes round.
func TestOneChain(t *testing.T) {
	t.Parallel()
	page := func(token, keys string) string {
		var b strings.Builder
		for key := range strings.FieldsSeq(keys) {
			b.WriteString(entry(key, "10"))
		}
		if token == "" {
			return listing(complete + b.String())
		}
		return truncated(nextToken(token) + b.String())
	}
	// byToken answers with the page that the token names, the first one without.
	byToken := func(pages map[string]string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, pages[r.URL.Query().Get("continuation-token")])
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		bytes   int64
		code    string
	}{
		{"in no order", byToken(map[string]string{"": page("1", "b a"), "1": page("2", "d"), "2": page("", "c")}), 40, ""},
		{"an empty page between", byToken(map[string]string{"": page("1", "b"), "1": page("2", ""), "2": page("", "a")}), 20, ""},
		{"round after a while", byToken(map[string]string{"": page("1", "e"), "1": page("2", "a b"), "2": page("3", "c"), "3": page("1", "d")}), 0, source.CodeNoProgress},
		{"version 1 without a marker", write(truncated("<Marker></Marker>" + entry("b", "1") + entry("a", "1"))), 0, source.CodeNoProgress},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bucketAt(serve(t, c.handler))
			b.OneChain = true
			r := drain(t.Context(), open(t, newOpener(t), b, nil))
			if c.code != "" {
				wantError(t, r.err, c.code, false)
				return
			}
			if r.err != nil || r.bytes != c.bytes {
				t.Errorf("%d bytes, error %v; want %d", r.bytes, r.err, c.bytes)
			}
		})
	}
}

func TestSlowServers(t *testing.T) {
	t.Parallel()
	drip := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond)
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		limits  limits
	}{
		{"a drip is cut off", drip, limits{page: time.Minute, body: 50 * time.Millisecond}},
		{"a drip of an error is cut off", drip, limits{page: 50 * time.Millisecond, body: time.Minute}},
		{"silence is cut off", s3buckettest.Hang, limits{page: 50 * time.Millisecond, body: time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOpener(t)
			o.limits = c.limits
			r := drain(t.Context(), open(t, o, bucketAt(serve(t, c.handler)), nil))
			wantError(t, r.err, source.CodeTimeout, true)
		})
	}
	t.Run("the caller's end is the caller's error", func(t *testing.T) {
		t.Parallel()
		for _, handler := range []http.HandlerFunc{drip, s3buckettest.Hang} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			r := drain(ctx, open(t, newOpener(t), bucketAt(serve(t, handler)), nil))
			cancel()
			if !errors.Is(r.err, context.DeadlineExceeded) {
				t.Errorf("error = %v, want the context's", r.err)
			}
			var e *source.Error
			if errors.As(r.err, &e) {
				t.Errorf("the service is blamed: %v", e)
			}
		}
	})
}

// TestConnectErrorsLookAlike: from what users see, they must not learn which
// addresses and ports of a network are in use.
func TestConnectErrorsLookAlike(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	endpoints := map[string]string{
		"refused":       closed.URL,
		"reset":         serve(t, s3buckettest.Reset()),
		"no TLS":        strings.Replace(serve(t, http.NotFound), "http:", "https:", 1),
		"untrusted":     secure.URL,
		"no such name":  "http://no-such-name.invalid:9000",
		"another thing": serve(t, s3buckettest.Raw("220 mail\r\n")),
	}
	texts := map[string][]string{}
	for name, endpoint := range endpoints {
		r := drain(t.Context(), open(t, newOpener(t), bucketAt(endpoint), nil))
		var e *source.Error
		if !errors.As(r.err, &e) {
			t.Fatalf("%s: %v", name, r.err)
		}
		text := fmt.Sprintf("%+v", e.ScanError)
		texts[text] = append(texts[text], name)
	}
	if len(texts) != 1 {
		t.Errorf("texts differ: %v", texts)
	}
}

func TestBlockedAddress(t *testing.T) {
	t.Parallel()
	policy, err := egress.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	endpoint := serve(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	r := drain(t.Context(), open(t, New(policy, egress.Options{}), bucketAt(endpoint), nil))
	wantError(t, r.err, source.CodeBlockedAddress, false)
	if requests.Load() != 0 {
		t.Error("the server was asked")
	}
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "100000": maxRetryAfter, "-1": 0, "soon": 0, "99999999999999999999": 0,
		"Tue, 24 Nov 2026 05:00:30 GMT": 30 * time.Second, "Tue, 24 Nov 2037 05:00:30 GMT": maxRetryAfter, "Tue, 24 Nov 1994 05:00:30 GMT": 0,
	} {
		if got := retryAfter(value, time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
	r := drain(t.Context(), open(t, newOpener(t), bucketAt(serve(t, status(503, "", "Retry-After", "7"))), nil))
	var e *source.Error
	if !errors.As(r.err, &e) || e.RetryAfter != 7*time.Second {
		t.Errorf("error = %+v, want RetryAfter 7s", e)
	}
}

// fakeS3 lists keys as asked for, in one of the ways servers differ.
type fakeS3 struct {
	keys     []string
	perPage  int
	v1       bool // knows version 1 only
	refuseV2 bool // and says so
	noToken  bool // truncated pages have no token
	noStart  bool // start-after is ignored
	plain    bool // encoding-type is ignored
	marks    bool // version 1 tells its marker
	region   string
	requests []url.Values
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f.requests = append(f.requests, q)
	if f.region != "" && !strings.Contains(r.Header.Get("Authorization"), "/"+f.region+"/s3/") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>%s</Region></Error>", f.region)
		return
	}
	v2 := q.Get("list-type") == "2" && !f.v1
	if f.refuseV2 && q.Get("list-type") == "2" {
		s3Error(http.StatusNotImplemented, "NotImplemented")(w, r)
		return
	}
	after := q.Get("marker")
	if v2 {
		after = q.Get("continuation-token")
		if after == "" && !f.noStart {
			after = q.Get("start-after")
		}
	}
	var b strings.Builder
	n, more, last := 0, false, ""
	for _, key := range f.keys {
		if key <= after || !strings.HasPrefix(key, q.Get("prefix")) {
			continue
		}
		if more = n == f.perPage; more {
			break
		}
		n, last = n+1, key
		if !f.plain {
			key = strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
		} else {
			key = strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(key)
		}
		b.WriteString(entry(key, "10"))
	}
	fmt.Fprintf(&b, "<Name>bucket</Name><IsTruncated>%t</IsTruncated>", more)
	if !f.plain {
		b.WriteString("<EncodingType>url</EncodingType>")
	}
	if v2 {
		fmt.Fprintf(&b, "<KeyCount>%d</KeyCount>", n)
	}
	if v2 && more && !f.noToken {
		b.WriteString(nextToken(strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(last)))
	}
	if !v2 && f.marks {
		b.WriteString("<Marker></Marker>")
	}
	_, _ = w.Write([]byte(listing(b.String())))
}

// oddKeys are in byte order.
var oddKeys = []string{
	" ", " leading", "!", "%", "%20", "%2B", "+", "//", "//a", "a", "a ", "a b", "a&b", "a+b", "a-b", "a.b", "a/", "a//b", "a/b", "a0", "a<b", "a\u00a0b", "ä", "日本", "😀",
}

func TestServersDiffer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		fake *fakeS3
	}{
		{"tokens", &fakeS3{}},
		{"encoding is ignored", &fakeS3{plain: true}},
		{"no tokens", &fakeS3{noToken: true}},
		{"no tokens and no start-after", &fakeS3{noToken: true, noStart: true}},
		{"version 1 only", &fakeS3{v1: true}},
		{"version 1 only, with markers", &fakeS3{v1: true, marks: true, plain: true}},
		{"version 2 is refused", &fakeS3{v1: true, refuseV2: true}},
		{"another region", &fakeS3{region: "eu-central-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.fake.keys, c.fake.perPage = oddKeys, 4
			b := bucketAt(serve(t, c.fake.ServeHTTP))
			o := newOpener(t)
			r := drain(t.Context(), open(t, o, b, nil))
			if r.err != nil || r.bytes != int64(10*len(oddKeys)) {
				t.Fatalf("%d bytes, error %v", r.bytes, r.err)
			}
			if diff := cmp.Diff(oddKeys, r.keys); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			resumed := inPieces(t, o, b)
			if diff := cmp.Diff(oddKeys, resumed.keys); diff != "" || resumed.err != nil {
				t.Errorf("in pieces: error %v, keys (-want +got):\n%s", resumed.err, diff)
			}
			b.Prefix = "a/"
			if r := drain(t.Context(), open(t, o, b, nil)); r.err != nil || !slices.Equal(r.keys, []string{"a/", "a//b", "a/b"}) {
				t.Errorf("below a/: %q, error %v", r.keys, r.err)
			}
		})
	}
}

// inPieces drains a bucket with a new source for every step.
func inPieces(t *testing.T, o *Opener, b source.Bucket) (r result) {
	t.Helper()
	var cursor []byte
	for range 1000 {
		s := open(t, o, b, cursor)
		var keys []string
		step, err := s.Step(t.Context(), func(e source.Entry) { keys = append(keys, string(e.Key)) })
		if r.err = err; err != nil {
			return r
		}
		r.keys = append(r.keys, keys...)
		if cursor = s.Cursor(); len(cursor) == 0 {
			t.Fatal("the cursor is empty after a step")
		}
		if step.Done {
			return r
		}
	}
	t.Fatal("1,000 pieces without an end")
	return r
}

func TestVersion1IsRemembered(t *testing.T) {
	t.Parallel()
	fake := &fakeS3{keys: oddKeys, perPage: 100, v1: true, refuseV2: true}
	b, o := bucketAt(serve(t, fake.ServeHTTP)), newOpener(t)
	if r := drain(t.Context(), open(t, o, b, nil)); r.err != nil || r.requests != 2 {
		t.Errorf("first: %d requests, error %v; want 2", r.requests, r.err)
	}
	s := open(t, o, b, nil)
	if r := drain(t.Context(), s); r.err != nil || r.requests != 1 {
		t.Errorf("second: %d requests, error %v; want 1", r.requests, r.err)
	}
	if d := s.(source.Detector).Detected(); d.Addressing != purser.AddressingPath || d.ListVersion != 1 {
		t.Errorf("detected %+v", d)
	}
}

func TestStaleTokenFallsBackToTheLastKey(t *testing.T) {
	t.Parallel()
	fake := &fakeS3{keys: oddKeys, perPage: 4}
	stale := atomic.Bool{}
	b, o := bucketAt(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if stale.Load() && r.URL.Query().Has("continuation-token") {
			s3Error(400, "InvalidArgument")(w, r)
			return
		}
		fake.ServeHTTP(w, r)
	})), newOpener(t)
	first := open(t, o, b, nil)
	if _, err := first.Step(t.Context(), func(source.Entry) {}); err != nil {
		t.Fatal(err)
	}
	stale.Store(true)
	var keys []string
	second := open(t, o, b, first.Cursor())
	if _, err := second.Step(t.Context(), func(e source.Entry) { keys = append(keys, string(e.Key)) }); err != nil || !slices.Equal(keys, oddKeys[4:8]) {
		t.Errorf("keys %q, error %v; want %q", keys, err, oddKeys[4:8])
	}
	// A token that was fresh and is refused is the server's failure, and the
	// cursor stays where it was.
	before := string(second.Cursor())
	_, err := second.Step(t.Context(), func(source.Entry) {})
	wantError(t, err, source.CodeServerError, false)
	if after := string(second.Cursor()); after != before {
		t.Errorf("a step that failed moved the cursor from %s to %s", before, after)
	}
}

func TestEmptyPagesAreLegal(t *testing.T) {
	t.Parallel()
	b := bucketAt(serve(t, counting(func(n int64) http.HandlerFunc {
		if n <= 10 {
			return write(truncated(nextToken(fmt.Sprint(n))))
		}
		return write(listing(complete + entry("a", "1")))
	})))
	if r := inPieces(t, newOpener(t), b); r.err != nil || len(r.keys) != 1 {
		t.Errorf("keys %q, error %v", r.keys, r.err)
	}
}

func TestPrefixIsChecked(t *testing.T) {
	t.Parallel()
	b := bucketAt(serve(t, write(listing(complete+entry("other/a", "1")))))
	b.Prefix = "team/"
	r := drain(t.Context(), open(t, newOpener(t), b, nil))
	wantError(t, r.err, source.CodeBadListing, false)
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keys []string
		want bool
	}{{"holds nothing", nil, true}, {"holds something outside the prefix", []string{"other"}, false}} {
		fake := &fakeS3{keys: c.keys, perPage: 10}
		b := bucketAt(serve(t, fake.ServeHTTP))
		b.Prefix = "team/"
		s := open(t, newOpener(t), b, nil)
		if empty, err := s.(source.Prober).Empty(t.Context()); err != nil || empty != c.want {
			t.Errorf("%s: Empty() = %t, %v; want %t", c.name, empty, err, c.want)
		}
		if q := fake.requests[0]; q.Get("max-keys") != "1" || q.Has("prefix") {
			t.Errorf("%s: asked %v", c.name, q)
		}
	}
	s := open(t, newOpener(t), bucketAt(serve(t, s3Error(403, "AccessDenied"))), nil)
	_, err := s.(source.Prober).Empty(t.Context())
	wantError(t, err, source.CodeAccessDenied, false)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*source.Bucket)
		cursor string
		code   string
	}{
		{"a path for a bucket", func(b *source.Bucket) { b.Bucket = "a/../b" }, "", source.CodeNoSuchBucket},
		{"no bucket", func(b *source.Bucket) { b.Bucket = "" }, "", source.CodeNoSuchBucket},
		{"an endpoint with a path", func(b *source.Bucket) { b.Endpoint = "https://a.example/b" }, "", source.CodeUnreachable},
		{"a host for a region of AWS", func(b *source.Bucket) { b.Endpoint, b.Region = "", "evil.example#" }, "", source.CodeWrongRegion},
		{"a cursor that is none", func(*source.Bucket) {}, "{", source.CodeInternal},
	} {
		b := bucketAt("https://s3.example.com")
		c.change(&b)
		var cursor []byte
		if c.cursor != "" {
			cursor = []byte(c.cursor)
		}
		_, err := newOpener(t).Open(t.Context(), b, cursor)
		t.Run(c.name, func(t *testing.T) { wantError(t, err, c.code, false) })
	}
}
