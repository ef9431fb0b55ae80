package s3buckettest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/purserhq/purser/internal/metering/source"
)

// Script is one way in which a server can be hostile or broken, and what must
// come of it: never a figure that is wrong, never more than a few requests.
type Script struct {
	Name string
	// Handler is the server. It may count its requests, so that each use of a
	// script takes a list of its own.
	Handler http.HandlerFunc
	// Of is the listing that is asked for, where that matters.
	Of source.Listing
	// Code is that of the failure. Temporary ones are worth another try.
	Code      string
	Temporary bool
	// Chain is what comes of it where Code is source.CodeUnordered and the bucket is
	// listed again by one chain of pages: another code, or nothing if all was
	// counted after all.
	Chain string
	// Always is set where every question is answered so, not listings only.
	Always bool
	// Large is set where the answers are so large that memory would show it.
	Large bool
}

// MostRequests is what one source may send until it notices any of the scripts.
const MostRequests = 50

// Scripts are all of them. Redirects point at elsewhere, where nobody may come.
func Scripts(elsewhere string) []Script {
	scripts := listings()
	for _, s := range answers(elsewhere) {
		s.Always = true
		scripts = append(scripts, s)
	}
	return scripts
}

// listings are servers that answer well until they are to list.
func listings() []Script {
	nines := strings.Repeat("9", 18)
	return []Script{
		// Without end, or in a circle.
		{Name: "the same page for ever", Handler: Write(Truncated(Token("t") + Entry("a", "1"))), Code: source.CodeUnordered, Chain: source.CodeNoProgress},
		{Name: "the same page with new tokens", Handler: Counting(func(n int64) http.HandlerFunc {
			return Write(Truncated(Token(fmt.Sprint(n)) + Entry("a", "1")))
		}), Code: source.CodeUnordered, Chain: source.CodeNoProgress},
		{Name: "two pages in turn", Handler: Counting(func(n int64) http.HandlerFunc {
			return Write(Truncated(Token(fmt.Sprint(n%2)) + Entry([]string{"a", "b"}[n%2], "1")))
		}), Code: source.CodeUnordered, Chain: source.CodeNoProgress},
		{Name: "seven pages in turn", Handler: Counting(func(n int64) http.HandlerFunc {
			return Write(Truncated(Token(fmt.Sprint(n%7)) + Entry("a"+fmt.Sprint(n%7), "1")))
		}), Code: source.CodeUnordered, Chain: source.CodeNoProgress},
		{Name: "empty pages with new tokens", Handler: Counting(func(n int64) http.HandlerFunc { return Write(Truncated(Token(fmt.Sprint(n)))) }), Code: source.CodeNoProgress},
		{Name: "empty pages with one token", Handler: Write(Truncated(Token("t"))), Code: source.CodeNoProgress},
		{Name: "an empty page that promises more", Handler: Write(Truncated("<KeyCount>0</KeyCount>")), Code: source.CodeNoProgress},
		{Name: "an empty page of version 1 that promises more", Handler: Write(Truncated("<Marker></Marker><NextMarker></NextMarker>")), Code: source.CodeNoProgress},
		{Name: "empty pages with markers in a circle", Handler: Counting(func(n int64) http.HandlerFunc {
			return Write(Truncated("<NextMarker>" + []string{"x", "y"}[n%2] + "</NextMarker>"))
		}), Code: source.CodeNoProgress},

		// Keys that cannot be, or not in this order.
		{Name: "keys out of order without end", Handler: Write(Truncated(Token("t") + Entry("b", "1") + Entry("a", "1"))), Code: source.CodeUnordered, Chain: source.CodeNoProgress},
		{Name: "keys out of order", Handler: Write(Listing(Complete + Entry("b", "1") + Entry("a", "1"))), Code: source.CodeUnordered},
		{Name: "a key twice", Handler: Write(Listing(Complete + Entry("a", "1") + Entry("a", "1"))), Code: source.CodeUnordered},
		{Name: "a key beyond measure", Handler: Write(Listing(Complete + Entry(strings.Repeat("k", 5000), "1"))), Code: source.CodeBadListing},
		{Name: "a token beyond measure", Handler: Write(Truncated(Token(strings.Repeat("t", 10_000)) + Entry("a", "1"))), Code: source.CodeBadListing},
		{Name: "another bucket", Handler: Write(Listing("<Name>" + Canary + "</Name>" + Complete)), Code: source.CodeBadListing},
		{Name: "folders nobody asked for", Handler: Write(Listing(Complete + "<CommonPrefixes/>")), Code: source.CodeBadListing},

		// Sizes that cannot be.
		{Name: "a negative size", Handler: Write(Listing(Complete + Entry("a", "-1"))), Code: source.CodeBadListing},
		{Name: "a huge size", Handler: Write(Listing(Complete + Entry("a", nines+"99"))), Code: source.CodeBadListing},
		{Name: "a size of 2^64", Handler: Write(Listing(Complete + Entry("a", "18446744073709551616"))), Code: source.CodeBadListing},
		{Name: "sizes that overflow", Handler: Write(Listing(Complete + strings.Repeat(Entry("a", nines), 10))), Code: source.CodeBadListing},

		// Documents that are too much, or none.
		{Name: "too many entries", Handler: Write(Listing(Complete + strings.Repeat(Entry("a", "1"), 200_000))), Code: source.CodeBadListing, Large: true},
		{Name: "deep XML", Handler: Write(Listing(Complete + strings.Repeat("<x>", 1_000_000))), Code: source.CodeBadListing, Large: true},
		{Name: "an endless page", Handler: endless(http.StatusOK, "<ListBucketResult>"), Code: source.CodeBadListing, Large: true},
		{Name: "an endless page of tiny elements", Handler: repeated("<ListBucketResult>", "<x/>"), Code: source.CodeBadListing, Large: true},
		{Name: "a page cut off", Handler: Write(Listing(Complete + Entry("a", "1"))[:150]), Code: source.CodeBadListing},
		{Name: "an entity of its own", Handler: Write(Listing(Complete + Entry("&canary;", "1"))), Code: source.CodeBadListing},
		{Name: "a document type with entities", Handler: Write(laughs), Code: source.CodeNotS3},
		{Name: "not said whether complete", Handler: Write(Listing(Entry("a", "1"))), Code: source.CodeBadListing},

		// Versions and uploads.
		{Name: "versions that lead nowhere", Of: source.Versions, Handler: Write(versions("<NextKeyMarker>a</NextKeyMarker>")), Code: source.CodeNoProgress},
		{Name: "versions without a way to go on", Of: source.Versions, Handler: Write(versions("")), Code: source.CodeNoProgress},
		{Name: "empty pages of versions with new markers", Of: source.Versions, Handler: Counting(func(n int64) http.HandlerFunc {
			return Write(versions(fmt.Sprintf("<NextKeyMarker>a%08d</NextKeyMarker>", n)))
		}), Code: source.CodeNoProgress},
		{Name: "empty pages of uploads with new markers", Of: source.Uploads, Handler: Counting(func(n int64) http.HandlerFunc {
			return Write(uploads(fmt.Sprintf("<NextKeyMarker>a%08d</NextKeyMarker>", n)))
		}), Code: source.CodeNoProgress},
		{Name: "uploads that lead nowhere", Of: source.Uploads, Handler: Write(uploads("<NextKeyMarker>a</NextKeyMarker>")), Code: source.CodeNoProgress},
	}
}

