// Package canned is an S3 server whose buckets are formulas: it lists millions
// of keys at almost no cost, so that a benchmark measures the client, and it is
// odd on request, so that tests can show what a client makes of an odd server.
//
// It answers listings and what clients ask before they list; it keeps nothing,
// and checks no signature. What always holds: a listing is exact from whatever
// text it is asked to begin at, the same question has the same answer for ever,
// and the truth about any prefix can be had from the server itself, computed
// without any listing:
//
//	GET /_truth?prefix=P    what lies under P, as Truth
//	GET /_stats             what was asked so far, as Stats
package canned

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Quirk is one way to differ from AWS.
type Quirk string

// The quirks. What each is like in the wild is in the listings of S3's many
// implementations; clients meet them one at a time.
const (
	StartAfterRounded Quirk = "start-after-rounded" // start-after begins at a page's first key, which may lie before it
	StartAfterIgnored Quirk = "start-after-ignored" // start-after begins at the first key of all
	Unordered         Quirk = "unordered"           // keys come in no order, and start-after is unknown; with a delimiter they are sorted
	V1Only            Quirk = "v1-only"             // list-type is unknown: everything is answered as ListObjects
	NoToken           Quirk = "no-token"            // IsTruncated without a token (V2) or next marker (V1 with a delimiter)
	EmptyPages        Quirk = "empty-pages"         // in V2 every second page is empty, and truncated
	LongPages         Quirk = "long-pages"          // pages hold twice as many entries as were asked for
	NoURLEncoding     Quirk = "no-url-encoding"     // encoding-type is ignored
)

// Quirks are all of them.
var Quirks = []Quirk{StartAfterRounded, StartAfterIgnored, Unordered, V1Only, NoToken, EmptyPages, LongPages, NoURLEncoding}

// Options say how a bucket is served. The zero value is a quick and correct
// server of a bucket named "bench".
type Options struct {
	Name      string        // of the bucket; empty means bench
	PageSize  int           // the most that a page holds; 0 means 1000
	Versioned bool          // objects have been overwritten and deleted
	Quirks    []Quirk       // at most a few make sense together
	Delay     time.Duration // what each listing takes longer
	// RPS is how many requests a second are answered; others get 503 SlowDown with
	// Retry-After. 0 means all of them.
	RPS float64
	// KeepBytes is how much rendered XML is kept. 0 means 3 GiB, enough for some
	// seven million objects; others are rendered each time.
	KeepBytes int64
}

// Bucket serves one bucket. It is safe for use by many at a time.
type Bucket struct {
	keys      Keys
	name      string
	pageSize  int
	versioned bool
	quirks    map[Quirk]bool
	delay     time.Duration
	limit     limit

	raw, encoded *blocks
	room         *atomic.Int64 // bytes that may still be kept
	answers      sync.Map      // of versions: query → []byte

	requests, listings, refused atomic.Int64
}

// New makes a server of keys.
func New(keys Keys, o Options) (*Bucket, error) {
	b := &Bucket{keys: keys, name: o.Name, pageSize: o.PageSize, versioned: o.Versioned, quirks: map[Quirk]bool{}, delay: o.Delay}
	if b.name == "" {
		b.name = "bench"
	}
	if b.pageSize == 0 {
		b.pageSize = 1000
	}
	if b.pageSize < 1 {
		return nil, errors.New("a page holds at least one key")
	}
	for _, q := range o.Quirks {
		if !slices.Contains(Quirks, q) {
			return nil, fmt.Errorf("no quirk %q; there are %v", q, Quirks)
		}
		b.quirks[q] = true
	}
	b.limit = limit{perSecond: o.RPS, burst: max(1, o.RPS/10), tokens: max(1, o.RPS/10), at: time.Now()}
	b.room = &atomic.Int64{}
	b.room.Store(o.KeepBytes)
	if o.KeepBytes == 0 {
		b.room.Store(3 << 30)
	}
	b.raw, b.encoded = newBlocks(keys, false, b.room), newBlocks(keys, true, b.room)
	return b, nil
}

// Render renders all listings ahead, as far as they are kept, for clients that
// ask for encoding-type=url as almost all do.
func (b *Bucket) Render() {
	var group sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for b.room.Load() > 0 {
				number := int(next.Add(1)) - 1
				if number >= len(b.encoded.kept) {
					return
				}
				b.encoded.block(number)
			}
		})
	}
	group.Wait()
}

// Truth is what lies under a prefix.
type Truth struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Versions that are not current, and delete markers; they have no bytes.
	NoncurrentObjects int64 `json:"noncurrentObjects"`
	NoncurrentBytes   int64 `json:"noncurrentBytes"`
	DeleteMarkers     int64 `json:"deleteMarkers"`
}

// Truth adds up what lies under prefix, straight from the formulas.
func (b *Bucket) Truth(prefix string) Truth {
	low, high := b.keys.within(prefix)
	t := Truth{Objects: int64(high - low)}
	for i := low; i < high; i++ {
		t.Bytes += b.keys.size(i)
	}
	if !b.versioned {
		return t
	}
	for i := max(0, low-1); i < min(high+1, b.keys.n); i++ {
		for _, row := range b.versionsAt(i) {
			switch {
			case !strings.HasPrefix(string(row.key), prefix):
			case row.marker:
				t.DeleteMarkers++
			case !row.latest:
				t.NoncurrentObjects++
				t.NoncurrentBytes += row.size
			}
		}
	}
	return t
}

