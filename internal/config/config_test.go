package config

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/purserhq/purser"
)

var update = flag.Bool("update", false, "write the golden files anew")

const exampleFile = "../../docs/purser.example.yaml"

// load parses args and loads.
func load(t *testing.T, args, environ []string) (Server, error) {
	t.Helper()
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, environ, func(rule string) error {
		if !strings.Contains(rule, "/") {
			return fmt.Errorf("%q is not CIDR", rule)
		}
		return nil
	})
}

func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "purser.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// equal compares servers, secrets included: they print as redacted, but can be
// compared.
func equal(t *testing.T, want, got Server) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b purser.Secret) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	want := Server{
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:8081", DataDir: "./purser-data", DefaultFreeStorage: 5 << 30,
		ScanInterval: time.Hour, LogLevel: slog.LevelInfo, LogFormat: "auto",
	}
	equal(t, want, Defaults())
	got, err := load(t, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, want, got)
}

func TestWhoWins(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		flags, environ []string
		file           string
		interval       time.Duration
		rules          []string
	}{
		"nothing, so the default": {interval: time.Hour},
		"the file over the default": {
			file:     "scan-interval: 2h\negress-allow: [10.0.0.0/8, 192.168.0.0/16]",
			interval: 2 * time.Hour, rules: []string{"10.0.0.0/8", "192.168.0.0/16"},
		},
		"the environment over the file": {
			file:     "scan-interval: 2h\negress-allow: [10.0.0.0/8]",
			environ:  []string{"PURSER_SCAN_INTERVAL=3h", "PURSER_EGRESS_ALLOW=127.0.0.0/8:9000; ::1/128"},
			interval: 3 * time.Hour, rules: []string{"127.0.0.0/8:9000", "::1/128"},
		},
		"flags over the environment": {
			file:     "scan-interval: 2h\negress-allow: [10.0.0.0/8]",
			environ:  []string{"PURSER_SCAN_INTERVAL=3h", "PURSER_EGRESS_ALLOW=127.0.0.0/8"},
			flags:    []string{"--scan-interval=4h", "--egress-allow=172.16.0.0/12", "--egress-allow", "fd00::/8"},
			interval: 4 * time.Hour, rules: []string{"172.16.0.0/12", "fd00::/8"},
		},
		"a flag that says the default": {
			file: "scan-interval: 2h", flags: []string{"--scan-interval=1h"}, interval: time.Hour,
		},
		"a single text for a list": {
			file: "egress-allow: 10.0.0.0/8", interval: time.Hour, rules: []string{"10.0.0.0/8"},
		},
		"lines for a list": {
			environ:  []string{"PURSER_EGRESS_ALLOW=\n10.0.0.0/8\n 127.0.0.0/8\n"},
			interval: time.Hour, rules: []string{"10.0.0.0/8", "127.0.0.0/8"},
		},
		"empty variables and keys are none": {
			file:     "scan-interval:\negress-allow: []\ndata-dir: ''",
			environ:  []string{"PURSER_SCAN_INTERVAL=", "PURSER_EGRESS_ALLOW= ", "PURSER_CONFIG"},
			interval: time.Hour,
		},
		"a value that the file gives by reference": {
			file: "default-free-storage: &size 7GB\nscan-interval: 2h\negress-allow: [&rule 10.0.0.0/8, *rule]", interval: 2 * time.Hour,
			rules: []string{"10.0.0.0/8", "10.0.0.0/8"},
		},
		"a file with nothing in it": {file: "# nothing\n", interval: time.Hour},
		"a file with null in it":    {file: "~\n", interval: time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := test.flags
			if test.file != "" {
				flags = append(flags, "--config", write(t, test.file))
			}
			got, err := load(t, flags, test.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got.ScanInterval != test.interval || !slices.Equal(got.EgressAllow, test.rules) {
				t.Errorf("interval %v, rules %q; want %v, %q", got.ScanInterval, got.EgressAllow, test.interval, test.rules)
			}
		})
	}
}

func TestTheFlagNamesTheFile(t *testing.T) {
	t.Parallel()
	first, second := write(t, "scan-interval: 2h"), write(t, "scan-interval: 3h")
	got, err := load(t, nil, []string{"PURSER_CONFIG=" + first})
	if err != nil || got.ScanInterval != 2*time.Hour {
		t.Errorf("by variable: %v, %v; want 2h", got.ScanInterval, err)
	}
	got, err = load(t, []string{"--config", second}, []string{"PURSER_CONFIG=" + first})
	if err != nil || got.ScanInterval != 3*time.Hour {
		t.Errorf("by flag: %v, %v; want 3h", got.ScanInterval, err)
	}
}

