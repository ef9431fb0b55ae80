package s3bucket

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// defaultRegion is what services without regions sign for.
const defaultRegion = "us-east-1"

// regionPattern is what a region that a server names may look like.
var regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// awsRegionPattern is what a region must look like to become part of a host: no
// server can send us anywhere but to a region of AWS with it.
var awsRegionPattern = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+){1,3}-[0-9]{1,2}$`)

// virtualHostPattern are the buckets that can be a host's first label. A dot
// would make a second label, for which no certificate of AWS is valid.
var virtualHostPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)

// address is where requests for a bucket go.
type address struct {
	scheme, host string
	path         string // of the bucket, "/" when its name is in the host
	virtualHost  bool
}

// addressOf finds the address of a bucket: path style where the user names the
// endpoint, because few of those have a wildcard in DNS and certificate, unless
// the endpoint wants the bucket in the host; and AWS's own style otherwise.
func addressOf(b source.Bucket, region string, virtualHost bool) (address, *source.Error) {
	if purser.CheckBucket(b.Bucket) != "" {
		return address{}, badBucket.because(nil)
	}
	if b.Endpoint != "" {
		u, err := url.Parse(b.Endpoint)
		if err != nil || purser.CheckEndpoint(b.Endpoint) != "" {
			return address{}, badEndpoint.because(err)
		}
		if _, numeric := netip.ParseAddr(u.Hostname()); virtualHost && numeric != nil && virtualHostPattern.MatchString(b.Bucket) {
			return address{scheme: u.Scheme, host: b.Bucket + "." + u.Host, path: "/", virtualHost: true}, nil
		}
		return address{scheme: u.Scheme, host: u.Host, path: "/" + b.Bucket + "/"}, nil
	}
	if region == "" {
		region = defaultRegion
	}
	if !awsRegionPattern.MatchString(region) {
		return address{}, wrongRegion.because(nil)
	}
	host := "s3." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		host += ".cn"
	}
	if !virtualHostPattern.MatchString(b.Bucket) {
		return address{scheme: "https", host: host, path: "/" + b.Bucket + "/"}, nil
	}
	return address{scheme: "https", host: b.Bucket + "." + host, path: "/", virtualHost: true}, nil
}

// virtualHostCodes are how services say that they want the bucket in the host:
// those of Alibaba, Tencent and Huawei.
var virtualHostCodes = []string{"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "VirtualHostDomainRequired"}
