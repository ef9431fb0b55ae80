package s3bucket

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/fnv"
	"net/http"
	"net/url"
	"strconv"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// pageEntries is how many entries are asked for: the most that S3 sends.
const pageEntries = 1000

// position is a place in a listing. As JSON it is the cursor:
//
//	{"v1": true, "after": "…base64…", "token": "…base64…", "empty": 3}
type position struct {
	// Version1 is set for servers that only know the older listing.
	Version1 bool `json:"v1,omitempty"`
	// After is the last key that was counted: nothing up to it may come again.
	After []byte `json:"after,omitempty"`
	// Token is how the server wants to go on. It is preferred to After, for which
	// some servers look anew each time. In version 1 it is a marker, needed only
	// behind an empty page; in a listing of versions it is one, too.
	Token []byte `json:"token,omitempty"`
	// Version is where to go on within After, in a listing of versions; it is empty
	// when the key is done.
	Version []byte `json:"version,omitempty"`
	// Empty counts the empty pages since the last key.
	Empty int `json:"empty,omitempty"`
	// Chain guards a chain of tokens that goes round.
	Chain chain `json:"chain,omitzero"`
}

// chain notices pages that come again, where the order of keys does not tell
// whether there is progress. It keeps the mark of one page, a later one each
// time the way has doubled (Brent's algorithm), so that it needs no memory of
// them all.
type chain struct {
	Steps uint64 `json:"n"`
	Kept  uint64 `json:"kept"`
}

// follow reports whether the page with this mark is not the kept one.
func (c *chain) follow(mark []byte) bool {
	h := fnv.New64a()
	_, _ = h.Write(mark)
	sum := h.Sum64()
	if c.Steps > 0 && sum == c.Kept {
		return false
	}
	if c.Steps++; c.Steps&(c.Steps-1) == 0 {
		c.Kept = sum
	}
	return true
}

// lister is one opened bucket.
type lister struct {
	opener *Opener
	client *http.Client
	limits limits
	bucket source.Bucket

	at      position
	resumed bool // at.Token is from an earlier source and may be stale

	region        string // empty: not known
	regionKnown   bool   // was given, or a server confirmed it
	regionRetried bool
	virtualHost   bool // the bucket was in the host of the last request

	// What is known of the keys, for splitting; see split.go.
	alphabet   alphabet
	first      []byte // of all that were seen
	shared     int    // how much the keys of the last page have in common
	pages      int
	sinceSplit int // pages since the last attempt to split

	requests int64
	buf      []byte
	gate     *gate  // of the endpoint that was asked last
	joined   *gate  // that knows of this source
	walks    bool   // the server walks on by itself from where a listing began; see split
	large    bool   // buf is the gate's, for one large answer
	ordinary []byte // is buf otherwise
	page     page
	entries  sequence
	markers  sequence
	// lastVersion is the version of the page's last key.
	lastVersion []byte
}

// sequence is what is known of the keys of a page while they are looked at.
type sequence struct {
	spare       [2][]byte // decoded keys: this one and the one before
	first, last []byte    // up to the bound; first is nil if there is none
	version     []byte    // of the last
	passed      bool      // there are keys behind the bound
	kept        [2][]byte // memory for first and last
}

// Method names the way of measuring.
func (l *lister) Method() string {
	if l.bucket.OneChain {
		return "list, one chain"
	}
	return "list"
}

// Detected is how the server was asked and has answered: the region is the one that
// requests are signed for, once it has agreed to that.
func (l *lister) Detected() (d purser.Detected) {
	if l.regionKnown {
		d.Region = l.region
	}
	if d.Addressing = purser.AddressingPath; l.virtualHost {
		d.Addressing = purser.AddressingVirtualHost
	}
	if l.bucket.What == source.Objects {
		if d.ListVersion = 2; l.at.Version1 {
			d.ListVersion = 1
		}
	}
	return d
}

