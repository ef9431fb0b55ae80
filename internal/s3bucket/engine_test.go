package s3bucket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
)

// modelS3 is a bucket that others write to while it is listed, on a server with
// quirks. Keys that begin with "other/" come and go; the rest stays.
type modelS3 struct {
	keys    []string // in order
	perPage int
	// The quirks, each by itself or with others.
	v1, noToken, noStart, roundsStart, skips, emptyPages, plain, unordered, grouped, decorates bool

	mu     sync.Mutex
	others map[string]struct{}
	n      int
}

// version is one version of a key, or the mark of its deletion.
type version struct {
	key, id string
	latest  bool
	marker  bool
	size    int64
}

// versionsOf are the versions of a key that stays, the newest first: how many,
// and whether it is deleted, is told by its length.
func (f *modelS3) versionsOf(key string) []version {
	var all []version
	for i := range 1 + len(key)%4 {
		v := version{key: key, id: fmt.Sprintf("v%d", 9-i), latest: i == 0, size: f.size(key) + int64(i)}
		v.marker = i == 0 && len(key)%5 == 0
		all = append(all, v)
	}
	return all
}

// serveVersions answers as servers do that keep versions; pages end anywhere.
func (f *modelS3) serveVersions(w http.ResponseWriter, q url.Values) {
	most, _ := strconv.Atoi(q.Get("max-keys"))
	most = min(most, f.perPage)
	var b, markers strings.Builder
	n, more, last := 0, false, version{}
	for _, key := range f.listed() {
		for _, v := range f.versionsOf(key) {
			from := q.Get("version-id-marker")
			after, _, _ := strings.Cut(q.Get("key-marker"), "[cache")
			behind := key > after || from != "" && key == after && v.id < from
			if !behind || !strings.HasPrefix(key, q.Get("prefix")) || more {
				continue
			}
			if more = n == most; more {
				continue
			}
			n, last = n+1, v
			name := strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
			if v.marker {
				to := &b
				if f.grouped {
					to = &markers
				}
				fmt.Fprintf(to, "<DeleteMarker><Key>%s</Key><VersionId>%s</VersionId><IsLatest>%t</IsLatest></DeleteMarker>", name, v.id, v.latest)
				continue
			}
			fmt.Fprintf(&b, "<Version><Key>%s</Key><VersionId>%s</VersionId><IsLatest>%t</IsLatest><Size>%d</Size></Version>", name, v.id, v.latest, v.size)
		}
	}
	b.WriteString(markers.String())
	fmt.Fprintf(&b, "<Name>bucket</Name><EncodingType>url</EncodingType><IsTruncated>%t</IsTruncated>", more)
	if more {
		if f.decorates {
			last.key += "[cache:7]"
		}
		fmt.Fprintf(&b, "<NextKeyMarker>%s</NextKeyMarker><NextVersionIdMarker>%s</NextVersionIdMarker>",
			strings.ReplaceAll(url.QueryEscape(last.key), "%2F", "/"), last.id)
	}
	_, _ = w.Write([]byte("<ListVersionsResult>" + b.String() + "</ListVersionsResult>"))
}

func (f *modelS3) size(key string) int64 { return int64(len(key))*7 + 1 }

