// Package egress is the only way out to addresses that a user supplied.
//
// It decides on the address that is actually dialled, after the name has been
// resolved, so that no answer of a name server can change between the check and
// the connection. It leaves to its callers what they say over the connection
// and how long that may take. What always holds: connections go to public
// addresses, and to private ones only where a rule of the operator names both
// address and port; plain http goes nowhere without such a rule; a metadata
// service of a cloud is never reached; no proxy and no redirect is followed.
package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrBlocked is wrapped by every error that means: not allowed, rather than not
// possible.
var ErrBlocked = errors.New("the address is not allowed")

// BlockedError is a connection that was refused before it was made.
type BlockedError struct {
	Addr netip.AddrPort
	// Plain is set when https to the same address would have been allowed.
	Plain bool
	// Err says which list the address is on, for the log.
	Err error
}

func (e *BlockedError) Error() string {
	if e.Plain {
		return fmt.Sprintf("%s: %v for plain http", e.Addr, ErrBlocked)
	}
	if e.Err != nil {
		return fmt.Sprintf("%s: %v: %v", e.Addr, ErrBlocked, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Addr, ErrBlocked)
}

// Unwrap makes ErrBlocked visible to errors.Is through whatever net and
// net/http wrap around the error.
func (e *BlockedError) Unwrap() []error { return []error{ErrBlocked, e.Err} }

// metadata are the services that hand out a cloud's credentials, or are about
// to, to whoever asks from inside. They are reached over plain http by default,
// and no rule may open them.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Google, Azure, DigitalOcean, Oracle, OpenStack
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("169.254.170.2"),   // AWS, credentials of ECS tasks
	netip.MustParseAddr("169.254.170.23"),  // AWS, credentials of EKS pods
	netip.MustParseAddr("fd00:ec2::23"),    // AWS, credentials of EKS pods
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure's host, a public address in no registry
	netip.MustParseAddr("192.0.0.192"),     // Oracle
}

// nat64 is where a NAT64 gateway reaches IPv4 (RFC 6052), so that each metadata
// address exists there too.
var nat64 = ssrf.IPv6NAT64Prefix

// isMetadata reports whether addr is a metadata service in any of its disguises.
func isMetadata(addr netip.Addr) bool {
	if nat64.Contains(addr) {
		bytes := addr.As16()
		addr = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return slices.Contains(metadata, addr)
}

// Policy says where connections may go. It is safe for concurrent use.
type Policy struct {
	// unrestricted is set for commands, which have their caller's own rights.
	unrestricted bool
	rules        []Rule
	public       *ssrf.Guardian
	// resolver is nil for the system's; tests bring their own.
	resolver *net.Resolver
}

// New makes the policy that allows public addresses and what rules allow. The
// error is a sentence for the operator.
func New(rules []Rule) (*Policy, error) {
	for _, r := range rules {
		if addr, found := metadataIn(r.Prefix); found {
			return nil, fmt.Errorf("%s would allow %s, which hands out a cloud's credentials; allow narrower ranges that leave it out", r, addr)
		}
	}
	return &Policy{
		rules:  slices.Clone(rules),
		public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("168.63.129.16/32"))),
	}, nil
}

// Unrestricted is the policy of a command that a person runs: it may connect to
// whatever that person may. A server never has it.
func Unrestricted() *Policy { return &Policy{unrestricted: true} }

// metadataIn returns a metadata address inside prefix.
func metadataIn(prefix netip.Prefix) (netip.Addr, bool) {
	for _, addr := range metadata {
		if prefix.Contains(addr) || addr.Is4() && prefix.Contains(embed(addr)) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// embed returns where a NAT64 gateway reaches an IPv4 address.
func embed(addr netip.Addr) netip.Addr {
	bytes, v4 := nat64.Addr().As16(), addr.As4()
	copy(bytes[12:], v4[:])
	return netip.AddrFrom16(bytes)
}

// check decides on one connection. plain is a connection without TLS.
func (p *Policy) check(to netip.AddrPort, plain bool) error {
	addr := to.Addr().Unmap().WithZone("")
	to = netip.AddrPortFrom(addr, to.Port())
	if isMetadata(addr) {
		return &BlockedError{Addr: to, Err: errors.New("it is a cloud's metadata service")}
	}
	if p.ruled(addr, to.Port()) {
		return nil
	}
	if err := p.public.SafeAddr(addr); err != nil {
		return &BlockedError{Addr: to, Err: err}
	}
	if plain {
		return &BlockedError{Addr: to, Plain: true}
	}
	return nil
}

// ruled reports whether the operator allowed this address and port.
func (p *Policy) ruled(addr netip.Addr, port uint16) bool {
	return slices.ContainsFunc(p.rules, func(r Rule) bool { return r.allows(addr, port) })
}

// control is what net.Dialer calls with the resolved address, before it
// connects; the address cannot change any more.
func (p *Policy) control(plain bool) func(network, address string, _ syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !strings.HasPrefix(network, "tcp") {
			return fmt.Errorf("%s %s: %w", network, address, ErrBlocked)
		}
		if p.unrestricted {
			return nil
		}
		return p.check(to, plain)
	}
}
