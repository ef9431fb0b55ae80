package egress

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"
)

// The limits of every connection. What a whole exchange may take is up to the
// caller's context.
const (
	DialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	// ResponseHeaderTimeout is long because a store may search through millions
	// of deleted entries before it has one to list (up to 120 s were seen).
	ResponseHeaderTimeout  = 120 * time.Second
	maxResponseHeaderBytes = 64 << 10
	idleTimeout            = 30 * time.Second
	maxIdle                = 64
	maxIdlePerHost         = 4
	maxPerHost             = 32
	readBuffer             = 64 << 10 // a listing page is read in a few system calls instead of a hundred
)

// Options are the few things in which users of a client differ. The zero value
// is the strictest.
type Options struct {
	// Compression asks for compressed answers. Whoever sets it must bound what
	// comes out of the decompressor, not only what the wire carries.
	Compression bool
	// RootCAs are trusted instead of the system's; nil means the system's.
	RootCAs *x509.CertPool
}

// Client returns a client that obeys p. It does not follow redirects: a 3xx is
// an answer like any other, and its Location must not be trusted.
func (p *Policy) Client(o Options) *http.Client {
	return &http.Client{
		Transport:     p.Transport(o),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Transport is the part of a Client that makes connections.
type Transport struct {
	plain, secure *http.Transport
}

// Transport returns a transport that obeys p, for libraries that bring their
// own client.
func (p *Policy) Transport(o Options) *Transport {
	return &Transport{plain: p.transport(o, true), secure: p.transport(o, false)}
}

// transport makes one of the pair: only at dial time is it known which address
// a name has, and only the transport knows then whether TLS will follow.
func (p *Policy) transport(o Options, plain bool) *http.Transport {
	dialer := &net.Dialer{Timeout: DialTimeout, Control: p.control(plain), Resolver: p.resolver}
	return &http.Transport{
		Proxy:                  nil, // a proxy would hide the address that is connected to
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    tlsHandshakeTimeout,
		ResponseHeaderTimeout:  ResponseHeaderTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		DisableCompression:     !o.Compression,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxConnsPerHost:        maxPerHost,
		ReadBufferSize:         readBuffer,
	}
}

// RoundTrip sends r over http or https; there are no other ways.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Scheme {
	case "http":
		return t.plain.RoundTrip(r)
	case "https":
		return t.secure.RoundTrip(r)
	}
	if r.Body != nil {
		_ = r.Body.Close() // RoundTrip's contract
	}
	return nil, fmt.Errorf("scheme %q: %w", r.URL.Scheme, ErrBlocked)
}

// CloseIdleConnections closes the connections that wait for further requests.
func (t *Transport) CloseIdleConnections() {
	t.plain.CloseIdleConnections()
	t.secure.CloseIdleConnections()
}