// Close releases the buffers; connections belong to the Opener.
func (l *lister) Close() error {
	l.shrink()
	if l.joined != nil {
		l.joined.join(-1)
		l.joined = nil
	}
	l.buf, l.page, l.entries, l.markers = nil, page{}, sequence{}, sequence{}
	return nil
}

// Cursor is the place behind the last page that was counted.
func (l *lister) Cursor() []byte {
	cursor, err := json.Marshal(l.at)
	if err != nil {
		panic(err) // a struct of byte slices
	}
	return cursor
}

// Step counts one page.
func (l *lister) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	defer l.shrink()
	before := l.requests
	done, err := l.step(ctx, pageEntries, count)
	if l.joined == nil && l.gate != nil {
		l.joined = l.gate
		l.joined.join(1)
	}
	return source.Step{Done: done, Requests: l.requests - before}, err
}

func (l *lister) step(ctx context.Context, entries int, count func(source.Entry)) (done bool, err error) {
	at, resumed := l.at, l.resumed
	defer func() {
		if err != nil {
			l.at, l.resumed = at, resumed // whatever was tried on the way
		}
	}()
	if err := l.findRegion(ctx); err != nil {
		return false, err
	}
	if err := l.list(ctx, l.bucket.Prefix, entries); err != nil {
		return false, err
	}
	last, passed, err := l.hand(count)
	if err != nil {
		return false, err
	}
	next, err := l.next(last)
	if err != nil && !passed {
		return false, err
	}
	l.at, l.resumed, l.regionKnown = next, false, l.region != ""
	return passed || !l.page.truncated, nil
}

// Empty reports whether the whole bucket, whatever its prefix, is empty.
func (l *lister) Empty(ctx context.Context) (bool, error) {
	probe := &lister{
		opener: l.opener, client: l.client, limits: l.limits, bucket: l.bucket, region: l.region, regionKnown: l.regionKnown,
		at: position{Version1: l.at.Version1},
	}
	probe.bucket.Prefix = ""
	defer func() {
		probe.shrink()
		l.requests += probe.requests
		l.region, l.regionRetried = probe.region, probe.regionRetried
	}()
	for {
		if err := probe.findRegion(ctx); err != nil {
			return false, err
		}
		if err := probe.list(ctx, "", 1); err != nil {
			return false, err
		}
		if len(probe.page.objects) > 0 || !probe.page.truncated {
			return len(probe.page.objects) == 0, nil
		}
		next, err := probe.next(nil)
		if err != nil {
			return false, err
		}
		probe.at = next
	}
}

// list gets the page that follows l.at into l.page. It tries again where the
// answer says how the question must be put.
func (l *lister) list(ctx context.Context, prefix string, entries int) error {
	for {
		a, err := l.send(ctx, http.MethodGet, l.query(prefix, entries))
		if err != nil {
			return err
		}
		err = l.accept(a)
		if err == nil {
			if !l.repeats() {
				return nil
			}
			err = unordered.because(errors.New("keys up to where the page was to begin"))
		}
		if !l.adapt(a, err) {
			return err
		}
	}
}

// query is the question for the page behind l.at.
func (l *lister) query(prefix string, entries int) url.Values {
	q := url.Values{"encoding-type": {"url"}, "max-keys": {strconv.Itoa(entries)}}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	after, token := string(l.at.After), string(l.at.Token)
	switch {
	case l.bucket.What == source.Versions:
		q.Set("versions", "")
		if token == "" {
			token = after
		}
		if token != "" {
			q.Set("key-marker", token)
		}
		if version := string(l.at.Version); version != "" {
			q.Set("version-id-marker", version)
		}
		return q
	case l.at.Version1 && token != "":
		q.Set("marker", token)
	case l.at.Version1:
		q.Set("marker", after)
	case token != "":
		q.Set("continuation-token", token)
	case after != "":
		q.Set("start-after", after)
	}
	if !l.at.Version1 {
		q.Set("list-type", "2")
	}
	return q
}