// listed is what the bucket holds now.
func (f *modelS3) listed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.n%2 == 0 {
		f.others["other/"+strconv.Itoa(f.n%50)] = struct{}{}
	} else {
		delete(f.others, "other/"+strconv.Itoa((f.n*7)%50))
	}
	all := slices.Clone(f.keys)
	for key := range f.others {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

func (f *modelS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	most, _ := strconv.Atoi(q.Get("max-keys"))
	most = min(most, f.perPage)
	if f.unordered {
		f.serveUnordered(w, q)
		return
	}
	if q.Has("versions") {
		f.serveVersions(w, q)
		return
	}
	v2 := q.Get("list-type") == "2" && !f.v1
	all := f.listed()
	after := q.Get("marker")
	if v2 {
		if after = f.keyOf(q.Get("continuation-token")); after == "" && !f.noStart {
			after = q.Get("start-after")
			if f.roundsStart && after != "" {
				i, _ := slices.BinarySearch(all, after)
				after = append([]string{""}, all...)[i/f.perPage*f.perPage]
			}
		}
	}
	var b strings.Builder
	n, more, last := 0, false, ""
	for _, key := range all {
		if key <= after || !strings.HasPrefix(key, q.Get("prefix")) {
			continue
		}
		if more = n == most; more {
			break
		}
		n, last = n+1, key
		b.WriteString(f.entry(key))
	}
	start := q.Get("start-after")
	if _, there := slices.BinarySearch(all, start); f.skips && more && v2 && start != "" && !there {
		i, _ := slices.BinarySearch(all, last)
		last = all[i+1]
	}
	if f.emptyPages && more && v2 && !f.noToken && q.Get("continuation-token") == "" && rand.N(2) == 0 {
		b.Reset() // nothing yet, but go on
		last = after
		if last == "" {
			last = "\x01"
		}
	}
	f.finish(&b, v2, more, f.token(last))
	_, _ = w.Write([]byte(listing(b.String())))
}

// token is how the listing goes on behind a key: that key, or what MinIO makes
// of it.
func (f *modelS3) token(key string) string {
	if f.skips {
		return base64.StdEncoding.EncodeToString([]byte(key + "[minio_cache:v2,return:]"))
	}
	return key
}

func (f *modelS3) keyOf(token string) string {
	if f.skips {
		plain, _ := base64.StdEncoding.DecodeString(token)
		token, _, _ = strings.Cut(string(plain), "[minio_cache:")
	}
	return token
}

func (f *modelS3) entry(key string) string {
	size := strconv.FormatInt(f.size(key), 10)
	if f.plain {
		return entry(strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(key), size)
	}
	return entry(strings.ReplaceAll(url.QueryEscape(key), "%2F", "/"), size)
}

func (f *modelS3) finish(b *strings.Builder, v2, more bool, last string) {
	fmt.Fprintf(b, "<Name>bucket</Name><IsTruncated>%t</IsTruncated>", more)
	if !f.plain {
		b.WriteString("<EncodingType>url</EncodingType>")
	}
	if v2 {
		b.WriteString("<KeyCount>0</KeyCount>")
	}
	if v2 && more && !f.noToken {
		b.WriteString(nextToken(strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(last)))
	}
}

// serveUnordered lists by a hash of the key and only knows tokens, as directory
// buckets do.
func (f *modelS3) serveUnordered(w http.ResponseWriter, q url.Values) {
	order := slices.Clone(f.keys)
	slices.SortFunc(order, func(a, b string) int { return strings.Compare(reversed(a), reversed(b)) })
	from, _ := strconv.Atoi(q.Get("continuation-token"))
	to := min(from+f.perPage, len(order))
	var b strings.Builder
	for _, key := range order[from:to] {
		b.WriteString(f.entry(key))
	}
	f.finish(&b, true, to < len(order), strconv.Itoa(to))
	_, _ = w.Write([]byte(listing(b.String())))
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// sums are what an engine has counted, of the keys that stay.
type sums struct{ Objects, Bytes, Noncurrent int64 }

type sumPage struct{ sums }

func (p *sumPage) Reset() { p.sums = sums{} }

func (p *sumPage) Count(e source.Entry) {
	switch {
	case strings.HasPrefix(string(e.Key), "other/"):
	case e.Class == source.Noncurrent:
		p.Noncurrent += e.Size
	default:
		p.Objects++
		p.Bytes += e.Size
	}
}

// saved is what would be in a database.
type saved struct {
	Work engine.Work
	Sums sums
}

// life counts from what was saved until all is done or it is ended after some
// steps, in an orderly way or as by kill -9: then only what was saved before is
// left.
func life(t *rapid.T, o *Opener, b source.Bucket, from saved, workers, steps int, orderly bool) (saved, bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	total, left := from.Sums, steps
	var e *engine.Engine
	kept := from
	e = engine.New(from.Work, engine.Options{
		Open: func(ctx context.Context, s engine.Span, oneChain bool) (source.Source, error) {
			part := b
			part.What, part.After, part.Until, part.OneChain = s.What, s.After, s.Until, oneChain
			return o.Open(ctx, part, s.Cursor)
		},
		NewPage: func() engine.Page { return &sumPage{} },
		Add: func(p engine.Page, _ source.Step, _ source.Source, _ func() engine.Work) error {
			page := p.(*sumPage)
			total.Objects += page.Objects
			total.Bytes += page.Bytes
			total.Noncurrent += page.Noncurrent
			if left--; left == 0 {
				if orderly {
					go e.Stop()
				} else {
					cancel()
				}
			}
			return nil
		},
		Spent: func(int64) {}, Forget: func() { total = sums{} },
		Workers: workers,
	})
	var saves sync.WaitGroup
	if !orderly { // saves go on beside the work
		saves.Go(func() {
			for ctx.Err() == nil {
				e.Save(func(w engine.Work) { kept = saved{clone(t, w), total} })
			}
		})
	}
	err := e.Run(ctx)
	cancelled := ctx.Err() != nil
	cancel()
	saves.Wait()
	if err != nil && (!cancelled || !errors.Is(err, context.Canceled)) {
		t.Fatalf("Run: %v", err)
	}
	if cancelled {
		return kept, false
	}
	var now saved
	e.Save(func(w engine.Work) { now = saved{clone(t, w), total} })
	return now, len(now.Work.Spans) == 0
}

// clone sends work through JSON, as a database would have it.
func clone(t *rapid.T, w engine.Work) (c engine.Work) {
	text, err := json.Marshal(w)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var modelAlphabets = []string{"ab", "0123456789abcdef", "a/", "aé日😀/", "a b+%&<"}

func drawModel(t *rapid.T) *modelS3 {
	alphabet := []rune(rapid.SampledFrom(modelAlphabets).Draw(t, "alphabet"))
	prefix := rapid.SampledFrom([]string{"", "team/datasets/", "p/"}).Draw(t, "prefix")
	n := rapid.IntRange(0, 400).Draw(t, "keys")
	seed := rapid.Uint64().Draw(t, "seed")
	chance := rand.New(rand.NewPCG(seed, 1))
	unique := map[string]struct{}{}
	for range n {
		var key strings.Builder
		key.WriteString(prefix)
		for range 1 + chance.IntN(8) {
			key.WriteRune(alphabet[chance.IntN(len(alphabet))])
		}
		unique[key.String()] = struct{}{}
	}
	f := &modelS3{perPage: rapid.IntRange(1, 40).Draw(t, "page"), others: map[string]struct{}{}}
	for key := range unique {
		f.keys = append(f.keys, key)
	}
	slices.Sort(f.keys)
	for _, quirk := range []struct {
		name string
		on   *bool
	}{
		{"v1", &f.v1},
		{"no tokens", &f.noToken},
		{"start-after is ignored", &f.noStart},
		{"start-after is rounded down", &f.roundsStart},
		{"tokens leave a key out if that of start-after is gone", &f.skips},
		{"empty pages", &f.emptyPages},
		{"encoding is ignored", &f.plain},
		{"in no order", &f.unordered},
		{"marks of deletion behind all versions", &f.grouped},
		{"key markers say more than the key", &f.decorates},
	} {
		*quirk.on = rapid.IntRange(0, 4).Draw(t, quirk.name) == 0
	}
	f.noToken = f.noToken && !f.unordered                              // that could not be listed by anybody
	f.skips = f.skips && !f.emptyPages && !f.roundsStart && !f.noStart // MinIO has no other quirk
	return f
}

// TestEngineIsExact counts model buckets of all kinds in any number of lives,
// each ended at any moment, and compares with the truth.
func TestEngineIsExact(t *testing.T) {
	t.Parallel()
	o := newOpener(t)
	rapid.Check(t, func(t *rapid.T) {
		f := drawModel(t)
		server := httptest.NewServer(f)
		defer server.Close()
		b := bucketAt(server.URL)
		var want sums
		listing := source.Objects
		if !f.unordered && rapid.IntRange(0, 2).Draw(t, "versions") == 0 {
			listing = source.Versions
		}
		for _, key := range f.keys {
			if listing == source.Objects {
				want.Objects++
				want.Bytes += f.size(key)
				continue
			}
			for _, v := range f.versionsOf(key) {
				switch {
				case v.marker:
				case v.latest:
					want.Objects++
					want.Bytes += v.size
				default:
					want.Noncurrent += v.size
				}
			}
		}
		// What an earlier scan has found may be gone by now; in no order, it finds none.
		cuts := rapid.SliceOfNDistinct(rapid.SampledFrom(append([]string{"p/a", "other/7", "zzz"}, f.keys...)), 0, 5, rapid.ID).Draw(t, "cuts")
		slices.Sort(cuts)
		if f.unordered {
			cuts = nil
		}
		var keys [][]byte
		for _, cut := range cuts {
			keys = append(keys, []byte(cut))
		}
		state, done := saved{Work: engine.All(listing).CutAt(keys)}, false
		for n := 0; !done; n++ {
			steps := rapid.IntRange(1, 30).Draw(t, "steps")
			if n > 60 {
				steps = 1 << 30
			}
			state, done = life(t, o, b, state, rapid.IntRange(1, 8).Draw(t, "workers"), steps, rapid.Bool().Draw(t, "orderly"))
		}
		if state.Sums != want {
			t.Fatalf("counted %+v, the truth is %+v", state.Sums, want)
		}
		if state.Work.OneChain && listing == source.Versions {
			t.Fatal("versions in order were counted in one chain")
		}
	})
}

// TestCutBeforeTheNextFolder cuts a folder whose bound is the first key of the
// next one, with nothing between the two.
func TestCutBeforeTheNextFolder(t *testing.T) {
	t.Parallel()
	f := &modelS3{perPage: 5, others: map[string]struct{}{}}
	for i := range 400 {
		f.keys = append(f.keys, fmt.Sprintf("team/datasets/%03x", i*10))
	}
	f.keys = append(f.keys, "team/models/000")
	server := httptest.NewServer(f)
	defer server.Close()
	b := bucketAt(server.URL)
	b.Prefix, b.Until = "team/", []byte("team/models/000")
	src, err := newOpener(t).Open(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }() // nothing was written
	for range pagesBetween {
		if _, err := src.Step(t.Context(), func(source.Entry) {}); err != nil {
			t.Fatal(err)
		}
	}
	at, _, err := src.(source.Splitter).Split(t.Context())
	if err != nil || !strings.HasPrefix(string(at), "team/datasets/") {
		t.Errorf("cut at %q, error %v", at, err)
	}
}

// TestACutIsGone begins at a key that was deleted since, on a server whose next
// token then leaves a key out.
func TestACutIsGone(t *testing.T) {
	t.Parallel()
	f := &modelS3{perPage: 5, skips: true, others: map[string]struct{}{}}
	for i := range 40 {
		f.keys = append(f.keys, fmt.Sprintf("k%02d", i))
	}
	server := httptest.NewServer(f)
	defer server.Close()
	b := bucketAt(server.URL)
	b.After, b.Until = []byte("k09-deleted"), []byte("k29-deleted")
	src, err := newOpener(t).Open(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for done := false; !done; {
		step, err := src.Step(t.Context(), func(source.Entry) { n++ })
		if err != nil {
			t.Fatal(err)
		}
		done = step.Done
	}
	if n != 20 {
		t.Errorf("counted %d keys, want 20", n)
	}
}

// TestAWalkingServerIsNotCut has one that says that it is MinIO, for which each
// listing that begins somewhere is a walk of its own.
func TestAWalkingServerIsNotCut(t *testing.T) {
	t.Parallel()
	f := &modelS3{perPage: 5, others: map[string]struct{}{}}
	for i := range 100 {
		f.keys = append(f.keys, fmt.Sprintf("k%03d", i))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("start-after") {
			t.Errorf("it was asked for %s", r.URL.RawQuery)
		}
		w.Header().Set("Server", "MinIO")
		f.ServeHTTP(w, r)
	}))
	defer server.Close()
	rapid.Check(t, func(rt *rapid.T) {
		state, done := life(rt, newOpener(t), bucketAt(server.URL), saved{Work: engine.All(source.Objects)}, 8, 1<<30, true)
		if !done || state.Sums.Objects != 100 {
			rt.Fatalf("counted %+v", state.Sums)
		}
	})
}
