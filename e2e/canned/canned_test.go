package canned_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/e2e/canned"
)

// result is every kind of listing, as encoding/xml understands it.
type result struct {
	IsTruncated                                      bool
	KeyCount                                         *int
	NextContinuationToken, NextMarker, NextKeyMarker string
	NextVersionIdMarker, EncodingType                string //nolint:revive // as on the wire
	Contents                                         []struct {
		Key  string
		Size int64
	}
	Version, DeleteMarker []struct {
		Key, VersionId string //nolint:revive // as on the wire
		IsLatest       bool
		Size           int64
	}
	CommonPrefixes []struct{ Prefix string }
}

// fataler is *testing.T or *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func get(t fataler, b http.Handler, q url.Values) result {
	t.Helper()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/bench?"+q.Encode(), nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%v: %d %s", q, w.Code, w.Body)
	}
	var r result
	if err := xml.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatalf("%v: %v in %s", q, err, w.Body)
	}
	return r
}

// names are the keys and common prefixes of an answer, decoded and sorted.
func (r result) names(t fataler) []string {
	t.Helper()
	var names []string
	for _, c := range r.Contents {
		names = append(names, c.Key)
	}
	for _, c := range r.CommonPrefixes {
		names = append(names, c.Prefix)
	}
	for _, v := range r.Version {
		names = append(names, v.Key+"\x00"+v.VersionId)
	}
	for _, v := range r.DeleteMarker {
		names = append(names, v.Key+"\x00"+v.VersionId)
	}
	for i := range names {
		names[i] = r.decode(t, names[i])
	}
	return names
}

func (r result) decode(t fataler, s string) string {
	t.Helper()
	if r.EncodingType != "url" {
		return s
	}
	name, id, isVersion := strings.Cut(s, "\x00")
	name, err := url.QueryUnescape(name)
	if err != nil {
		t.Fatal(err)
	}
	if isVersion {
		return name + "\x00" + id
	}
	return name
}