// accept parses an answer into l.page, or says what is wrong with it.
func (l *lister) accept(a *answer) error {
	err := l.page.parse(a.body)
	switch {
	case a.status != http.StatusOK || l.page.fault != nil:
		return statusError(a, l.page.fault, l.bucket.Signature)
	case errors.Is(err, errNotListing):
		return notS3.because(err)
	case err != nil:
		return badListing.because(err)
	case len(l.page.bucket) > 0 && string(l.page.bucket) != l.bucket.Bucket:
		return badListing.because(errors.New("the listing is of another bucket"))
	}
	return nil
}

// repeats reports whether the page ends at or before where it should begin, so
// that the server has not understood where that is.
func (l *lister) repeats() bool {
	if l.bucket.OneChain || len(l.at.After) == 0 || len(l.page.objects) == 0 || len(l.at.Version) > 0 {
		return false
	}
	spare := &l.entries.spare[0]
	*spare = (*spare)[:0]
	last := l.key(l.page.objects[len(l.page.objects)-1], spare)
	return bytes.Compare(last, l.at.After) <= 0
}

// adapt changes how the question is put, if the answer shows a way that was not
// tried yet, and reports whether to ask again.
func (l *lister) adapt(a *answer, err error) bool {
	var e *source.Error
	if !errors.As(err, &e) {
		return false
	}
	if region := l.namedRegion(a); region != "" && !l.regionRetried {
		l.region, l.regionRetried = region, true
		return true
	}
	if l.at.Version1 || l.bucket.What != source.Objects {
		return false
	}
	notUnderstood := (e.Code == source.CodeServerError || e.Code == source.CodeNotS3) && !e.Temporary && a.status >= 400
	switch {
	case notUnderstood && l.resumed && len(l.at.Token) > 0: // tokens may expire; keys do not
		l.at.Token, l.resumed = nil, false
		return true
	case notUnderstood && len(l.at.Token) == 0,
		// A server that knows neither start-after nor list-type begins again.
		e.Code == source.CodeUnordered && len(l.at.Token) == 0:
		l.at.Version1 = true
		return true
	}
	return false
}

// hand hands the page's entries to count and returns the last key, which is
// good until the next page, and whether the bound was passed. Whatever is wrong
// makes the step count nothing.
//
// Some servers name the marks of deletions behind all versions, so that each of
// the two is in order by itself.
func (l *lister) hand(count func(source.Entry)) (last []byte, passed bool, _ error) {
	if err := l.walk(&l.entries, l.page.objects, count); err != nil {
		return nil, false, err
	}
	if err := l.walk(&l.markers, l.page.markers, func(source.Entry) {}); err != nil {
		return nil, false, err
	}
	first, end := l.entries.first, &l.entries
	if m := &l.markers; m.first != nil {
		if first == nil || bytes.Compare(m.first, first) < 0 {
			first = m.first
		}
		if bytes.Compare(m.last, end.last) > 0 {
			end = m
		}
	}
	l.lastVersion = end.version
	if passed = l.entries.passed || l.markers.passed; !passed && first != nil && !l.bucket.OneChain {
		l.learn(first, end.last)
	}
	return end.last, passed, nil
}

