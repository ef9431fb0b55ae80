package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// layer is what one place says: the values of the options that it names. It is
// a koanf.Provider.
type layer map[string][]value

// value is a text and where it was found.
type value struct{ text, origin string }

// Read implements koanf.Provider.
func (l layer) Read() (map[string]any, error) {
	texts := map[string]any{}
	for name, values := range l {
		list := make([]string, 0, len(values))
		for _, v := range values {
			list = append(list, v.text)
		}
		texts[name] = list
	}
	return texts, nil
}

// ReadBytes implements koanf.Provider.
func (layer) ReadBytes() ([]byte, error) { return nil, errors.New("config: a layer has no bytes") }

func defaults() layer {
	l := layer{}
	for _, o := range options {
		if o.fallback != "" {
			l[o.name] = []value{{o.fallback, "default of " + o.name}}
		}
	}
	return l
}

// flags returns what was given on the command line.
func (*loader) flags(flags *pflag.FlagSet) layer {
	l := layer{}
	flags.Visit(func(f *pflag.Flag) {
		if !slices.ContainsFunc(options, func(o option) bool { return o.name == f.Name }) {
			return // somebody else's
		}
		texts := []string{f.Value.String()}
		if list, isList := f.Value.(pflag.SliceValue); isList {
			texts = list.GetSlice()
		}
		for _, text := range texts {
			l[f.Name] = append(l[f.Name], value{text, "--" + f.Name})
		}
	})
	return l
}

const prefix = "PURSER_"

// variable is the name of an option in the environment.
func variable(name string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// environment returns what the variables say. Lists are separated by semicolons
// or line breaks: a site holds a comma, and a path may hold a space.
func (l *loader) environment(environ []string) layer {
	set := map[string]string{}
	for _, entry := range environ {
		if name, text, _ := strings.Cut(entry, "="); strings.HasPrefix(name, prefix) && strings.TrimSpace(text) != "" {
			set[name] = strings.TrimSpace(text)
		}
	}
	found, known := layer{}, []string{}
	for _, o := range options {
		name := variable(o.name)
		known = append(known, name)
		if text, given := set[name]; given {
			found[o.name] = o.split(text, name)
		}
		if o.secret {
			known = append(known, name+"_FILE")
			l.secretFile(o, set, found)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if !slices.Contains(known, name) && !foreign(name) {
			l.fault(name, errors.New("there is no such variable"+suggest(name, known)))
		}
	}
	return found
}

func (o option) split(text, origin string) []value {
	if !o.list {
		return []value{{text, origin}}
	}
	var values []value
	for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		if item = strings.TrimSpace(item); item != "" {
			values = append(values, value{item, origin})
		}
	}
	return values
}

// secretFile reads a secret from the file that a variable names.
func (l *loader) secretFile(o option, set map[string]string, into layer) {
	origin := variable(o.name) + "_FILE"
	path, given := set[origin]
	if !given {
		return
	}
	if _, twice := set[variable(o.name)]; twice {
		l.fault(origin, fmt.Errorf("must not be set together with %s", variable(o.name)))
		return
	}
	text, err := readFile(path, 64<<10)
	if err != nil {
		l.fault(origin, err)
		return
	}
	into[o.name] = []value{{strings.TrimSpace(string(text)), origin}}
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("the file %s is larger than %d bytes", path, limit)
	}
	return text, nil
}

// clientVariables belong to the client commands, which may run where a server
// does.
var clientVariables = []string{prefix + "URL", prefix + "API_KEY", prefix + "API_KEY_FILE", prefix + "SECRET_ACCESS_KEY"}

// kubernetesVariable matches what Kubernetes sets in every container for a
// Service named purser or purser-something (kubernetes.io, "Accessing the
// Service", environment variables): such a name must not stop the server.
var kubernetesVariable = regexp.MustCompile(`^PURSER_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// foreign reports that a variable with our prefix is not for the server.
func foreign(name string) bool {
	return slices.Contains(clientVariables, name) || strings.HasPrefix(name, prefix+"TEST_") || kubernetesVariable.MatchString(name)
}

// suggest names the known name that is most like a wrong one, if any is.
func suggest(wrong string, known []string) string {
	best, distance := "", len(wrong)/3+1
	for _, name := range known {
		if d := editDistance(wrong, name); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance is the number of characters to insert, delete or replace
// (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