// model lists in the most obvious way: all of it, from sorted keys.
func model(keys []string, prefix, delimiter, after string) []string {
	var names []string
	rolled := func(key string) string {
		if at := strings.Index(key[len(prefix):], delimiter); delimiter != "" && at >= 0 {
			return key[:len(prefix)+at+len(delimiter)]
		}
		return key
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if strings.HasPrefix(after, prefix) && strings.HasSuffix(after, delimiter) && delimiter != "" && rolled(after) == after && rolled(key) == after {
			continue
		}
		if name := rolled(key); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

// Letters that sort around the delimiter, and that must be escaped.
var text = rapid.StringOfN(rapid.SampledFrom([]rune("aab//!~ &+%é\U0001F600")), 0, 6, -1)

func keySet(t *rapid.T) (keys []string, objects []canned.Object) {
	keys = rapid.SliceOfNDistinct(text.Filter(func(s string) bool { return s != "" }), 0, 40, rapid.ID).Draw(t, "keys")
	slices.Sort(keys)
	for i, key := range keys {
		objects = append(objects, canned.Object{Key: key, Size: int64(i)})
	}
	return keys, objects
}

func newBucket(t fataler, keys canned.Keys, o canned.Options) *canned.Bucket {
	t.Helper()
	b, err := canned.New(keys, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// form is one of the ways to list.
type form struct {
	name, after string
	set         url.Values
}

var forms = []form{
	{"V2", "start-after", url.Values{"list-type": {"2"}}},
	{"V1", "marker", url.Values{}},
	{"versions", "key-marker", url.Values{"versions": {""}}},
}

// follow sets q to ask for the page behind r.
func (f form) follow(t fataler, q url.Values, r result, names []string) {
	t.Helper()
	switch f.name {
	case "V2":
		q.Set("continuation-token", r.NextContinuationToken)
	case "V1":
		last := slices.Max(names)
		if q.Get("delimiter") != "" && r.decode(t, r.NextMarker) != last {
			t.Fatalf("NextMarker = %q behind %q", r.NextMarker, names)
		}
		q.Set("marker", last)
	default:
		q.Set("key-marker", r.decode(t, r.NextKeyMarker))
		q.Set("version-id-marker", r.NextVersionIdMarker)
		if r.NextVersionIdMarker == "" {
			q.Del("version-id-marker")
		}
	}
}

// all follows a listing to its end.
func (f form) all(t fataler, b http.Handler, q url.Values) (names []string, pages int) {
	t.Helper()
	for {
		r := get(t, b, q)
		found := r.names(t)
		names, pages = append(names, found...), pages+1
		if !r.IsTruncated {
			return names, pages
		}
		if len(found) == 0 || pages > 1000 {
			t.Fatalf("%s: no progress with %v", f.name, q)
		}
		f.follow(t, q, r, found)
	}
}

// TestListingsEqualTheModel asks random questions about random keys.
func TestListingsEqualTheModel(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				keys, objects := keySet(t)
				b := newBucket(t, canned.Of(objects...), canned.Options{PageSize: rapid.IntRange(1, 50).Draw(t, "page size")})
				q := url.Values{}
				for name, value := range f.set {
					q[name] = value
				}
				prefix := rapid.OneOf(rapid.Just(""), text).Draw(t, "prefix")
				delimiter := rapid.SampledFrom([]string{"", "/", "a/"}).Draw(t, "delimiter")
				after := rapid.OneOf(rapid.Just(""), text).Draw(t, "after")
				q.Set("prefix", prefix)
				q.Set("delimiter", delimiter)
				q.Set(f.after, after)
				q.Set("max-keys", strconv.Itoa(rapid.IntRange(1, 60).Draw(t, "max-keys")))
				if rapid.Bool().Draw(t, "encoded") {
					q.Set("encoding-type", "url")
				}
				got, _ := f.all(t, b, q)
				for i := range got {
					got[i] = strings.TrimSuffix(got[i], "\x00null")
				}
				slices.Sort(got) // within a page, prefixes follow keys
				if diff := cmp.Diff(model(keys, prefix, delimiter, after), got); diff != "" {
					t.Fatalf("%v (-model +server):\n%s", q, diff)
				}
			})
		})
	}
}

// TestPagesAreFull holds that no page but the last has fewer entries than asked
// for, and that the last says so.
func TestPagesAreFull(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys, objects := keySet(t)
		b := newBucket(t, canned.Of(objects...), canned.Options{})
		f := rapid.SampledFrom(forms).Draw(t, "form")
		most := rapid.IntRange(1, 50).Draw(t, "max-keys")
		delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(t, "delimiter")
		q := url.Values{"max-keys": {strconv.Itoa(most)}, "delimiter": {delimiter}}
		for name, value := range f.set {
			q[name] = value
		}
		want := model(keys, "", delimiter, "")
		r := get(t, b, q)
		if got := len(r.names(t)); got != min(most, len(want)) || r.IsTruncated != (len(want) > most) {
			t.Fatalf("%d of %d entries, asked for %d, truncated: %t", got, len(want), most, r.IsTruncated)
		}
		if r.KeyCount != nil && *r.KeyCount != len(r.names(t)) {
			t.Fatalf("KeyCount = %d of %d", *r.KeyCount, len(r.names(t)))
		}
	})
}

// TestShapes holds every shape against a list of its own keys, with start points
// around and between them.
func TestShapes(t *testing.T) {
	t.Parallel()
	for _, shape := range canned.Shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{0, 1, 30, 2500} {
				checkShape(t, shape, n)
			}
		})
	}
}

