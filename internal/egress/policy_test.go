package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func mustRules(t *testing.T, texts ...string) []Rule {
	t.Helper()
	rules := make([]Rule, 0, len(texts))
	for _, text := range texts {
		r, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

func mustPolicy(t *testing.T, rules ...string) *Policy {
	t.Helper()
	p, err := New(mustRules(t, rules...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseRule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, out string }{
		{"127.0.0.0/8", "127.0.0.0/8"},
		{"127.0.0.0/8:9000", "127.0.0.0/8:9000"},
		{"10.1.2.3", "10.1.2.3/32"},
		{"10.1.2.3/32:9000", "10.1.2.3/32:9000"},
		{"10.1.2.3:9000", "10.1.2.3/32:9000"},
		{"::1", "::1/128"},
		{"[::1]", "::1/128"},
		{"[::1]:9000", "[::1/128]:9000"},
		{"fd12::/16", "fd12::/16"},
		{"[fd12::/16]:9000", "[fd12::/16]:9000"},
		{"::ffff:10.1.2.3", "10.1.2.3/32"},
	} {
		r, err := ParseRule(c.in)
		if err != nil || r.String() != c.out {
			t.Errorf("ParseRule(%q) = %v, %v; want %s", c.in, r, err, c.out)
			continue
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Errorf("ParseRule(%q) = %v, %v; want %v", r.String(), again, err, r)
		}
	}
	for _, in := range []string{
		"", "10.1.2", "10.1.2.3/33", "10.1.2.3/8", "10.1.2.3:0", "10.1.2.3:65536", "10.1.2.3:x", "10.1.2.3:",
		"[::1", "[::1]9000", "[::1]:", "::ffff:10.0.0.0/104", "fe80::1%eth0", "localhost", "localhost:9000", "0x7f.0.0.1", "10.0.0.0/8/8",
	} {
		if r, err := ParseRule(in); err == nil {
			t.Errorf("ParseRule(%q) = %v, want an error", in, r)
		}
	}
}

func TestNewRefusesMetadata(t *testing.T) {
	t.Parallel()
	for _, rule := range []string{
		"169.254.169.254", "169.254.0.0/16:80", "0.0.0.0/0", "::/0", "100.64.0.0/10", "100.100.100.200:9000", "168.63.129.16",
		"192.0.0.0/24", "fd00:ec2::254", "fd00::/8", "[fd00::/8]:9000", "64:ff9b::/96", "64:ff9b::a9fe:a9fe", "169.254.170.2",
	} {
		_, err := New(mustRules(t, rule))
		if err == nil || !strings.Contains(err.Error(), "would allow") {
			t.Errorf("New(%s) = %v, want a sentence about metadata", rule, err)
		}
	}
	if _, err := New(mustRules(t, "10.0.0.0/8", "127.0.0.0/8:9000", "fd12::/16", "100.64.0.0/11")); err != nil {
		t.Errorf("New refused ordinary rules: %v", err)
	}
}

// dangerous are the addresses that are reachable from inside and from nowhere
// else. Deny-lists made of net/netip's predicates let more than half of them
// through (Gitea CVE-2026-22874).
var dangerous = []string{
	"0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "168.63.129.16", "169.254.169.254", "172.16.0.1",
	"192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
	"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1",
	"2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "3fff::1",
}

func TestDangerousAddressesAreRefused(t *testing.T) {
	t.Parallel()
	none, some := mustPolicy(t), mustPolicy(t, "10.9.9.9:9000", "[fd12::/16]:9000")
	for _, text := range dangerous {
		to := netip.AddrPortFrom(netip.MustParseAddr(text), 9000)
		for _, p := range []*Policy{none, some} {
			for _, plain := range []bool{true, false} {
				var blocked *BlockedError
				if err := p.check(to, plain); !errors.Is(err, ErrBlocked) || !errors.As(err, &blocked) {
					t.Errorf("check(%s, plain=%t) = %v, want ErrBlocked", to, plain, err)
				}
			}
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, "10.1.0.0/16:9000", "127.0.0.0/8", "[fd12::/16]:9000", "93.184.216.34:8080", "fe80::/10")
	for _, c := range []struct {
		to            string
		secure, plain bool
	}{
		{"93.184.215.14:443", true, false},
		{"93.184.215.14:9000", true, false},
		{"[2606:2800:220:1::1]:443", true, false},
		{"93.184.216.34:8080", true, true},
		{"93.184.216.34:80", true, false},
		{"10.1.2.3:9000", true, true},
		{"10.1.2.3:9001", false, false},
		{"10.2.2.3:9000", false, false},
		{"127.8.8.8:1", true, true},
		{"[::ffff:127.8.8.8]:1", true, true},
		{"[::1]:1", false, false},
		{"[fd12::5]:9000", true, true},
		{"[fd12::5]:9001", false, false},
		{"[fd13::5]:9000", false, false},
		{"[fe80::1%eth0]:9000", true, true},
		{"[64:ff9b::a01:203]:9000", false, false},
	} {
		to := netip.MustParseAddrPort(c.to)
		if err := p.check(to, false); (err == nil) != c.secure {
			t.Errorf("https to %s: %v, want allowed=%t", to, err, c.secure)
		}
		if err := p.check(to, true); (err == nil) != c.plain {
			t.Errorf("http to %s: %v, want allowed=%t", to, err, c.plain)
		}
	}
}

func TestControlRefusesWhatIsNotTCP(t *testing.T) {
	t.Parallel()
	control := mustPolicy(t, "127.0.0.0/8").control(false)
	for _, c := range [][2]string{{"udp4", "127.0.0.1:53"}, {"unix", "/run/docker.sock"}, {"tcp4", "127.0.0.1"}, {"tcp", "localhost:80"}} {
		if err := control(c[0], c[1], nil); !errors.Is(err, ErrBlocked) {
			t.Errorf("control(%s, %s) = %v, want ErrBlocked", c[0], c[1], err)
		}
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	none, some := mustPolicy(t), mustPolicy(t, "127.0.0.0/8:9000", "10.1.2.3")
	for _, c := range []struct {
		url        string
		none, some string
	}{
		{"https://s3.example.com", "", ""},
		{"https://93.184.215.14", "", ""},
		{"https://[2606:2800:220:1::1]:9000", "", ""},
		{"http://93.184.215.14", sentencePlain, sentencePlain},
		{"http://s3.example.com", sentencePlain, ""},
		{"https://localhost", sentencePrivate, sentencePrivate},
		{"http://localhost:9000", sentencePrivate, ""},
		{"http://LOCALHOST:9000", sentencePrivate, ""},
		{"http://localhost.:9000", sentencePrivate, ""},
		{"http://minio.localhost:9000", sentencePrivate, ""},
		{"http://localhost:9001", sentencePrivate, sentencePrivate},
		{"https://10.1.2.3:1", sentencePrivate, ""},
		{"https://10.1.2.4", sentencePrivate, sentencePrivate},
		{"https://10.1.2.3.", sentencePrivate, ""},
		{"https://[::1]:9000", sentencePrivate, sentencePrivate},
		{"https://[::ffff:127.0.0.1]:9000", sentencePrivate, ""},
		{"https://[::ffff:7f00:1]", sentencePrivate, sentencePrivate},
		{"https://[fe80::1%25eth0]", sentencePrivate, sentencePrivate},
		{"https://2130706433", sentencePrivate, sentencePrivate},
		{"https://0x7f000001", sentencePrivate, sentencePrivate},
		{"https://0x7F.1", sentencePrivate, sentencePrivate},
		{"https://0177.0.0.1", sentencePrivate, sentencePrivate},
		{"https://127.1", sentencePrivate, sentencePrivate},
		{"https://127.1:9000", sentencePrivate, ""},
		{"https://0", sentencePrivate, sentencePrivate},
		{"https://１２７.０.０.１", sentencePrivate, sentencePrivate},
		{"https://①②⑦.0.0.1", sentencePrivate, sentencePrivate},
		{"https://ｌocalhost", sentencePrivate, sentencePrivate},
		{"https://169.254.169.254", sentenceMetadata, sentenceMetadata},
		{"http://0xa9fea9fe:9000", sentenceMetadata, sentenceMetadata},
		{"https://[fd00:ec2::254]", sentenceMetadata, sentenceMetadata},
		{"https://[64:ff9b::a9fe:a9fe]", sentenceMetadata, sentenceMetadata},
		{"ftp://s3.example.com", sentenceForm, sentenceForm},
		{"unix:///run/docker.sock", sentenceForm, sentenceForm},
		{"https://", sentenceForm, sentenceForm},
		{"https://s3.example.com:99999", sentenceForm, sentenceForm},
		{"s3.example.com", sentenceForm, sentenceForm},
		{"https://127.0.0.1.example.com", "", ""},
		{"https://0b1.0.0.1", "", ""},
		{"https://1.2.3.4.5", "", ""},
	} {
		if got := none.CheckURL(c.url); got != c.none {
			t.Errorf("without rules: CheckURL(%s) = %q, want %q", c.url, got, c.none)
		}
		if got := some.CheckURL(c.url); got != c.some {
			t.Errorf("with rules: CheckURL(%s) = %q, want %q", c.url, got, c.some)
		}
	}
}

// FuzzCheckURL looks for spellings of a literal address that CheckURL admits
// and parsing as net.Dial does would not.
func FuzzCheckURL(f *testing.F) {
	for _, seed := range dangerous {
		f.Add(seed)
	}
	p, err := New(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string) {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.Zone() != "" || p.check(netip.AddrPortFrom(addr, 443), false) == nil {
			return
		}
		if addr.Is6() {
			host = "[" + host + "]"
		}
		if p.CheckURL("https://"+host) == "" {
			t.Errorf("CheckURL(%q) = \"\"", host)
		}
	})
}
