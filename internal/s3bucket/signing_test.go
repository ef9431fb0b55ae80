package s3bucket

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // what version 2 of the signature is made of
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// The key of AWS's published examples.
const (
	awsKey    = "AKIAIOSFODNN7EXAMPLE"
	awsSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// subresources take part in a signature of version 2 (AWS, "Signing and
// authenticating REST requests").
var subresources = []string{"acl", "lifecycle", "location", "logging", "notification", "partNumber", "policy", "requestPayment", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website"}

// verifyV2 is a server's side of version 2, written from AWS's description.
// bucket is the one that the host names, or empty.
func verifyV2(r *http.Request, bucket, key, secret string) bool {
	resource := r.URL.EscapedPath()
	if bucket != "" {
		resource = "/" + bucket + resource
	}
	var sub []string
	for _, name := range subresources {
		if values, ok := r.URL.Query()[name]; ok {
			sub = append(sub, strings.TrimSuffix(name+"="+values[0], "="))
		}
	}
	if len(sub) > 0 {
		resource += "?" + strings.Join(sub, "&")
	}
	date := r.Header.Get("Date")
	text := strings.Join([]string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date, resource}, "\n")
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(text))
	return date != "" && r.Header.Get("Authorization") == "AWS "+key+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestV2Vectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, target, date, contentType, signature string }{
		{"GET", "/photos/puppy.jpg", "Tue, 27 Mar 2007 19:36:42 +0000", "", "bWq2s1WEIj+Ydj0vQ697zp+IXMU="},
		{"PUT", "/photos/puppy.jpg", "Tue, 27 Mar 2007 21:15:45 +0000", "image/jpeg", "MyyxeRY7whkBe+bq8fHCL/2kKUg="},
		{"GET", "/?prefix=photos&max-keys=50&marker=puppy", "Tue, 27 Mar 2007 19:42:41 +0000", "", "htDYFYduRNen8P9ZfE/s9SuKy0U="},
		{"GET", "/?acl", "Tue, 27 Mar 2007 19:44:46 +0000", "", "c2WLPFtWHVgbEmeEG93a4cG37dM="},
	} {
		r := httptest.NewRequest(c.method, "http://johnsmith.s3.amazonaws.com"+c.target, nil)
		r.Header.Set("Date", c.date)
		if c.contentType != "" {
			r.Header.Set("Content-Type", c.contentType)
		}
		signed := signer.SignV2(*r, awsKey, awsSecret, true)
		if got, want := signed.Header.Get("Authorization"), "AWS "+awsKey+":"+c.signature; got != want {
			t.Errorf("%s %s: %s, want %s", c.method, c.target, got, want)
		}
		if !verifyV2(signed, "johnsmith", awsKey, awsSecret) {
			t.Errorf("%s %s: the verifier of this test is wrong", c.method, c.target)
		}
	}
}

var authorizationV4 = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/s3/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// verifyV4 is a server's side of version 4.
func verifyV4(r *http.Request, key, secret, region string) bool {
	parts := authorizationV4.FindStringSubmatch(r.Header.Get("Authorization"))
	if parts == nil || parts[1] != key || parts[3] != region {
		return false
	}
	signed := strings.Split(parts[4], ";")
	var headers strings.Builder
	for _, name := range signed {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	var query []string
	for name, values := range r.URL.Query() {
		query = append(query, strings.ReplaceAll(url.QueryEscape(name)+"="+url.QueryEscape(values[0]), "+", "%20"))
	}
	slices.Sort(query)
	payload := r.Header.Get("X-Amz-Content-Sha256")
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), headers.String(), parts[4], payload}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	scope := parts[2] + "/" + region + "/s3/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	signature := []byte("AWS4" + secret)
	for _, part := range []string{parts[2], region, "s3", "aws4_request", text} {
		mac := hmac.New(sha256.New, signature)
		mac.Write([]byte(part))
		signature = mac.Sum(nil)
	}
	return slices.Contains(signed, "host") && slices.Contains(signed, "x-amz-date") && payload == emptySHA256 && hex.EncodeToString(signature) == parts[5]
}