func checkShape(t *testing.T, shape string, n int) {
	t.Helper()
	set, err := canned.Shape(shape, n)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var total int64
	for i := range n {
		o := set.Object(i)
		if len(o.Key) > 1024 || shape == "long" && len(o.Key) != 1000 {
			t.Fatalf("%q has %d bytes", o.Key, len(o.Key))
		}
		if i > 0 && o.Key <= keys[i-1] {
			t.Fatalf("%q follows %q", o.Key, keys[i-1])
		}
		keys, total = append(keys, o.Key), total+o.Size
	}
	b := newBucket(t, set, canned.Options{})
	if got, want := b.Truth(""), (canned.Truth{Objects: int64(n), Bytes: total}); got != want {
		t.Errorf("the truth about %d is %v, want %v", n, got, want)
	}
	for _, f := range forms {
		q := url.Values{"encoding-type": {"url"}}
		for name, value := range f.set {
			q[name] = value
		}
		got, pages := f.all(t, b, q)
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], "\x00null")
		}
		if diff := cmp.Diff(keys, got); diff != "" || pages != max(1, (n+999)/1000) {
			t.Errorf("%s lists in %d pages (-keys +server):\n%s", f.name, pages, diff)
		}
	}
	if n == 0 {
		return
	}
	rapid.Check(t, func(t *rapid.T) {
		key := keys[rapid.IntRange(0, n-1).Draw(t, "place")]
		after := key[:rapid.IntRange(0, len(key)).Draw(t, "length")] + rapid.SampledFrom([]string{"", "/", "0", "~", "\U0001F600"}).Draw(t, "suffix")
		delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(t, "delimiter")
		prefix := after[:strings.LastIndexByte(after, '/')+1]
		r := get(t, b, url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "start-after": {after}, "prefix": {prefix}, "delimiter": {delimiter}})
		got := r.names(t)
		slices.Sort(got)
		want := model(keys, prefix, delimiter, after)
		if diff := cmp.Diff(want[:min(1000, len(want))], got); diff != "" {
			t.Fatalf("behind %q with %q (-model +server):\n%s", after, delimiter, diff)
		}
	})
}

// TestVersions holds a bucket with history against itself read with other page
// sizes, and against the truth.
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, shape := range canned.Shapes {
		set, err := canned.Shape(shape, 400)
		if err != nil {
			t.Fatal(err)
		}
		b := newBucket(t, set, canned.Options{Versioned: true})
		whole := get(t, b, url.Values{"versions": {""}, "max-keys": {"1000"}})
		if whole.IsTruncated {
			whole = get(t, newBucket(t, set, canned.Options{Versioned: true, PageSize: 5000}), url.Values{"versions": {""}})
		}
		got := canned.Truth{DeleteMarkers: int64(len(whole.DeleteMarker))}
		for _, v := range whole.Version {
			if v.IsLatest {
				got.Objects, got.Bytes = got.Objects+1, got.Bytes+v.Size
			} else {
				got.NoncurrentObjects, got.NoncurrentBytes = got.NoncurrentObjects+1, got.NoncurrentBytes+v.Size
			}
		}
		if want := b.Truth(""); got != want || want.DeleteMarkers == 0 || want.NoncurrentObjects == 0 || want.Objects != 400 {
			t.Errorf("%s: versions add up to %+v, the truth is %+v", shape, got, want)
		}
		all := whole.names(t)
		slices.Sort(all)
		for _, most := range []int{1, 2, 7, 100} {
			paged, _ := forms[2].all(t, b, url.Values{"versions": {""}, "max-keys": {strconv.Itoa(most)}})
			slices.Sort(paged)
			if diff := cmp.Diff(all, paged); diff != "" {
				t.Errorf("%s, %d a page (-whole +paged):\n%s", shape, most, diff)
			}
		}
	}
}