func versions(inside string) string {
	return "<ListVersionsResult><IsTruncated>true</IsTruncated>" + inside + "</ListVersionsResult>"
}

func uploads(inside string) string {
	return "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>" + inside + "</ListMultipartUploadsResult>"
}

// laughs is a small document that would be a billion words.
var laughs = func() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "canary">`)
	for i := range 9 {
		fmt.Fprintf(&b, `<!ENTITY e%d "%s">`, i+1, strings.Repeat(fmt.Sprintf("&e%d;", i), 10))
	}
	return b.String() + `]>` + Listing(Complete+Entry("&e9;", "1"))
}()

// answers are servers that answer every question so.
func answers(elsewhere string) []Script {
	const interim = "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"
	return []Script{
		// HTTP that breaks off, or is none.
		{Name: "a body shorter than its length", Handler: Raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<ListBucketResult>"), Code: source.CodeBadListing, Temporary: true},
		{Name: "a body that is said to be huge", Handler: Raw("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n<ListBucketResult>"), Code: source.CodeBadListing, Temporary: true, Large: true},
		{Name: "broken chunks", Handler: Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Code: source.CodeBadListing, Temporary: true},
		{Name: "no answer", Handler: Hijack(func(net.Conn) {}), Code: source.CodeUnreachable, Temporary: true},
		{Name: "a connection that is reset", Handler: Reset(), Code: source.CodeUnreachable, Temporary: true},
		{Name: "another protocol", Handler: Raw("SSH-2.0-OpenSSH_9.9 " + Canary + "\r\n"), Code: source.CodeUnreachable, Temporary: true},
		{Name: "interim answers without end", Handler: Hijack(func(c net.Conn) { flood(c, interim) }), Code: source.CodeUnreachable, Temporary: true, Large: true},
		{Name: "headers without end", Handler: Hijack(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			flood(c, strings.Repeat("X-Canary: canary\r\n", 1000))
		}), Code: source.CodeUnreachable, Temporary: true, Large: true},
		{Name: "a gzip bomb", Handler: bomb, Code: source.CodeNotS3, Large: true},
		{Name: "an endless error", Handler: endless(http.StatusInternalServerError, "<Error>"), Code: source.CodeServerError, Temporary: true, Large: true},

		// What is no S3.
		{Name: "a web page", Handler: Write("<!DOCTYPE html><html><body>Welcome to canary!</body></html>"), Code: source.CodeNotS3},
		{Name: "nothing", Handler: Write(""), Code: source.CodeNotS3},
		{Name: "JSON", Handler: Write(`{"canary":true}`), Code: source.CodeNotS3},
		{Name: "no content", Handler: Status(204, ""), Code: source.CodeNotS3},
		{Name: "a web page that is not found", Handler: Status(404, "<html>canary</html>"), Code: source.CodeNotS3},
		{Name: "not implemented", Handler: Error(501, "NotImplemented"), Code: source.CodeNotS3},

		// Refusals.
		{Name: "an error in a 200", Handler: Error(200, "SlowDown"), Code: source.CodeThrottled, Temporary: true},
		{Name: "an unknown error in a 200", Handler: Error(200, "Whatever"), Code: source.CodeServerError, Temporary: true},
		{Name: "access denied", Handler: Error(403, "AccessDenied"), Code: source.CodeAccessDenied},
		{Name: "forbidden without a document", Handler: Status(403, ""), Code: source.CodeAccessDenied},
		{Name: "unauthorized without a document", Handler: Status(401, ""), Code: source.CodeBadCredentials},
		{Name: "an unknown access key", Handler: Error(403, "InvalidAccessKeyId"), Code: source.CodeBadCredentials},
		{Name: "a wrong secret", Handler: Error(403, "SignatureDoesNotMatch"), Code: source.CodeBadCredentials},
		{Name: "an expired token", Handler: Error(400, "ExpiredToken"), Code: source.CodeBadCredentials},
		{Name: "clocks apart", Handler: Error(403, "RequestTimeTooSkewed"), Code: source.CodeBadCredentials},
		{Name: "no such bucket", Handler: Error(404, "NoSuchBucket"), Code: source.CodeNoSuchBucket},
		{Name: "another region, unnamed", Handler: Error(400, "AuthorizationHeaderMalformed"), Code: source.CodeWrongRegion},
		{Name: "another region each time", Handler: Counting(func(n int64) http.HandlerFunc {
			return Status(400, fmt.Sprintf("<Error><Code>AuthorizationHeaderMalformed</Code><Region>canary-%d</Region></Error>", n))
		}), Code: source.CodeWrongRegion},
		{Name: "an unknown refusal", Handler: Error(400, "Whatever"), Code: source.CodeServerError},

		// Trouble that may pass.
		{Name: "slow down", Handler: Error(503, "SlowDown"), Code: source.CodeThrottled, Temporary: true},
		{Name: "slow down, for ages", Handler: Status(503, "", "Retry-After", "100000"), Code: source.CodeThrottled, Temporary: true},
		{Name: "unavailable without a document", Handler: Status(503, "busy"), Code: source.CodeThrottled, Temporary: true},
		{Name: "too many requests", Handler: Status(429, "", "Retry-After", "1"), Code: source.CodeThrottled, Temporary: true},
		{Name: "too many requests, until 2037", Handler: Status(429, "", "Retry-After", "Tue, 24 Nov 2037 05:00:30 GMT"), Code: source.CodeThrottled, Temporary: true},
		{Name: "an internal error", Handler: Error(500, "InternalError"), Code: source.CodeServerError, Temporary: true},
		{Name: "a bad gateway", Handler: Status(502, "<html>canary</html>"), Code: source.CodeServerError, Temporary: true},

		// Redirects, which nobody follows.
		{Name: "moved, by its document", Handler: Error(301, "PermanentRedirect"), Code: source.CodeRedirected},
		{Name: "301 elsewhere", Handler: Status(301, "", "Location", elsewhere), Code: source.CodeRedirected},
		{Name: "302 elsewhere", Handler: Status(302, "", "Location", elsewhere), Code: source.CodeRedirected},
		{Name: "303 elsewhere", Handler: Status(303, "", "Location", elsewhere), Code: source.CodeRedirected},
		{Name: "307 elsewhere", Handler: Status(307, "", "Location", elsewhere), Code: source.CodeRedirected, Temporary: true},
		{Name: "308 elsewhere", Handler: Status(308, "", "Location", elsewhere), Code: source.CodeRedirected},
		{Name: "a region that is a host", Handler: Status(301, "", "X-Amz-Bucket-Region", "canary.example/", "Location", elsewhere), Code: source.CodeRedirected},
	}
}

// muchOf is far more than anybody should read.
const muchOf = 64 << 20

// endless sends space without end.
func endless(status int, begin string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		repeated(begin, strings.Repeat(" ", 1024))(w, r)
	}
}

// repeated sends the same again and again.
func repeated(begin, again string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, begin); err == nil {
			flood(w, strings.Repeat(again, 1+16<<10/len(again)))
		}
	}
}

func flood(w io.Writer, again string) {
	for sent := 0; sent < muchOf; sent += len(again) {
		if _, err := io.WriteString(w, again); err != nil {
			return // the client has gone, which it should
		}
	}
}

// bomb is small on the wire, and large for whoever unpacks it.
func bomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = io.WriteString(z, Listing(Complete))
	flood(z, strings.Repeat(" ", 1<<20))
	_ = z.Close()
}