// walk hands those entries to count that lie within the bounds.
func (l *lister) walk(s *sequence, entries []object, count func(source.Entry)) error {
	s.first, s.last, s.version, s.passed = nil, l.at.After, nil, false
	// A server may begin a little before where it was asked to; going on by its own
	// token, it may not.
	versions := l.bucket.What == source.Versions
	begins := len(l.at.Version) == 0 && (versions || len(l.at.Token) == 0)
	before := s.last
	for i, o := range entries {
		spare := &s.spare[i%2] // before may lie in the other one
		*spare = (*spare)[:0]
		key := l.key(o, spare)
		switch order := bytes.Compare(key, before); {
		case len(key) > maxKeyBytes:
			return badListing.because(errors.New("a key beyond all measure"))
		case !bytes.HasPrefix(key, []byte(l.bucket.Prefix)):
			return badListing.because(errors.New("a key without the prefix that was asked for"))
		case versions && !o.dated:
			return badListing.because(errors.New("a version of which it is not said whether it is current"))
		case versions && order == 0 && (s.first != nil || !begins):
			// one more version of the same key
		case order <= 0 && !l.bucket.OneChain:
			if begins && s.first == nil {
				continue
			}
			return unordered.because(errors.New("keys out of order"))
		}
		if before = key; s.passed {
			continue // only the order matters
		}
		if l.bucket.Until != nil && bytes.Compare(key, l.bucket.Until) > 0 {
			s.passed = true
			s.kept[1] = append(s.kept[1][:0], s.last...) // its memory is needed for what follows
			s.last = s.kept[1]
			continue
		}
		if s.first == nil {
			s.kept[0] = append(s.kept[0][:0], key...)
			s.first = s.kept[0]
		}
		class := source.Current
		if o.old {
			class = source.Noncurrent
		}
		count(source.Entry{Class: class, Key: key, Size: o.size, StorageClass: o.class})
		s.last, s.version = key, o.version
	}
	return nil
}

// key returns an object's key in plain bytes, in spare if it must be decoded.
func (l *lister) key(o object, spare *[]byte) []byte {
	if !l.page.encoded || bytes.IndexByte(o.key, '%') < 0 && bytes.IndexByte(o.key, '+') < 0 {
		return o.key
	}
	*spare = unescape(*spare, o.key)
	return *spare
}

// skips reports whether a token leaves a key out. MinIO's do behind a page that
// began at a key that is not there any more (its issue 21463): they name the
// folder of the next key, where they should name the last key.
func skips(token, last []byte) bool {
	plain, err := base64.StdEncoding.DecodeString(string(token))
	if err != nil {
		return false
	}
	key, _, minio := bytes.Cut(plain, []byte("[minio_cache:"))
	return minio && !bytes.Equal(key, last)
}

// next returns the position behind the page whose last key is last.
func (l *lister) next(last []byte) (position, error) {
	p := &l.page
	if l.bucket.What == source.Versions {
		return l.nextVersion(last)
	}
	next := position{Version1: l.at.Version1, After: l.at.After}
	if len(p.objects) > 0 && !l.bucket.OneChain {
		next.After = bytes.Clone(last)
	}
	if !p.version2 && p.version1 && !next.Version1 {
		next.Version1 = true // it answered as it knows; go on in its way
	}
	if next.Version1 && len(p.objects) > 0 {
		l.opener.learn(l.bucket.Endpoint, func(h *habits) { h.version1 = true })
	}
	if !p.truncated {
		return next, nil
	}
	stuck := func(why string) (position, error) { return position{}, noProgress.because(errors.New(why)) }
	if !next.Version1 && !skips(p.token, last) {
		next.Token = bytes.Clone(p.token)
	}
	if l.bucket.OneChain {
		next.Chain = l.at.Chain
		if next.Version1 {
			next.Token = bytes.Clone(p.marker)
		}
		mark := next.Token
		if len(p.objects) > 0 {
			mark = p.objects[0].key // no key comes twice; a token may be new each time
		}
		if len(next.Token) == 0 || !next.Chain.follow(mark) {
			return stuck("pages that lead nowhere")
		}
		return next, nil
	}
	if len(p.objects) > 0 {
		return next, nil
	}
	next.Empty = l.at.Empty + 1
	if next.Version1 {
		next.Token = bytes.Clone(p.marker)
		if p.encoded {
			next.Token = unescape(nil, p.marker)
		}
		if bytes.Compare(next.Token, l.at.After) <= 0 || bytes.Compare(next.Token, l.at.Token) <= 0 {
			return stuck("an empty page and a marker that goes back")
		}
	}
	switch {
	case len(next.Token) == 0, bytes.Equal(next.Token, l.at.Token):
		return stuck("an empty page and no way to go on")
	case next.Empty > l.limits.empty:
		return stuck("empty pages without end")
	}
	return next, nil
}