func TestQuirks(t *testing.T) {
	t.Parallel()
	var objects []canned.Object
	var keys []string
	for i := range 25 {
		keys = append(keys, fmt.Sprintf("key %02d", i))
		objects = append(objects, canned.Object{Key: keys[i], Size: 1})
	}
	v2 := func(pairs ...string) url.Values {
		q := url.Values{"list-type": {"2"}}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return q
	}
	for _, test := range []struct {
		quirk canned.Quirk
		ask   url.Values
		want  []string
		also  func(result) bool
	}{
		{"", v2("start-after", "key 14", "max-keys", "3"), keys[15:18], func(r result) bool { return r.NextContinuationToken != "" }},
		{canned.StartAfterRounded, v2("start-after", "key 14"), keys[10:20], nil},
		{canned.StartAfterIgnored, v2("start-after", "key 14"), keys[:10], nil},
		{canned.V1Only, v2("start-after", "key 14"), keys[:10], func(r result) bool { return r.KeyCount == nil && r.NextContinuationToken == "" }},
		{canned.V1Only, url.Values{"marker": {"key 14"}}, keys[15:], nil},
		{canned.NoToken, v2(), keys[:10], func(r result) bool { return r.IsTruncated && r.NextContinuationToken == "" }},
		{canned.LongPages, v2("max-keys", "4"), keys[:8], nil},
		{canned.NoURLEncoding, v2("encoding-type", "url"), keys[:10], func(r result) bool { return r.EncodingType == "" }},
	} {
		t.Run(string(test.quirk), func(t *testing.T) {
			t.Parallel()
			o := canned.Options{PageSize: 10}
			if test.quirk != "" {
				o.Quirks = []canned.Quirk{test.quirk}
			}
			r := get(t, newBucket(t, canned.Of(objects...), o), test.ask)
			if diff := cmp.Diff(test.want, r.names(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if test.also != nil && !test.also(r) {
				t.Errorf("%+v", r)
			}
		})
	}
	if _, err := canned.New(canned.Of(), canned.Options{Quirks: []canned.Quirk{"none"}}); err == nil {
		t.Error("a quirk that does not exist is accepted")
	}
}

// TestUnorderedListsEachOnce follows the tokens of a bucket without order.
func TestUnorderedListsEachOnce(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 30, 97} {
		set, err := canned.Shape("skewed", n)
		if err != nil {
			t.Fatal(err)
		}
		b := newBucket(t, set, canned.Options{PageSize: 7, Quirks: []canned.Quirk{canned.Unordered}})
		got, _ := forms[0].all(t, b, url.Values{"list-type": {"2"}, "prefix": {"events/"}})
		if n > 2 && slices.IsSorted(got) {
			t.Errorf("%d keys come sorted", n)
		}
		slices.Sort(got)
		if want := b.Truth("events/").Objects; int64(len(slices.Compact(got))) != want {
			t.Errorf("%d keys of %d", len(got), want)
		}
	}
}

func TestEmptyPagesGoOn(t *testing.T) {
	t.Parallel()
	set, err := canned.Shape("flat", 25)
	if err != nil {
		t.Fatal(err)
	}
	b := newBucket(t, set, canned.Options{PageSize: 10, Quirks: []canned.Quirk{canned.EmptyPages}})
	q := url.Values{"list-type": {"2"}}
	var counts []int
	for r := (result{IsTruncated: true}); r.IsTruncated; q.Set("continuation-token", r.NextContinuationToken) {
		r = get(t, b, q)
		counts = append(counts, len(r.Contents))
	}
	if diff := cmp.Diff([]int{10, 0, 10, 0, 5}, counts); diff != "" {
		t.Errorf("keys on each page (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBucket(t, canned.Of(canned.Object{Key: "a/key", Size: 7}), canned.Options{})
	for _, test := range []struct {
		method, target, code string
		status               int
	}{
		{http.MethodGet, "/bench?max-keys=x", "InvalidArgument", 400},
		{http.MethodGet, "/bench?max-keys=-1", "InvalidArgument", 400},
		{http.MethodGet, "/bench?encoding-type=xml", "InvalidArgument", 400},
		{http.MethodGet, "/bench?list-type=2&continuation-token=x", "InvalidArgument", 400},
		{http.MethodGet, "/bench?versions&key-marker=a/key&version-id-marker=x", "InvalidArgument", 400},
		{http.MethodGet, "/bench?acl", "NotImplemented", 501},
		{http.MethodGet, "/other", "NoSuchBucket", 404},
		{http.MethodHead, "/other", "", 404},
		{http.MethodHead, "/bench", "", 200},
		{http.MethodHead, "/bench/a/key", "", 200},
		{http.MethodHead, "/bench/a", "", 404},
		{http.MethodGet, "/bench/a/key", "NotImplemented", 501},
		{http.MethodPut, "/bench/a/key", "MethodNotAllowed", 405},
		{http.MethodGet, "/", "<Name>bench</Name>", 200},
		{http.MethodGet, "/bench?location", "us-east-1", 200},
		{http.MethodGet, "/bench?versioning", "VersioningConfiguration", 200},
		{http.MethodGet, "/bench?uploads", "<IsTruncated>false", 200},
	} {
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(test.method, test.target, nil))
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.code) {
			t.Errorf("%s %s = %d %s", test.method, test.target, w.Code, w.Body)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	b := newBucket(t, canned.Of(), canned.Options{RPS: 0.001})
	var codes []int
	for range 3 {
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/bench?list-type=2", nil))
		codes = append(codes, w.Code)
		if w.Code != http.StatusOK && (w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "SlowDown")) {
			t.Errorf("refused with %v %s", w.Header(), w.Body)
		}
	}
	if diff := cmp.Diff([]int{200, 503, 503}, codes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := b.Stats(); s.Requests != 3 || s.Listings != 1 || s.Refused != 2 {
		t.Errorf("%+v", s)
	}
}

// TestARealClient has minio-go count each shape, in all ways it knows.
func TestARealClient(t *testing.T) {
	t.Parallel()
	for _, shape := range canned.Shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			set, err := canned.Shape(shape, 3210)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(newBucket(t, set, canned.Options{}))
			t.Cleanup(server.Close)
			client, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4("key", "secret", "")})
			if err != nil {
				t.Fatal(err)
			}
			want := truth(t, server.URL)
			for _, o := range []minio.ListObjectsOptions{{Recursive: true}, {Recursive: true, UseV1: true}, {Recursive: true, WithVersions: true}, {}} {
				if got := count(t, client, o); got != want {
					t.Errorf("%+v counts %+v of %+v", o, got, want)
				}
			}
		})
	}
}

