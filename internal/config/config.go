// Package config knows how purser serve is told what to do: by flags, by
// environment variables, by a YAML file, or not at all.
//
// The names are the same everywhere: --scan-interval, PURSER_SCAN_INTERVAL and
// scan-interval are one option. A flag wins over the environment, that over the
// file, and that over the default; a list replaces the other lists as a whole.
// An empty variable or key is as good as none, because that is what templates
// leave behind.
//
// It leaves to others to open what is named here; whether a connection rule can
// be understood is asked of the caller, because package egress knows. What
// always holds: every fault is reported, all of them at once, each with the
// place it comes from; and no message repeats a secret.
package config

import (
	"errors"
	"log/slog"
	"time"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/purserhq/purser"
)

// Server is what a server is told.
type Server struct {
	// Listen and AdminListen are host:port; port 0 picks a free one.
	Listen      string
	AdminListen string
	DataDir     string
	// DatabaseURL names a PostgreSQL database; the zero Secret means SQLite in
	// DataDir.
	DatabaseURL purser.Secret
	// SealKeyFile holds the key that seals secrets; empty means: in DataDir.
	SealKeyFile string
	// EgressAllow are rules for connections to addresses that are not public.
	EgressAllow        []string
	Sites              []purser.Site
	Trees              []purser.Tree
	DefaultFreeStorage purser.Bytes
	ScanInterval       time.Duration
	// ScanRequestsPerDay is how many requests each bucket is sent on a day; 0 means
	// no limit.
	ScanRequestsPerDay int64
	LogLevel           slog.Level
	// LogFormat is "text", "json", or "auto": text on a terminal and JSON elsewhere.
	LogFormat string
}

// Defaults is what a server does that is told nothing.
func Defaults() Server {
	var server Server
	for _, o := range options {
		if o.fallback == "" {
			continue
		}
		if err := o.set(&server, o.fallback); err != nil {
			panic("config: the default of " + o.name + ": " + err.Error())
		}
	}
	return server
}

// AddFlags adds the flags of a server to flags.
func AddFlags(flags *pflag.FlagSet) {
	for _, o := range options {
		if o.list {
			flags.StringArray(o.name, nil, o.usage)
		} else {
			flags.String(o.name, o.fallback, o.usage)
		}
	}
}

// Load puts together what flags (parsed, from AddFlags), the environment and the
// file that they name say. checkEgress says what is wrong with a rule for
// connections. The error has one line for each fault.
func Load(flags *pflag.FlagSet, environ []string, checkEgress func(string) error) (Server, error) {
	l := loader{merged: koanf.New("."), origins: map[string][]string{}, checkEgress: checkEgress}
	fromFlags, fromEnvironment := l.flags(flags), l.environment(environ)
	l.add(defaults())
	l.add(l.file(fromEnvironment, fromFlags))
	l.add(fromEnvironment)
	l.add(fromFlags)
	server := l.server()
	if err := errors.Join(l.faults...); err != nil {
		return Server{}, err
	}
	return server, nil
}

// loader puts the layers together.
type loader struct {
	merged *koanf.Koanf
	// origins says, for each value of an option in merged, where it comes from.
	origins     map[string][]string
	faults      []error
	checkEgress func(string) error
}

// add puts a layer on top of those before it.
func (l *loader) add(layer layer) {
	if err := l.merged.Load(layer, nil); err != nil {
		l.faults = append(l.faults, err)
	}
	for name, values := range layer {
		l.origins[name] = nil
		for _, v := range values {
			l.origins[name] = append(l.origins[name], v.origin)
		}
	}
}

// server makes the merged texts into a Server and notes the faults on the way.
func (l *loader) server() Server {
	var server Server
	for _, o := range options {
		for i, text := range l.merged.Strings(o.name) {
			err := o.set(&server, text)
			if err == nil && o.name == egressAllow && l.checkEgress != nil {
				err = l.checkEgress(text)
			}
			if err != nil {
				l.fault(l.origins[o.name][i], err)
			}
		}
	}
	if server.Listen != "" && server.Listen == server.AdminListen && !endsInPortZero(server.Listen) {
		l.fault(l.origins["admin-listen"][0], errors.New("must not be the same address as listen"))
	}
	return server
}

func (l *loader) fault(origin string, err error) {
	l.faults = append(l.faults, &Fault{Origin: origin, Err: err})
}

// Fault is one thing that is wrong.
type Fault struct {
	// Origin is the flag, the variable, or the file's name, line and key.
	Origin string
	Err    error
}

func (f *Fault) Error() string { return f.Origin + ": " + f.Err.Error() }

// Unwrap returns what is wrong.
func (f *Fault) Unwrap() error { return f.Err }
