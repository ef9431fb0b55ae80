package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/s3bucket/s3buckettest"
	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

// realTenant is a team with a bucket of 12,000 objects on a real S3 server, which
// takes its time for each page, and was measured once.
func realTenant(t *testing.T) (*tenant, *s3servertest.Server) {
	t.Helper()
	real := s3servertest.Start(t)
	real.CreateBucket(t, "bucket")
	held := truth{}
	for i := range 12_000 {
		real.Write(t, "bucket", fmt.Sprintf("runs/%02d/%d", i%50, i), int64(i))
		held["datasetUsage"] += int64(i)
	}
	forward := forwardTo(t, real.Endpoint)
	store := newTurncoat(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if listingOf(r) == source.Objects {
			time.Sleep(300 * time.Millisecond) // a slow store is the point
		}
		forward.ServeHTTP(w, r)
	}))
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	c := newTenant(t, s, "team", store, held)
	c.measure(t)
	return c, real
}

// awaitMiddle waits until a scan has asked for some pages, and not for all.
func (c *tenant) awaitMiddle(t testing.TB) {
	t.Helper()
	before := c.store.requests.Load()
	c.begin(t)
	eventually(t, 20*time.Second, "some pages", func() bool { return c.store.requests.Load() >= before+6 })
	if now := c.look(t); now["state"] != "running" {
		t.Fatalf("the scan is not in its middle: %v", now)
	}
}

// TestCancelInTheMiddle proves that a second after a scan was cancelled the store
// hears of it no more.
func TestCancelInTheMiddle(t *testing.T) {
	t.Parallel()
	c, _ := realTenant(t)
	c.awaitMiddle(t)
	c.cancel(t)
	time.Sleep(time.Second) // what is promised
	asked := c.store.requests.Load()
	time.Sleep(time.Second)
	if n := c.store.requests.Load() - asked; n != 0 {
		t.Errorf("%d requests, more than a second after the scan was cancelled", n)
	}
	if now := c.look(t); now["state"] != "cancelled" {
		t.Errorf("%v", now)
	}
	c.stored.expect(t, c.server, "complete")
	c.measure(t)
}

// TestChangesInTheMiddle takes from a scan under way what it needs. It fails and
// says why, and the figures of the last good one stay.
func TestChangesInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, change := range []struct {
		name, code string
		do         func(t *testing.T, c *tenant, real *s3servertest.Server)
	}{
		{"the bucket is deleted", source.CodeNoSuchBucket, func(t *testing.T, _ *tenant, real *s3servertest.Server) {
			check(t, os.Rename(filepath.Join(real.Root, "bucket"), filepath.Join(t.TempDir(), "gone")))
		}},
		{"the access key is deleted", source.CodeBadCredentials, func(_ *testing.T, c *tenant, _ *s3servertest.Server) {
			c.store.turn(s3buckettest.Error(http.StatusForbidden, "InvalidAccessKeyId"))
		}},
		{"the right to list is taken away", source.CodeAccessDenied, func(_ *testing.T, c *tenant, _ *s3servertest.Server) {
			c.store.turn(s3buckettest.Error(http.StatusForbidden, "AccessDenied"))
		}},
	} {
		t.Run(change.name, func(t *testing.T) {
			c, real := realTenant(t)
			c.awaitMiddle(t)
			change.do(t, c, real)
			asked := c.store.requests.Load()
			c.awaitFault(t, 20*time.Second, "failed", change.code)
			c.stored.expect(t, c.server, "stale")
			if n := c.store.requests.Load() - asked; n > 40 {
				t.Errorf("%d requests after the change", n)
			}
		})
	}
}

// TestEmptyBucket measures a bucket that holds nothing: that is a result, not a
// failure.
func TestEmptyBucket(t *testing.T) {
	t.Parallel()
	real := s3servertest.Start(t)
	real.CreateBucket(t, "bucket")
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	c := newTenant(t, s, "team", newTurncoat(t, forwardTo(t, real.Endpoint)), truth{})
	c.measure(t)
	if now := c.look(t); now["objects"] != 0.0 || now["bytes"] != "0" || now["error"] != nil {
		t.Errorf("%v", now)
	}
}