func truth(t *testing.T, server string) (truth canned.Truth) {
	t.Helper()
	response, err := http.Get(server + "/_truth") //nolint:noctx // our own server
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&truth); err != nil {
		t.Fatal(err)
	}
	return truth
}

// count counts a bucket, folder by folder unless o is recursive.
func count(t *testing.T, client *minio.Client, o minio.ListObjectsOptions) (sum canned.Truth) {
	t.Helper()
	for object := range client.ListObjects(t.Context(), "bench", o) {
		switch {
		case object.Err != nil:
			t.Fatal(object.Err)
		case !o.Recursive && strings.HasSuffix(object.Key, "/"):
			o.Prefix = object.Key
			under := count(t, client, o)
			sum.Objects, sum.Bytes = sum.Objects+under.Objects, sum.Bytes+under.Bytes
		default:
			sum.Objects, sum.Bytes = sum.Objects+1, sum.Bytes+object.Size
		}
	}
	return sum
}

// BenchmarkPage is what a page of 1,000 keys costs the server, and what
// rendering it for the first time does.
func BenchmarkPage(b *testing.B) {
	set, err := canned.Shape("flat", 1_000_000)
	if err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		keep  int64
		query string
	}{
		{"kept", 0, "list-type=2&start-after=80"},
		{"rendered", -1, "list-type=2&start-after=80"},
		{"delimiter", 0, "list-type=2&start-after=80&delimiter=/"},
		{"versions", 0, "versions&key-marker=80"},
	} {
		b.Run(test.name, func(b *testing.B) {
			bucket, err := canned.New(set, canned.Options{KeepBytes: test.keep})
			if err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "/bench?"+test.query, nil)
			w := &discard{header: http.Header{}}
			for b.Loop() {
				bucket.ServeHTTP(w, r)
			}
			b.ReportMetric(float64(w.bytes)/float64(b.N), "bytes/page")
		})
	}
}

type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(b []byte) (int, error) {
	d.bytes += len(b)
	return len(b), nil
}