func TestEverythingEverywhere(t *testing.T) {
	t.Parallel()
	want := Server{
		Listen: ":0", AdminListen: "[::1]:9", DataDir: "/var/lib/purser", DatabaseURL: purser.NewSecret("postgres://u:p%40@db/purser?sslmode=disable"),
		SealKeyFile: "/run/key", EgressAllow: []string{"10.0.0.0/8:9000", "::1/128"},
		Sites: []purser.Site{
			{Name: "ny2", Endpoint: "https://s3.ny2.example.com", SigningRegion: "us-east-1"},
			{Name: "lab-1", Endpoint: "http://10.0.0.1:9000"},
		},
		Trees: []purser.Tree{
			{Category: purser.CategorySharedStorage, Path: "/srv/shared files/{team}"},
			{Category: purser.CategoryNotebookWorkspace, Path: "/srv/team-{team}/notebooks", Method: purser.TreeQuota},
		},
		DefaultFreeStorage: 1500000, ScanInterval: 90 * time.Second, ScanRequestsPerDay: 100_000, LogLevel: slog.LevelDebug, LogFormat: "json",
	}
	single := map[string]string{
		"listen": ":0", "admin-listen": "[::1]:9", "data-dir": "/var/lib/purser", "database-url": want.DatabaseURL.Expose(),
		"seal-key-file": "/run/key", "default-free-storage": "1.5MB", "scan-interval": "1m30s", "scan-requests-per-day": "100000", "log-level": "DEBUG", "log-format": "json",
	}
	lists := map[string][]string{
		"egress-allow": want.EgressAllow,
		"site":         {"ny2=https://s3.ny2.example.com,us-east-1", "lab-1=http://10.0.0.1:9000"},
		"tree":         {"sharedStorage=/srv/shared files/{team}", "notebookWorkspace:quota=/srv/team-{team}/notebooks/"},
	}
	var flags, environ []string
	file := map[string]any{}
	for name, text := range single {
		flags, environ, file[name] = append(flags, "--"+name, text), append(environ, variable(name)+"="+text), text
	}
	for name, texts := range lists {
		for _, text := range texts {
			flags = append(flags, "--"+name, text)
		}
		environ, file[name] = append(environ, variable(name)+"="+strings.Join(texts, ";")), texts
	}
	if n := len(single) + len(lists); n != len(options)-1 {
		t.Errorf("this test knows %d options, but there are %d besides --config", n, len(options)-1)
	}
	text, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, sources := range map[string][2][]string{
		"flags":       {flags, nil},
		"environment": {nil, environ},
		"file":        {{"--config", write(t, string(text))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := load(t, sources[0], sources[1])
			if err != nil {
				t.Fatal(err)
			}
			equal(t, want, got)
		})
	}
}

func TestDatabaseURLFromAFile(t *testing.T) {
	t.Parallel()
	path := write(t, "postgres://u:p@db/purser\n")
	got, err := load(t, nil, []string{"PURSER_DATABASE_URL_FILE=" + path})
	if err != nil || got.DatabaseURL.Expose() != "postgres://u:p@db/purser" {
		t.Errorf("%q, %v", got.DatabaseURL.Expose(), err)
	}
	got, err = load(t, []string{"--database-url="}, []string{"PURSER_DATABASE_URL_FILE=" + path})
	if err != nil || !got.DatabaseURL.IsZero() {
		t.Errorf("an empty flag gives %q, %v; want SQLite", got.DatabaseURL.Expose(), err)
	}
	_, err = load(t, nil, []string{"PURSER_DATABASE_URL_FILE=" + path + "x"})
	if err == nil || !strings.HasPrefix(err.Error(), "PURSER_DATABASE_URL_FILE: the file cannot be read") {
		t.Errorf("a missing file: %v", err)
	}
	_, err = load(t, nil, []string{"PURSER_DATABASE_URL_FILE=" + path, "PURSER_DATABASE_URL=postgres://db"})
	if err == nil || !strings.Contains(err.Error(), "together") {
		t.Errorf("both: %v", err)
	}
}

