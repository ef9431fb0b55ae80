package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// canary is a server that counts who connects to it and what is asked.
type canary struct {
	*httptest.Server
	connections, requests atomic.Int64
}

func newCanary(t *testing.T, secure bool, handler http.HandlerFunc) *canary {
	t.Helper()
	c := &canary{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		if handler != nil {
			handler(w, r)
		}
	}))
	c.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.connections.Add(1)
		}
	}
	if secure {
		c.StartTLS()
	} else {
		c.Start()
	}
	t.Cleanup(c.Close)
	return c
}

func (c *canary) port() string {
	u, _ := url.Parse(c.URL)
	return u.Port()
}

func get(t *testing.T, client *http.Client, target string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	return response, err
}

func wantBlocked(t *testing.T, err error) {
	t.Helper()
	var (
		blocked *BlockedError
		fromURL *url.Error
	)
	if !errors.Is(err, ErrBlocked) || !errors.As(err, &blocked) || !errors.As(err, &fromURL) {
		t.Errorf("error = %v, want ErrBlocked inside a url.Error", err)
	}
}

func TestLoopbackIsRefusedByDefault(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		c := newCanary(t, secure, nil)
		client := mustPolicy(t).Client(Options{})
		for _, target := range []string{c.URL, strings.Replace(c.URL, "127.0.0.1", "localhost", 1), strings.Replace(c.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
			_, err := get(t, client, target)
			wantBlocked(t, err)
		}
		if n := c.connections.Load(); n != 0 {
			t.Errorf("%d connections were made, want none", n)
		}
	}
}

func TestRulesOpenAddressAndPort(t *testing.T) {
	t.Parallel()
	c := newCanary(t, false, nil)
	for _, name := range []string{"127.0.0.1", "localhost"} {
		target := "http://" + name + ":" + c.port()
		for _, rule := range []string{"127.0.0.0/8", "127.0.0.1:" + c.port()} {
			if _, err := get(t, mustPolicy(t, rule).Client(Options{}), target); err != nil {
				t.Errorf("rule %s: %s: %v", rule, target, err)
			}
		}
		for _, rule := range []string{"127.0.0.1:1", "10.0.0.0/8", "127.0.0.2"} {
			_, err := get(t, mustPolicy(t, rule).Client(Options{}), target)
			wantBlocked(t, err)
		}
	}
}

func TestHTTPSNeedsTLS12AndATrustedCertificate(t *testing.T) {
	t.Parallel()
	c := newCanary(t, true, nil)
	p := mustPolicy(t, "127.0.0.0/8")
	if _, err := get(t, p.Client(Options{}), c.URL); err == nil {
		t.Error("a self-signed certificate was accepted")
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.Certificate())
	if _, err := get(t, p.Client(Options{RootCAs: pool}), c.URL); err != nil {
		t.Errorf("with its authority trusted: %v", err)
	}
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	t.Cleanup(old.Close)
	pool.AddCert(old.Certificate())
	if _, err := get(t, p.Client(Options{RootCAs: pool}), old.URL); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	other := newCanary(t, false, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{other.URL, "https://127.0.0.1:" + other.port(), "/again"} {
			c := newCanary(t, false, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(status)
			})
			response, err := get(t, mustPolicy(t, "127.0.0.0/8").Client(Options{}), c.URL)
			if err != nil || response.StatusCode != status {
				t.Errorf("%d to %s: %v, %v; want the answer itself", status, location, response, err)
			}
			if n := c.requests.Load(); n != 1 {
				t.Errorf("%d to %s: %d requests, want 1", status, location, n)
			}
		}
	}
	if n := other.connections.Load(); n != 0 {
		t.Errorf("%d connections to where Location pointed, want none", n)
	}
}

// No t.Parallel: the environment is shared.
func TestProxyVariablesAreIgnored(t *testing.T) {
	proxy, c := newCanary(t, false, nil), newCanary(t, false, nil)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	p := mustPolicy(t, "127.0.0.0/8:"+c.port())
	p.resolver = resolverAnswering(t, func() netip.Addr { return netip.MustParseAddr("127.0.0.1") })
	if _, err := get(t, p.Client(Options{}), "http://s3.example.test:"+c.port()); err != nil {
		t.Errorf("the allowed server was not reached: %v", err)
	}
	if n := proxy.connections.Load(); n != 0 {
		t.Errorf("the proxy got %d connections, want none", n)
	}
}

func TestOtherSchemesAreRefused(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"ftp://127.0.0.1/", "file:///etc/passwd", "unix:///run/docker.sock"} {
		if _, err := get(t, mustPolicy(t, "127.0.0.0/8").Client(Options{}), target); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s: %v, want ErrBlocked", target, err)
		}
	}
}

func TestPlainHTTPToAPublicNameIsRefused(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, "127.0.0.0/8")
	p.resolver = resolverAnswering(t, func() netip.Addr { return netip.MustParseAddr("93.184.215.14") })
	_, err := get(t, p.Client(Options{}), "http://s3.example.test")
	wantBlocked(t, err)
	var blocked *BlockedError
	if errors.As(err, &blocked) && !blocked.Plain {
		t.Errorf("%v does not say that plain http is the reason", err)
	}
}

// TestRebindingReachesNothing has a name server change its answer with every
// question: whoever checks one answer and dials another is caught.
func TestRebindingReachesNothing(t *testing.T) {
	t.Parallel()
	c := newCanary(t, false, nil)
	p := mustPolicy(t, "127.0.0.2:"+c.port()) // one answer is allowed, the other is the canary
	var turn atomic.Int64
	p.resolver = resolverAnswering(t, func() netip.Addr {
		if turn.Add(1)%2 == 0 {
			return netip.MustParseAddr("127.0.0.1")
		}
		return netip.MustParseAddr("127.0.0.2")
	})
	client := p.Client(Options{})
	for range 200 {
		if _, err := get(t, client, "http://rebind.example.test:"+c.port()); err == nil {
			t.Fatal("the request was answered")
		}
	}
	if n := c.connections.Load(); n != 0 {
		t.Errorf("the canary got %d connections, want none", n)
	}
	if turn.Load() < 200 {
		t.Errorf("the name was resolved %d times, want every time", turn.Load())
	}
}

func TestCompressionIsOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		var got atomic.Value
		c := newCanary(t, false, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Accept-Encoding")) })
		if _, err := get(t, mustPolicy(t, "127.0.0.0/8").Client(Options{Compression: on}), c.URL); err != nil {
			t.Fatal(err)
		}
		if asked := got.Load() == "gzip"; asked != on {
			t.Errorf("Compression=%t: Accept-Encoding is %q", on, got.Load())
		}
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	c := newCanary(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", 2*maxResponseHeaderBytes))
	})
	if _, err := get(t, mustPolicy(t, "127.0.0.0/8").Client(Options{}), c.URL); err == nil {
		t.Error("headers beyond the limit were accepted")
	}
}

// resolverAnswering returns a resolver whose name server answers every question
// for an IPv4 address with what answer returns.
func resolverAnswering(t *testing.T, answer func() netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { serveDNS(conn, answer) })
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func serveDNS(conn net.PacketConn, answer func() netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: answer().As4()},
			}}
		}
		if packed, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(packed, from)
		}
	}
}