// TestProgressOnlyGrows asks for a scan 20 times a second.
func TestProgressOnlyGrows(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	good, held := cannedBucket(t, manyObjects(t, 150_000), canned.Options{Delay: 300 * time.Millisecond})
	c := newTenant(t, s, "team", newTurncoat(t, good), held)
	c.begin(t)
	var objects, bytes, requests, steps int64
	for state := ""; state != "done"; time.Sleep(50 * time.Millisecond) {
		now := c.look(t)
		state, _ = now["state"].(string)
		sum, err := strconv.ParseInt(now["bytes"].(string), 10, 64)
		check(t, err)
		o, r := int64(now["objects"].(float64)), int64(now["requests"].(float64))
		if o < objects || sum < bytes || r < requests || now["error"] != nil {
			t.Fatalf("%v, after %d objects, %d bytes, %d requests", now, objects, bytes, requests)
		}
		if o > objects {
			steps++
		}
		objects, bytes, requests = o, sum, r
	}
	if objects != 150_000 || bytes != held.total() || steps < 3 {
		t.Errorf("%d objects, %d bytes in %d steps", objects, bytes, steps)
	}
}

// TestConnectionsThatGoBad has stores that were measured over TLS lose what makes
// them trustworthy, or go away. Nobody can tell the one from the other by what
// the scan says.
func TestConnectionsThatGoBad(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.der}), 0o600))
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}, env: []string{"SSL_CERT_FILE=" + file}})
	year := 365 * 24 * time.Hour
	stranger := newAuthority(t)
	goods := authority.issue(t, "127.0.0.1", year)
	texts := map[string]string{}
	for i, c := range []struct {
		name  string
		state string
		then  *tls.Certificate // nil: nobody listens any more
		limit uint16           // the newest version of TLS; 0 for any
	}{
		{"expired", "failed", authority.issue(t, "127.0.0.1", -time.Hour), 0},
		{"for another host", "failed", authority.issue(t, "127.0.0.2", year), 0},
		{"of an unknown authority", "failed", stranger.issue(t, "127.0.0.1", year), 0},
		{"TLS 1.0", "running", goods, tls.VersionTLS10},
		{"nobody listens", "running", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			good, held := cannedBucket(t, oneObject, canned.Options{})
			store := newTurncoat(t, good)
			store.Close()
			var config atomic.Pointer[tls.Config]
			config.Store(&tls.Config{Certificates: []tls.Certificate{*goods}})
			server := httptest.NewUnstartedServer(http.HandlerFunc(good.ServeHTTP))
			server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config.Load(), nil }}
			server.Config.ErrorLog = silent
			server.StartTLS()
			store.Server = server
			tenant := newTenant(t, s, fmt.Sprint("team-", i), store, held)
			tenant.measure(t)
			if c.then == nil {
				server.Close()
			} else {
				config.Store(&tls.Config{Certificates: []tls.Certificate{*c.then}, MaxVersion: c.limit})
				server.CloseClientConnections()
			}
			tenant.begin(t)
			tenant.awaitFault(t, 20*time.Second, c.state, source.CodeUnreachable)
			fault := tenant.look(t)["error"].(map[string]any)
			texts[fmt.Sprint(fault["message"], fault["hint"])] = c.name
			if c.state == "running" {
				tenant.cancel(t)
				held.expect(t, tenant.server, "complete")
			} else {
				held.expect(t, tenant.server, "stale")
			}
		})
	}
	if len(texts) != 1 {
		t.Errorf("the texts differ: %v", texts)
	}
}

// authority issues certificates.
type authority struct {
	der  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return &authority{der, cert, key}
}

// issue makes a certificate for an address that is good for some time from now.
func (a *authority) issue(t testing.TB, address string, valid time.Duration) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(valid),
		IPAddresses: []net.IP{net.ParseIP(address)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	check(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