func TestForeignVariables(t *testing.T) {
	t.Parallel()
	_, err := load(t, nil, []string{
		"PURSER_URL=http://x", "PURSER_API_KEY=psr_x", "PURSER_API_KEY_FILE=/x", "PURSER_SECRET_ACCESS_KEY=x", "PURSER_TEST_POSTGRES_URL=x", "HOME=/root", "=odd",
		"PURSER_SERVICE_HOST=10.0.0.1", "PURSER_SERVICE_PORT=80", "PURSER_SERVICE_PORT_HTTP=80", "PURSER_PORT=tcp://10.0.0.1:80",
		"PURSER_PORT_80_TCP=tcp://10.0.0.1:80", "PURSER_PORT_80_TCP_ADDR=10.0.0.1", "PURSER_POSTGRES_PORT_5432_TCP_PROTO=tcp", "PURSER_POSTGRES_SERVICE_HOST=10.0.0.2",
	})
	if err != nil {
		t.Errorf("variables of others are faults: %v", err)
	}
}

// TestAllFaultsAtOnce gives everything wrong at three places, and compares the
// whole answer.
func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, []string{
		"--config=testdata/faults.yaml",
		"--listen=8080", "--log-level=loud", "--egress-allow=10.0.0.1", "--egress-allow=10.0.0.0/8",
		"--tree=dataset=/srv/{team}", "--tree=model=/srv/{team}/", "--tree=pictures=/srv/{team}/p", "--tree=model=srv/{team}",
		"--tree=model=/srv/models", "--tree=model=/srv/{team}/models", "--tree=model=/srv/{team}s", "--tree=/srv/{team}", "--tree=model=/srv/{team}/{user}", "--tree=model:guess=/srv/q/{team}", "--tree=model:=/srv/r/{team}", "--database-url=mysql://user:hunter2@db/x",
	}, []string{
		"PURSER_SCAN_INTERVALL=1h", "PURSER_LISTEN_ADDRESS_OF_ALL=x", "PURSER_DATA_DIR_=x", "PURSER_SCAN_INTERVAL=10ms", "PURSER_SCAN_REQUESTS_PER_DAY=lots",
		"PURSER_SITE=NY2=https://s3.example.com,x; ca1=s3.example.com,x; ca1=https://s3.example.com/path,x; ams1; ams1=https://a:b@s3.example.com; x=https://s3.example.com,a b",
	})
	if err == nil {
		t.Fatal("no fault was found")
	}
	const golden = "testdata/faults.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, readErr := os.ReadFile(golden)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(err.Error()+"\n", "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if fault := (*Fault)(nil); !errors.As(err, &fault) {
		t.Errorf("no *Fault in %T", err)
	}
}