// TestV4Verifier holds the verifier of this test against AWS's examples
// ("Signature calculations for the Authorization header").
func TestV4Verifier(t *testing.T) {
	t.Parallel()
	for target, signature := range map[string]string{
		"/?max-keys=2&prefix=J": "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		"/?lifecycle=":          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
	} {
		r := httptest.NewRequest(http.MethodGet, "http://examplebucket.s3.amazonaws.com"+target, nil)
		r.Header.Set("X-Amz-Date", "20130524T000000Z")
		r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+awsKey+"/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature="+signature)
		if !verifyV4(r, awsKey, awsSecret, "us-east-1") {
			t.Errorf("%s: AWS's own signature is refused", target)
		}
	}
}

// TestRequestsAreSigned has a server verify every request of a listing with odd
// keys and prefixes.
func TestRequestsAreSigned(t *testing.T) {
	t.Parallel()
	for _, signature := range []purser.Signature{purser.SignatureV4, purser.SignatureV2} {
		fake := &fakeS3{keys: oddKeys, perPage: 3}
		var refused atomic.Int64
		b := bucketAt(serve(t, func(w http.ResponseWriter, r *http.Request) {
			ok := verifyV2(r, "", awsKey, awsSecret)
			if signature == purser.SignatureV4 {
				ok = verifyV4(r, awsKey, awsSecret, "us-east-1")
			}
			if !ok {
				refused.Add(1)
				s3Error(http.StatusForbidden, "SignatureDoesNotMatch")(w, r)
				return
			}
			fake.ServeHTTP(w, r)
		}))
		b.AccessKey, b.Secret, b.Signature = awsKey, purser.NewSecret(awsSecret), signature
		o := newOpener(t)
		if r := drain(t.Context(), open(t, o, b, nil)); r.err != nil || len(r.keys) != len(oddKeys) {
			t.Errorf("version %d: %d keys, error %v", signature, len(r.keys), r.err)
		}
		for _, prefix := range []string{"a b+c/%&=ä", "~*'()!", "\x01\xff"} {
			b.Prefix = prefix
			if r := drain(t.Context(), open(t, o, b, nil)); r.err != nil {
				t.Errorf("version %d, prefix %q: %v", signature, prefix, r.err)
			}
		}
		if n := refused.Load(); n > 0 {
			t.Errorf("version %d: %d requests were refused", signature, n)
		}
		b.Secret = purser.NewSecret("wrong")
		wantError(t, drain(t.Context(), open(t, o, b, nil)).err, source.CodeBadCredentials, false)
	}
}

func TestSignatureVersion2IsNotAccepted(t *testing.T) {
	t.Parallel()
	b := bucketAt(serve(t, s3Error(http.StatusBadRequest, "InvalidRequest")))
	b.Signature = purser.SignatureV2
	r := drain(t.Context(), open(t, newOpener(t), b, nil))
	wantError(t, r.err, source.CodeBadCredentials, false)
	if !strings.Contains(fmt.Sprint(r.err), "version 2") {
		t.Errorf("%v does not name the reason", r.err)
	}
}

func TestAddressOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		endpoint, bucket, region string
		want                     address
	}{
		{"", "data", "", address{"https", "data.s3.us-east-1.amazonaws.com", "/", true}},
		{"", "data", "eu-west-1", address{"https", "data.s3.eu-west-1.amazonaws.com", "/", true}},
		{"", "data", "us-gov-west-1", address{"https", "data.s3.us-gov-west-1.amazonaws.com", "/", true}},
		{"", "data", "cn-north-1", address{"https", "data.s3.cn-north-1.amazonaws.com.cn", "/", true}},
		{"", "my.data", "eu-west-1", address{"https", "s3.eu-west-1.amazonaws.com", "/my.data/", false}},
		{"", "My_Data", "eu-west-1", address{"https", "s3.eu-west-1.amazonaws.com", "/My_Data/", false}},
		{"https://s3.example.com", "data", "x", address{"https", "s3.example.com", "/data/", false}},
		{"http://127.0.0.1:9000", "data", "", address{"http", "127.0.0.1:9000", "/data/", false}},
		{"https://[2001:db8::1]:9000", "data", "", address{"https", "[2001:db8::1]:9000", "/data/", false}},
	} {
		got, err := addressOf(source.Bucket{Endpoint: c.endpoint, Bucket: c.bucket}, c.region, false)
		if err != nil || got != c.want {
			t.Errorf("addressOf(%q, %q, %q) = %+v, %v; want %+v", c.endpoint, c.bucket, c.region, got, err, c.want)
		}
	}
	for _, region := range []string{"evil.example", "eu-west-1.evil", "-", "a", "eu-west-1/", "EU-WEST-1", strings.Repeat("a", 64)} {
		if got, err := addressOf(source.Bucket{Bucket: "data"}, region, false); err == nil {
			t.Errorf("addressOf in region %q = %+v, want an error", region, got)
		}
	}
}

