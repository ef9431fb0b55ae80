package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Rule allows connections to the addresses of Prefix on Port. It says nothing
// about any other address or port.
type Rule struct {
	Prefix netip.Prefix
	Port   uint16 // 0 means any
}

// ParseRule reads CIDR[:PORT] as operators write it: 10.1.0.0/16,
// 127.0.0.0/8:9000, 10.1.2.3:9000, fd12::/16, [fd12::/16]:9000. A bare address
// means that address alone.
func ParseRule(s string) (Rule, error) {
	text, port, err := splitPort(s)
	if err != nil {
		return Rule{}, fmt.Errorf("%q: %w", s, err)
	}
	prefix, err := parsePrefix(text)
	if err != nil {
		return Rule{}, fmt.Errorf("%q: %w", s, err)
	}
	return Rule{Prefix: prefix, Port: port}, nil
}

// splitPort takes the port off. IPv6 needs brackets for that: in fd12::9000 the
// last number is part of the address.
func splitPort(s string) (string, uint16, error) {
	text, digits, found := s, "", false
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		var rest string
		if text, rest, found = strings.Cut(inner, "]"); !found {
			return "", 0, errors.New("a bracket is not closed")
		}
		if digits, found = strings.CutPrefix(rest, ":"); !found && rest != "" {
			return "", 0, errors.New("after the bracket only :PORT may follow")
		}
	} else if strings.Count(s, ":") == 1 {
		text, digits, found = strings.Cut(s, ":")
	}
	if !found {
		return text, 0, nil
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return "", 0, errors.New("the port must be a number from 1 to 65535")
	}
	return text, uint16(port), nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	const form = "must be an address or a range such as 10.1.2.3, 10.1.0.0/16 or fd12::/16, with :PORT behind it if one port is meant"
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New(form)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New(form)
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("must be written as IPv4")
	case prefix != prefix.Masked():
		// Somebody who writes 10.1.2.3/8 may mean one address and would open 16 million.
		return netip.Prefix{}, fmt.Errorf("has bits behind the mask; write %s or %s", prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// String writes r as ParseRule reads it.
func (r Rule) String() string {
	switch {
	case r.Port == 0:
		return r.Prefix.String()
	case r.Prefix.Addr().Is6():
		return net.JoinHostPort(r.Prefix.String(), strconv.Itoa(int(r.Port)))
	}
	return r.Prefix.String() + ":" + strconv.Itoa(int(r.Port))
}

// allows reports whether r is about this address and port. addr has neither a
// zone nor an IPv4 address inside IPv6.
func (r Rule) allows(addr netip.Addr, port uint16) bool {
	return r.Prefix.Contains(addr) && (r.Port == 0 || r.Port == port)
}
