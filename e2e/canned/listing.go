package canned

import (
	"bytes"
	"encoding/base64"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// question is what a client asks of a listing.
type question struct {
	prefix, delimiter string
	after             string // start-after, marker or key-marker
	version           string // version-id-marker
	token             string
	max               int
	encoded           bool
}

// badArgumentError is a question that has no answer: 400 InvalidArgument.
type badArgumentError string

func (e badArgumentError) Error() string { return string(e) }

func (b *Bucket) question(q url.Values, after string) (question, error) {
	asked := question{
		prefix: q.Get("prefix"), delimiter: q.Get("delimiter"), after: q.Get(after), version: q.Get("version-id-marker"),
		token: q.Get("continuation-token"), max: b.pageSize,
	}
	if q.Has("max-keys") {
		most, err := strconv.Atoi(q.Get("max-keys"))
		if err != nil || most < 0 {
			return question{}, badArgumentError("max-keys must be a number that is not negative")
		}
		asked.max = min(most, b.pageSize)
	}
	switch encoding := q.Get("encoding-type"); {
	case encoding == "url":
		asked.encoded = !b.quirks[NoURLEncoding]
	case encoding != "":
		return question{}, badArgumentError("there is no such encoding-type")
	}
	if b.quirks[LongPages] {
		asked.max *= 2
	}
	return asked, nil
}

// page is one answer, before it is put into XML.
type page struct {
	pieces    [][]byte // XML of what is in it
	prefixes  []byte   // XML of the common prefixes
	entries   int
	truncated bool
	next      int    // place of the first object that is not in it
	last      []byte // the last key or common prefix, if there is a delimiter
}

// commonPrefix is what key is rolled up into, "" if it is not.
func (q *question) commonPrefix(key []byte) []byte {
	if q.delimiter == "" || len(key) < len(q.prefix) {
		return nil
	}
	at := bytes.Index(key[len(q.prefix):], []byte(q.delimiter))
	if at < 0 {
		return nil
	}
	return key[:len(q.prefix)+at+len(q.delimiter)]
}

// first is the place of the first object behind q.after. One that names a common
// prefix stands for everything in it: else a listing that goes on from there
// would have it twice.
func (b *Bucket) first(q *question) int {
	low, high := b.keys.within(q.prefix)
	if q.after == "" || q.after < q.prefix {
		return low
	}
	if !strings.HasPrefix(q.after, q.prefix) {
		return high // it is not before the prefix, hence behind
	}
	if string(q.commonPrefix([]byte(q.after))) == q.after {
		return b.keys.beyond(low, q.after)
	}
	return b.keys.after(q.after)
}

// list answers q with the objects from place begin.
func (b *Bucket) list(q *question, begin int) page {
	_, end := b.keys.within(q.prefix)
	p := page{next: begin}
	if q.max == 0 {
		return p // S3 says that there is no more
	}
	rendered := b.raw
	if q.encoded {
		rendered = b.encoded
	}
	if q.delimiter == "" {
		p.next = min(end, begin+q.max)
		p.entries, p.pieces = p.next-begin, rendered.run(nil, begin, p.next)
	} else {
		b.fold(q, &p, rendered, end)
	}
	p.truncated = p.next < end
	return p
}

// fold puts objects and common prefixes into p, up to place end.
func (b *Bucket) fold(q *question, p *page, rendered *blocks, end int) {
	run := p.next // objects from here to p.next are not in p.pieces yet
	var key []byte
	for p.next < end && p.entries < q.max {
		key = b.keys.key(key[:0], p.next)
		p.entries++
		if common := q.commonPrefix(key); common != nil {
			p.last = common
			p.prefixes = appendCommonPrefix(p.prefixes, common, q.encoded)
			p.pieces = rendered.run(p.pieces, run, p.next)
			p.next = b.keys.beyond(p.next, string(common))
			run = p.next
			continue
		}
		p.last = key
		p.next++
	}
	p.pieces = rendered.run(p.pieces, run, p.next)
}

// shuffled answers q in no order, as directory buckets of S3 Express do. Every
// object comes once. begin counts the objects that came before.
func (b *Bucket) shuffled(q *question, begin int) page {
	low, high := b.keys.within(q.prefix)
	n := high - low
	p := page{next: min(begin+q.max, n)}
	rendered := b.raw
	if q.encoded {
		rendered = b.encoded
	}
	stride := coprime(n)
	for j := begin; j < p.next; j++ {
		i := low + j*stride%n
		p.pieces = rendered.run(p.pieces, i, i+1)
		p.entries++
	}
	p.truncated = p.next < n && q.max > 0
	return p
}

// coprime is a stride that visits all of n places before it comes to one again.
func coprime(n int) int {
	for stride := max(1, int(float64(n)*(math.Phi-1))); ; stride++ {
		a, b := n, stride
		for b != 0 {
			a, b = b, a%b
		}
		if a <= 1 {
			return stride
		}
	}
}

// version2 answers ListObjectsV2.
func (b *Bucket) version2(v url.Values) ([][]byte, error) {
	q, err := b.question(v, "start-after")
	if err != nil {
		return nil, err
	}
	shuffled := b.quirks[Unordered] && q.delimiter == ""
	begin, empty, err := b.begin(&q, shuffled)
	if err != nil {
		return nil, err
	}
	var p page
	switch {
	case empty:
		p = page{next: begin, truncated: true}
	case shuffled:
		p = b.shuffled(&q, begin)
	default:
		p = b.list(&q, begin)
	}
	head := b.head("ListBucketResult", &q)
	head = element(head, "StartAfter", q.after, q.encoded)
	head = element(head, "ContinuationToken", q.token, false)
	if p.truncated && !b.quirks[NoToken] {
		next := token{place: p.next, empty: b.quirks[EmptyPages] && !empty}
		head = element(head, "NextContinuationToken", next.String(), false)
	}
	head = element(head, "KeyCount", strconv.Itoa(p.entries), false)
	return finish(head, p, "ListBucketResult"), nil
}

// begin is where a listing of version 2 goes on, and whether with an empty page.
func (b *Bucket) begin(q *question, shuffled bool) (place int, empty bool, err error) {
	low, high := b.keys.within(q.prefix)
	if q.token != "" {
		t, ok := parseToken(q.token)
		switch {
		case !ok, shuffled && t.place > high-low, !shuffled && (t.place < low || t.place > high):
			return 0, false, badArgumentError("the continuation token is not one of this listing")
		}
		return t.place, t.empty, nil
	}
	if shuffled {
		return 0, false, nil // no such bucket knows start-after
	}
	place = b.first(q)
	switch {
	case b.quirks[StartAfterIgnored]:
		place = low
	case b.quirks[StartAfterRounded]:
		place = max(low, place-place%b.pageSize)
	}
	return place, false, nil
}

// version1 answers ListObjects.
func (b *Bucket) version1(v url.Values) ([][]byte, error) {
	q, err := b.question(v, "marker")
	if err != nil {
		return nil, err
	}
	p := b.list(&q, b.first(&q))
	head := b.head("ListBucketResult", &q)
	head = append(head, "<Marker>"...)
	head = append(appendText(head, q.after, q.encoded), "</Marker>"...)
	if p.truncated && q.delimiter != "" && !b.quirks[NoToken] {
		head = element(head, "NextMarker", string(p.last), q.encoded)
	}
	return finish(head, p, "ListBucketResult"), nil
}

// head begins an answer with what is common to all.
func (b *Bucket) head(root string, q *question) []byte {
	head := append(make([]byte, 0, 1024), `<?xml version="1.0" encoding="UTF-8"?>`+"\n<"...)
	head = append(append(head, root...), ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`...)
	head = element(head, "Name", b.name, false)
	head = append(head, "<Prefix>"...)
	head = append(appendText(head, q.prefix, q.encoded), "</Prefix>"...)
	head = element(head, "Delimiter", q.delimiter, q.encoded)
	head = element(head, "MaxKeys", strconv.Itoa(q.max), false)
	if q.encoded {
		head = element(head, "EncodingType", "url", false)
	}
	return head
}

// finish is the answer in pieces: the ones of p are not copied.
func finish(head []byte, p page, root string) [][]byte {
	head = element(head, "IsTruncated", strconv.FormatBool(p.truncated), false)
	pieces := append([][]byte{head}, p.pieces...)
	return append(pieces, append(p.prefixes, "</"+root+">"...))
}

// element appends an element, unless its text is empty.
func element(dst []byte, name, text string, encoded bool) []byte {
	if text == "" {
		return dst
	}
	dst = append(append(append(dst, '<'), name...), '>')
	dst = appendText(dst, text, encoded)
	return append(append(append(dst, "</"...), name...), '>')
}

func appendCommonPrefix(dst, prefix []byte, encoded bool) []byte {
	dst = append(dst, "<CommonPrefixes><Prefix>"...)
	return append(appendText(dst, prefix, encoded), "</Prefix></CommonPrefixes>"...)
}

// token is where a listing goes on.
type token struct {
	place int
	empty bool // with an empty page first
}

func (t token) String() string {
	text := "place " + strconv.Itoa(t.place)
	if t.empty {
		text = "empty " + text
	}
	return base64.URLEncoding.EncodeToString([]byte(text))
}

func parseToken(s string) (t token, ok bool) {
	text, err := base64.URLEncoding.DecodeString(s)
	if err != nil {
		return token{}, false
	}
	rest, empty := strings.CutPrefix(string(text), "empty ")
	rest, found := strings.CutPrefix(rest, "place ")
	place, err := strconv.Atoi(rest)
	return token{place, empty}, found && err == nil && place >= 0
}
