package purser

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaskedSecret stands in every answer where the contract wants a secret, and in
// a request it means "the one you have".
const MaskedSecret = "********"

// ProviderKindS3 is the one kind of provider the contract has so far.
const ProviderKindS3 = "s3"

// Provider is a registered place for a team's data. It never holds the secret
// itself, not even sealed: whoever needs that asks the store for a Credential.
type Provider struct {
	ID     ProviderID
	TeamID TeamID
	Name   string
	// Managed providers are provisioned by the operator and not edited by teams.
	Managed bool
	// TeamDefault marks the provider used when none is named: one or none per team.
	TeamDefault bool
	S3          S3Config
	// Version starts at 1 and grows by one with every change.
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// S3Config says where a bucket is and how to talk to it.
type S3Config struct {
	// Endpoint is where the S3 service answers, as the user wrote it; empty
	// means the site's endpoint, or AWS when there is no site either.
	Endpoint  string
	Bucket    string
	AccessKey string
	// Region is the site's name (the contract calls it region); empty for none.
	Region string
	// RetainData keeps the objects when the provider is deleted.
	RetainData bool
	// SignatureVersion is as the user wrote it; empty means version 4.
	SignatureVersion string
}

// SameLocation reports whether the stored secret of c may still be used with
// other: a change of endpoint, bucket, access key or site could point it at a
// stranger's server.
func (c S3Config) SameLocation(other S3Config) bool {
	return c.SamePlace(other) && c.AccessKey == other.AccessKey
}

// SamePlace reports whether c and other name the same bucket, so that what was
// measured of one holds for the other.
func (c S3Config) SamePlace(other S3Config) bool {
	return c.Endpoint == other.Endpoint && c.Bucket == other.Bucket && c.Region == other.Region
}

// Signature is a version of the S3 request signature.
type Signature int

const (
	SignatureV4 Signature = 4
	SignatureV2 Signature = 2
)

// Signature returns the version that SignatureVersion stands for. Call it on
// checked configurations only: what is not known counts as version 4.
func (c S3Config) Signature() Signature {
	if signatures[c.SignatureVersion] == SignatureV2 {
		return SignatureV2
	}
	return SignatureV4
}

// signatures are the spellings that S3 clients use for the two versions.
var signatures = map[string]Signature{
	"": SignatureV4, "v4": SignatureV4, "s3v4": SignatureV4, "4": SignatureV4,
	"v2": SignatureV2, "s3v2": SignatureV2, "s3": SignatureV2, "2": SignatureV2,
}

// Limits on what users may call things. The API description states them too; a
// test compares the two.
const (
	MaxNameLength     = 255  // characters, after trimming
	MaxEndpointLength = 2048 // bytes
	MaxKeyLength      = 1024 // bytes, access keys and secrets
)

// CheckName says what is wrong with a name shown to people, or returns "".
func CheckName(name string) string {
	trimmed := strings.TrimSpace(name)
	switch {
	case trimmed == "":
		return "must not be empty"
	case !utf8.ValidString(name):
		return "must be valid UTF-8"
	case utf8.RuneCountInString(trimmed) > MaxNameLength:
		return fmt.Sprintf("must be at most %d characters", MaxNameLength)
	case strings.ContainsFunc(trimmed, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}

// CheckEndpoint says what is wrong with the address of an S3 service, or
// returns "". Whether the address may be connected to is decided elsewhere and
// later, when the name has been resolved.
func CheckEndpoint(endpoint string) string {
	const form = "must be an absolute URL such as https://s3.example.com"
	u, err := url.Parse(endpoint)
	switch {
	case len(endpoint) > MaxEndpointLength:
		return fmt.Sprintf("must be at most %d bytes", MaxEndpointLength)
	case err != nil:
		return form
	case u.Scheme == "" || u.Host == "" && !strings.Contains(endpoint, "://"):
		return form + "; the scheme https:// or http:// is missing"
	case u.Scheme != "http" && u.Scheme != "https":
		return "must start with https:// or http://"
	case u.Hostname() == "":
		return form
	case u.User != nil:
		return "must not contain a user name or password; put them into accessKey and secretAccessKey"
	case u.Path != "":
		return "must not contain a path; the bucket's name belongs into bucket"
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(endpoint, "#"):
		return "must not contain a query or a fragment"
	case u.String() != endpoint:
		// The wire type keeps a parsed URL; only canonical spellings survive it unchanged.
		return "must be written in its plain form: " + u.String()
	}
	return ""
}

// bucketPattern admits what S3 and its look-alikes admit: the rules of AWS, and
// the capitals and underscores of older buckets. No slash, so that a bucket
// cannot become a path.
var bucketPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

// CheckBucket says what is wrong with the name of a bucket, or returns "".
func CheckBucket(bucket string) string {
	if !bucketPattern.MatchString(bucket) || strings.Contains(bucket, "..") {
		return "must be the name of a bucket: 3 to 63 letters, digits, dots, hyphens or underscores"
	}
	return ""
}

// CheckKey says what is wrong with an access key or a secret, or returns "".
// The value itself is never repeated.
func CheckKey(key string) string {
	switch {
	case key == "":
		return "must not be empty"
	case len(key) > MaxKeyLength:
		return fmt.Sprintf("must be at most %d bytes", MaxKeyLength)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }):
		return "must not contain spaces, line breaks or control characters"
	}
	return ""
}

// CheckSignatureVersion says what is wrong with a signature version, or
// returns "".
func CheckSignatureVersion(version string) string {
	if _, known := signatures[version]; !known || version == "" {
		return "must be v4 (also s3v4, 4) or v2 (also s3v2, s3, 2)"
	}
	return ""
}