func TestSecretsAreNotRepeated(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	for _, url := range []string{
		"mysql://u:" + password + "@db", "postgres://u:" + password + "%zz@db", "postgres:u:" + password, "postgres://u:" + password + "@db:port/x",
		"postgres://u:" + password + " @[db/x", password, "\x7f" + password,
	} {
		for place, sources := range map[string][2][]string{
			"flag":        {{"--database-url", url}, nil},
			"environment": {nil, []string{"PURSER_DATABASE_URL=" + url}},
			"named file":  {nil, []string{"PURSER_DATABASE_URL_FILE=" + write(t, url)}},
			"file":        {{"--config", write(t, "database-url: '"+url+"'")}, nil},
			"list":        {{"--config", write(t, "database-url: ['"+url+"']")}, nil},
		} {
			_, err := load(t, sources[0], sources[1])
			if err == nil {
				t.Errorf("%q by %s was accepted", url, place)
			} else if strings.Contains(err.Error(), password) {
				t.Errorf("%q by %s is repeated: %v", url, place, err)
			}
		}
	}
	server, err := load(t, []string{"--database-url=postgres://u:" + password + "@db/x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", server, server, server); strings.Contains(text, password) {
		t.Errorf("a Server prints its password: %s", text)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"not YAML":              {"listen: [", "not YAML: yaml: line"},
		"a list":                {"- listen", "must be a list of keys"},
		"a text":                {"listen", "must be a list of keys"},
		"two documents":         {"listen: ':1'\n---\nlisten: ':2'", "one YAML document"},
		"a key twice":           {"log-level: info\nlog-level: warn", "purser.yaml:2: log-level: is there twice"},
		"a list for one":        {"listen: [':1', ':2']", "purser.yaml:1: listen: must be a single text"},
		"a map for a list":      {"site:\n  ny2: https://s3.example.com", "purser.yaml:1: site: must be a list of texts"},
		"a list within a list":  {"site: [[a]]", "must be a list of texts"},
		"another file":          {"config: other.yaml", "purser.yaml:1: config: there is no such key"},
		"an underscore":         {"data_dir: /x", "did you mean data-dir?"},
		"a merge key":           {"x: &x {listen: ':1'}\n<<: *x", "purser.yaml:2: <<: there is no such key"},
		"a list of itself":      {"site: &s [*s]", "must be a list of texts"},
		"a line in a list":      {"egress-allow:\n  - 10.0.0.0/8\n  - nonsense", "purser.yaml:3: egress-allow: \"nonsense\" is not CIDR"},
		"larger than plausible": {"# " + strings.Repeat("x", 1<<20), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, []string{"--config", write(t, test.text)}, nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Load = %v, want %q in it", err, test.want)
			}
		})
	}
	if _, err := load(t, []string{"--config", "testdata/missing.yaml"}, nil); err == nil || !strings.HasPrefix(err.Error(), "--config: the file cannot be read") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for flag, good := range map[string]bool{
		"--listen=:0": true, "--listen=localhost:65535": true, "--listen=[::]:80": true, "--listen=:65536": false, "--listen=:http": false,
		"--listen=": false, "--listen=a b:1": false, "--listen=http://x:1": false, "--listen=::1:80": false, "--listen=:-1": false,
		"--scan-interval=1s": true, "--scan-interval=720h": true, "--scan-interval=999ms": false, "--scan-interval=720h1s": false, "--scan-interval=5": false,
		"--default-free-storage=0": true, "--default-free-storage=9223372036854775807": true, "--default-free-storage=9223372036854775808": false, "--default-free-storage=7EiB": true, "--default-free-storage=8EiB": false, "--default-free-storage=-1": false,
		"--scan-requests-per-day=0": true, "--scan-requests-per-day=9223372036854775807": true, "--scan-requests-per-day=9223372036854775808": false,
		"--scan-requests-per-day=-1": false, "--scan-requests-per-day=1e6": false, "--scan-requests-per-day=10k": false, "--scan-requests-per-day=0x10": false,
		"--data-dir=": false, "--data-dir= ": false, "--log-level=WARN": true, "--log-level=info+1": false, "--log-format=xml": false,
		"--admin-listen=127.0.0.1:8080": false, "--site=" + strings.Repeat("a", 63) + "=https://s3.example.com": true,
		"--site=" + strings.Repeat("a", 64) + "=https://s3.example.com": false, "--site=a=https://s3.example.com,": true, "--site=a=https://s3.example.com,r,s": false,
		"--tree=model=/{team}": true, "--tree=model=/srv/x{team}y": true, "--tree=model=/srv/{Team}": false,
		"--tree=model:walk=/{team}": true, "--tree=model:quota=/{team}": true, "--tree=model:ceph=/{team}": true, "--tree=model=/{team},walk": true,
		"--tree=model:auto=/{team}": false, "--tree=model:walk:quota=/{team}": false, "--tree=:walk=/{team}": false,
	} {
		if _, err := load(t, []string{flag}, nil); (err == nil) != good {
			t.Errorf("%s: %v, want good to be %t", flag, err, good)
		}
	}
	if _, err := load(t, []string{"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}, nil); err != nil {
		t.Errorf("two free ports: %v", err)
	}
}

// TestExample: the example holds every option but its own name, each with a
// comment and its default.
func TestExample(t *testing.T) {
	t.Parallel()
	got, err := load(t, []string{"--config", exampleFile}, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, Defaults(), got)

	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var keys, names []string
	root := document.Content[0]
	for i := 0; i < len(root.Content); i += 2 {
		keys = append(keys, root.Content[i].Value)
		if root.Content[i].HeadComment == "" {
			t.Errorf("%s has no comment", root.Content[i].Value)
		}
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.SortFlags = false
	AddFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != configFile {
			names = append(names, f.Name)
		}
		if f.Usage == "" || !strings.Contains(f.Usage, "`") {
			t.Errorf("--%s does not say what it expects", f.Name)
		}
	})
	if diff := cmp.Diff(names, keys); diff != "" {
		t.Errorf("flags and keys differ (-flags +keys):\n%s", diff)
	}
}

// TestExamplesInComments: the values shown in the example's comments are good.
func TestExamplesInComments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#   - "):
			open = append(open, strings.TrimPrefix(line, "#   - "))
		case strings.HasSuffix(line, ": []"):
			args := []string{}
			for _, shown := range open {
				args = append(args, "--"+strings.TrimSuffix(line, ": []"), shown)
			}
			if _, err := load(t, args, nil); err != nil || len(open) == 0 {
				t.Errorf("%s with %q: %v", line, open, err)
			}
			open = nil
		}
	}
}

func FuzzFile(f *testing.F) {
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte("site: &s [*s]\n? [a]\n: b\n"))
	f.Add([]byte("<<: {}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := loader{}
		for name, values := range l.parse("f", text) {
			if len(values) == 0 || name == configFile {
				t.Errorf("%s: %v", name, values)
			}
		}
	})
}