// TestTheBucketInTheHost is about a service that refuses it in the path.
func TestTheBucketInTheHost(t *testing.T) {
	t.Parallel()
	fake, asked := &fakeS3{keys: oddKeys, perPage: 4}, map[string]int{}
	var mu sync.Mutex
	endpoint := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Host]++
		mu.Unlock()
		switch r.Host {
		case "s3.example.com":
			s3Error(http.StatusForbidden, "SecondLevelDomainForbidden")(w, r)
		case "bucket.s3.example.com":
			r.URL.Path = "/bucket" + r.URL.Path
			fake.ServeHTTP(w, r)
		}
	})
	for _, signature := range []purser.Signature{purser.SignatureV4, purser.SignatureV2} {
		clear(asked)
		o := newOpener(t)
		o.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(endpoint, "http://"))
		}}}
		b := bucketAt("http://s3.example.com")
		b.Signature = signature
		for range 2 {
			s := open(t, o, b, nil)
			if r := drain(t.Context(), s); r.err != nil || len(r.keys) != len(oddKeys) {
				t.Errorf("%v: %d keys, error %v; want %d", signature, len(r.keys), r.err, len(oddKeys))
			}
			if d := s.(source.Detector).Detected(); d.Addressing != purser.AddressingVirtualHost || d.ListVersion != 2 {
				t.Errorf("%v: detected %+v", signature, d)
			}
		}
		if asked["s3.example.com"] != 1 {
			t.Errorf("%v: asked %v; what was learned is to be remembered", signature, asked)
		}
	}
	if at, _ := addressOf(source.Bucket{Endpoint: "http://127.0.0.1:9000", Bucket: "data"}, "", true); at.virtualHost {
		t.Errorf("an address has no hosts below it: %+v", at)
	}
}

func TestRegionIsDetected(t *testing.T) {
	t.Parallel()
	location := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodHead:
				w.WriteHeader(http.StatusBadRequest)
			case r.URL.Query().Has("location"):
				_, _ = fmt.Fprint(w, body)
			default:
				listingFor(w, r)
			}
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		given   string
		want    string
		asked   int64
	}{
		{"by the header of HEAD", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-3")
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			listingFor(w, r)
		}, "", "eu-west-3", 2},
		{"HEAD succeeds and says nothing", listingFor, "", "us-east-1", 2},
		{"by its location", location(`<LocationConstraint xmlns="x">ap-south-1</LocationConstraint>`), "", "ap-south-1", 3},
		{"by an empty location", location(`<LocationConstraint xmlns="x"/>`), "", "us-east-1", 3},
		{"by an old location", location(`<LocationConstraint>EU</LocationConstraint>`), "", "eu-west-1", 3},
		{"a location that is none", location(`<LocationConstraint>evil.example/</LocationConstraint>`), "", "us-east-1", 3},
		{"a web page for a location", location(`<html>`), "", "us-east-1", 3},
		{"the listing names another", (&fakeS3{region: "eu-north-1"}).ServeHTTP, "us-west-2", "eu-north-1", 2},
		{"what was given is right", listingFor, "us-west-2", "us-west-2", 1},
	} {
		b := bucketAt(serve(t, c.handler))
		b.Region = c.given
		s := open(t, newOpener(t), b, nil)
		detector := s.(source.Detector)
		if before := detector.Detected().Region; before != c.given {
			t.Errorf("%s: %q before the first step", c.name, before)
		}
		r := drain(t.Context(), s)
		if got := detector.Detected().Region; r.err != nil || got != c.want || r.requests != c.asked {
			t.Errorf("%s: region %q after %d requests, error %v; want %q after %d", c.name, got, r.requests, r.err, c.want, c.asked)
		}
	}
}

// listingFor answers with an empty bucket.
func listingFor(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, listing(complete)) }

func TestARegionIsFollowedOnce(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	b := bucketAt(serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", fmt.Sprintf("eu-west-%d", n.Add(1)))
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	r := drain(t.Context(), open(t, newOpener(t), b, nil))
	wantError(t, r.err, source.CodeRedirected, false)
	if n.Load() != 2 {
		t.Errorf("%d requests, want 2", n.Load())
	}
}
