package purser_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser"
)

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"ordinary", "Training data", ""},
		{"unicode", "Датасеты 数据", ""},
		{"255 characters", strings.Repeat("ä", 255), ""},
		{"spaces around do not count", " " + strings.Repeat("ä", 255) + " ", ""},
		{"empty", "", "must not be empty"},
		{"only spaces", " \t ", "must not be empty"},
		{"256 characters", strings.Repeat("ä", 256), "must be at most 255 characters"},
		{"line break", "a\nb", "must not contain control characters"},
		{"not UTF-8", "a\xff", "must be valid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := purser.CheckName(c.in); got != c.want {
				t.Errorf("CheckName(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestCheckEndpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"https://s3.example.com", ""},
		{"http://10.0.0.1:9000", ""},
		{"https://[fd00::1]:9000", ""},
		{"s3.example.com", "the scheme https:// or http:// is missing"},
		{"s3.example.com:9000", "the scheme https:// or http:// is missing"},
		{"//s3.example.com", "the scheme https:// or http:// is missing"},
		{"ftp://s3.example.com", "must start with https:// or http://"},
		{"file:///etc/passwd", "must start with https:// or http://"},
		{"https://", "must be an absolute URL"},
		{"https://user:pass@s3.example.com", "must not contain a user name or password"},
		{"https://s3.example.com/bucket", "must not contain a path"},
		{"https://s3.example.com/", "must not contain a path"},
		{"https://s3.example.com?x=1", "must not contain a query"},
		{"https://s3.example.com?", "must not contain a query"},
		{"https://s3.example.com#a", "must not contain a query or a fragment"},
		{"HTTPS://s3.example.com", "must be written in its plain form"},
		{"https://s3.example.com\r\nHost: x", "must be an absolute URL"},
		{"https://" + strings.Repeat("a", 2050), "must be at most 2048 bytes"},
	} {
		t.Run(c.in, func(t *testing.T) {
			t.Parallel()
			got := purser.CheckEndpoint(c.in)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("CheckEndpoint(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestCheckBucketAndKey(t *testing.T) {
	t.Parallel()
	for _, bucket := range []string{"abc", "training-data", "Old_Bucket.1", strings.Repeat("a", 63)} {
		if got := purser.CheckBucket(bucket); got != "" {
			t.Errorf("CheckBucket(%q) = %q", bucket, got)
		}
	}
	for _, bucket := range []string{"", "ab", "a..b", "a/b", "-abc", "abc.", "ä-bucket", strings.Repeat("a", 64)} {
		if purser.CheckBucket(bucket) == "" {
			t.Errorf("CheckBucket(%q) accepts it", bucket)
		}
	}
	for key, ok := range map[string]bool{
		"AKIAIOSFODNN7EXAMPLE": true, "wJalr/XUtn+FEMI=": true, "": false, "a b": false, "a\n": false,
		strings.Repeat("k", 1024): true, strings.Repeat("k", 1025): false, "k\xff": false,
	} {
		if got := purser.CheckKey(key); (got == "") != ok {
			t.Errorf("CheckKey(%q) = %q", key, got)
		}
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]purser.Signature{
		"": 4, "v4": 4, "s3v4": 4, "4": 4, "v2": 2, "s3v2": 2, "s3": 2, "2": 2,
	} {
		if got := (purser.S3Config{SignatureVersion: version}).Signature(); got != want {
			t.Errorf("signature of %q is %d, want %d", version, got, want)
		}
		if got := purser.CheckSignatureVersion(version); (got == "") != (version != "") {
			t.Errorf("CheckSignatureVersion(%q) = %q", version, got)
		}
	}
	for _, version := range []string{"v3", "V4", " v4", "v4 "} {
		if purser.CheckSignatureVersion(version) == "" {
			t.Errorf("CheckSignatureVersion(%q) accepts it", version)
		}
	}
}

func TestSites(t *testing.T) {
	t.Parallel()
	sites := purser.NewSites(
		purser.Site{Name: "ny2", Endpoint: "https://s3.ny.example", SigningRegion: "us-east-1"},
		purser.Site{Name: "lab", Endpoint: "http://10.0.0.1:9000"},
	)
	if got := sites.Check("ca1"); got != "" {
		t.Errorf("a documented site: %q", got)
	}
	if got, want := sites.Check("eu-west-1"), "must be one of: ams1, ca1, lab, ny2"; got != want {
		t.Errorf("an unknown site: %q, want %q", got, want)
	}
	for _, c := range []struct {
		name             string
		config           purser.S3Config
		endpoint, region string
		ok               bool
	}{
		{"neither means AWS", purser.S3Config{}, "", "", true},
		{"an endpoint of its own", purser.S3Config{Endpoint: "https://x.example"}, "https://x.example", "", true},
		{"the site's", purser.S3Config{Region: "ny2"}, "https://s3.ny.example", "us-east-1", true},
		{"its own endpoint with the site's region", purser.S3Config{Endpoint: "https://x.example", Region: "ny2"}, "https://x.example", "us-east-1", true},
		{"a site without an endpoint", purser.S3Config{Region: "ca1"}, "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			endpoint, region, ok := sites.Locate(c.config)
			if endpoint != c.endpoint || region != c.region || ok != c.ok {
				t.Errorf("Locate = %q, %q, %t; want %q, %q, %t", endpoint, region, ok, c.endpoint, c.region, c.ok)
			}
		})
	}
	if got := (purser.Tree{Path: "/srv/{team}/nb"}).Root("tea000000000001"); got != "/srv/tea000000000001/nb" {
		t.Errorf("Root = %q", got)
	}
}
