package egress

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// What CheckURL says, for people.
const (
	sentenceForm     = "must be an absolute URL such as https://s3.example.com"
	sentencePrivate  = "must not point to a private or local address unless the operator allows it (--egress-allow)"
	sentenceMetadata = "must not point to the metadata service of a cloud"
	sentencePlain    = "must start with https://; plain http is only for addresses that the operator allows (--egress-allow)"
)

// CheckURL says what is wrong with an endpoint as far as that can be known
// without resolving its name, or returns "". It spares people a late surprise;
// what protects is the check of each connection.
func (p *Policy) CheckURL(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return sentenceForm
	}
	plain := u.Scheme == "http"
	port, err := portOf(u)
	if err != nil {
		return sentenceForm
	}
	addrs := literals(u.Hostname())
	if len(addrs) == 0 {
		if plain && !p.anyRuleFor(port) {
			return sentencePlain
		}
		return ""
	}
	// Of the two loopback addresses one that is allowed is enough: the name may
	// mean either.
	sentence := ""
	for _, addr := range addrs {
		if sentence = p.sentence(netip.AddrPortFrom(addr, port), plain); sentence == "" {
			break
		}
	}
	return sentence
}

func (p *Policy) sentence(to netip.AddrPort, plain bool) string {
	switch err := p.check(to, plain); {
	case err == nil:
		return ""
	case isMetadata(to.Addr().Unmap().WithZone("")):
		return sentenceMetadata
	case p.check(to, false) == nil:
		return sentencePlain
	}
	return sentencePrivate
}

// anyRuleFor reports whether plain http on port is possible to any address.
func (p *Policy) anyRuleFor(port uint16) bool {
	return slices.ContainsFunc(p.rules, func(r Rule) bool { return r.Port == 0 || r.Port == port })
}

func portOf(u *url.URL) (uint16, error) {
	switch {
	case u.Port() != "":
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		return uint16(port), err
	case u.Scheme == "http":
		return 80, nil
	}
	return 443, nil
}

// literals returns the addresses that host means without asking a name server:
// none for an ordinary name.
func literals(host string) []netip.Addr {
	// net/http maps a host with idna before it dials, which turns full-width
	// digits and other look-alikes into ASCII.
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}
	}
	if addr, ok := parseNumbers(host); ok {
		return []netip.Addr{addr}
	}
	return nil
}

// parseNumbers reads the spellings of an IPv4 address that the C library's
// inet_aton accepts, and with it a resolver that uses it: 127.1, 0x7f.1,
// 0177.0.0.1, 2130706433.
func parseNumbers(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts)) // the last part fills what is left
		}
		n, err := strconv.ParseUint(octal(part), 0, bits)
		if err != nil {
			return netip.Addr{}, false
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

// octal keeps strconv from reading what inet_aton would not: 0b1, 0o17, 1_0.
func octal(part string) string {
	if strings.ContainsAny(part, "_oO+") || strings.HasPrefix(part, "0b") {
		return ""
	}
	return part
}