// Stats count what was asked of the server.
type Stats struct {
	Requests   int64   `json:"requests"`
	Listings   int64   `json:"listings"` // pages: V1, V2 and versions
	Refused    int64   `json:"refused"`  // with 503
	CPUSeconds float64 `json:"cpuSeconds"`
}

// Stats are the counts since the start; processor time is the process's.
func (b *Bucket) Stats() Stats {
	s := Stats{Requests: b.requests.Load(), Listings: b.listings.Load(), Refused: b.refused.Load()}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err == nil {
		s.CPUSeconds = time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
	}
	return s
}

// ServeHTTP answers in path style.
func (b *Bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_truth":
		writeJSON(w, b.Truth(r.URL.Query().Get("prefix")))
		return
	case "/_stats":
		writeJSON(w, b.Stats())
		return
	}
	b.requests.Add(1)
	if !b.limit.allow(time.Now()) {
		b.refused.Add(1)
		w.Header().Set("Retry-After", "1")
		fail(w, r, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		fail(w, r, http.StatusMethodNotAllowed, "MethodNotAllowed", "This server only lists.")
	case bucket == "":
		writeXML(w, []byte(`<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>canned</ID></Owner><Buckets><Bucket><Name>`+
			b.name+`</Name><CreationDate>2020-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>`))
	case bucket != b.name:
		fail(w, r, http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	case key != "":
		b.object(w, r, key)
	case r.Method == http.MethodHead:
		w.Header().Set("X-Amz-Bucket-Region", "us-east-1")
	default:
		b.bucket(w, r)
	}
}

// object answers for the properties of one object; there is no content.
func (b *Bucket) object(w http.ResponseWriter, r *http.Request, key string) {
	i := b.keys.search(key)
	switch {
	case i == b.keys.n || b.keys.Object(i).Key != key:
		fail(w, r, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	case r.Method != http.MethodHead:
		fail(w, r, http.StatusNotImplemented, "NotImplemented", "This server keeps no content.")
	default:
		w.Header().Set("Content-Length", strconv.FormatInt(b.keys.size(i), 10))
		w.Header().Set("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
		w.Header().Set("ETag", `"`+string(hex16(hex16(nil, hash(i, saltETag)), hash(i, saltETag2)))+`"`)
	}
}

// bucket answers a question about the bucket.
func (b *Bucket) bucket(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	const namespace = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/"`
	switch {
	case q.Has("location"):
		writeXML(w, []byte("<LocationConstraint"+namespace+">us-east-1</LocationConstraint>"))
	case q.Has("versioning"):
		status := ""
		if b.versioned {
			status = "<Status>Enabled</Status>"
		}
		writeXML(w, []byte("<VersioningConfiguration"+namespace+">"+status+"</VersioningConfiguration>"))
	case q.Has("uploads"):
		writeXML(w, []byte("<ListMultipartUploadsResult"+namespace+"><Bucket>"+b.name+"</Bucket><KeyMarker/><UploadIdMarker/><MaxUploads>1000</MaxUploads><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"))
	case q.Has("versions"):
		b.listing(w, r, q, b.keptVersions)
	case q.Get("list-type") == "2" && !b.quirks[V1Only]:
		b.listing(w, r, q, b.version2)
	case other(q) != "":
		fail(w, r, http.StatusNotImplemented, "NotImplemented", "This server only lists.")
	default:
		b.listing(w, r, q, b.version1)
	}
}

// other is a sub-resource that is asked for and does not exist here, if any.
func other(q url.Values) string {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		switch {
		case q.Get(name) == "" && !slices.Contains([]string{"prefix", "delimiter", "marker", "start-after", "continuation-token"}, name):
			return name
		case name == "list-type" && q.Get(name) != "2":
			return name
		}
	}
	return ""
}

func (b *Bucket) listing(w http.ResponseWriter, r *http.Request, q url.Values, answer func(url.Values) ([][]byte, error)) {
	b.listings.Add(1)
	if b.delay > 0 {
		timer := time.NewTimer(b.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	pieces, err := answer(q)
	if err != nil {
		fail(w, r, http.StatusBadRequest, "InvalidArgument", err.Error())
		return
	}
	writeXML(w, pieces...)
}

func writeXML(w http.ResponseWriter, pieces ...[]byte) {
	length := 0
	for _, piece := range pieces {
		length += len(piece)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	for _, piece := range pieces {
		if _, err := w.Write(piece); err != nil {
			return // the client has gone
		}
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails when the client has gone
}

func fail(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	body := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body)) // fails when the client has gone
	}
}

// limit lets some requests through: a bucket of tokens.
type limit struct {
	perSecond, burst float64 // none if perSecond is 0

	mu     sync.Mutex // guards what follows
	tokens float64
	at     time.Time // when tokens was right
}

func (l *limit) allow(now time.Time) bool {
	if l.perSecond == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = math.Min(l.burst, l.tokens+l.perSecond*now.Sub(l.at).Seconds())
	l.at = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
