package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser"
)

// option is one thing that a server can be told.
type option struct {
	name string
	// usage is the help text, with what is expected in backquotes.
	usage    string
	fallback string
	// list options can be given several times; set is called for each value.
	list bool
	// secret options can also be read from a file that an environment variable
	// names, and their values are never repeated.
	secret bool
	// set puts a value into the Server, or says what is wrong with it.
	set func(s *Server, text string) error
}

const (
	configFile  = "config"
	egressAllow = "egress-allow"
)

// options are all there are, in the order of the help text.
var options = []option{
	{
		name: "listen", fallback: "127.0.0.1:8080",
		usage: "serve the API at `HOST:PORT`; port 0 picks a free one",
		set:   func(s *Server, text string) error { s.Listen = text; return checkAddress(text) },
	},
	{
		name: "admin-listen", fallback: "127.0.0.1:8081",
		usage: "serve metrics and profiles at `HOST:PORT`; keep it away from strangers",
		set:   func(s *Server, text string) error { s.AdminListen = text; return checkAddress(text) },
	},
	{
		name: "data-dir", fallback: "./purser-data",
		usage: "keep the database and the keys in `DIR`",
		set:   func(s *Server, text string) error { s.DataDir = text; return checkFile(text) },
	},
	{
		name: "database-url", secret: true,
		usage: "use PostgreSQL at `URL` instead of SQLite in the data directory; a URL with a password is better put into a file that PURSER_DATABASE_URL_FILE names",
		set:   setDatabaseURL,
	},
	{
		name:  "seal-key-file",
		usage: "seal secrets with the key in `FILE` (default: seal.key in the data directory)",
		set:   func(s *Server, text string) error { s.SealKeyFile = text; return nil },
	},
	{
		name: egressAllow, list: true,
		usage: "allow connections to providers at `CIDR[:PORT]`, which are refused unless public; repeat for more",
		set:   func(s *Server, text string) error { s.EgressAllow = append(s.EgressAllow, text); return nil },
	},
	{
		name: "site", list: true,
		usage: "give the site (region) a name, an endpoint and a signing region: `NAME=ENDPOINT[,SIGNING_REGION]`; repeat for more",
		set:   addSite,
	},
	{
		name: "tree", list: true,
		usage: "count the files in a directory tree for a category: `CATEGORY[:METHOD]=PATH`, with {team} in place of the team's id; the method is walk, quota or ceph, and by default the file system's own sum where there is one, else walk; repeat for more",
		set:   addTree,
	},
	{
		name: "default-free-storage", fallback: "5GiB",
		usage: "give new teams a plan with `SIZE` of free storage",
		set:   setFreeStorage,
	},
	{
		name: "scan-interval", fallback: "1h",
		usage: "measure each bucket and tree every `DURATION`",
		set:   setScanInterval,
	},
	{
		name: "scan-requests-per-day", fallback: "0",
		usage: "send each bucket at most `N` requests on a day (UTC) to measure it; the rest waits for the next day; 0 is no limit",
		set:   setRequestsPerDay,
	},
	{
		name:  configFile,
		usage: "read these options from a YAML `FILE`",
		set:   func(*Server, string) error { return nil }, // read before the others
	},
	{
		name: "log-level", fallback: "info",
		usage: "log from `LEVEL` on: debug, info, warn or error",
		set:   setLogLevel,
	},
	{
		name: "log-format", fallback: "auto",
		usage: "log as `FORMAT`: text, json, or auto for text on a terminal and JSON elsewhere",
		set:   setLogFormat,
	},
}

func checkAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '/' }) {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8080 or :8080", text)
	}
	return nil
}

func endsInPortZero(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	n, err := strconv.Atoi(port)
	return err == nil && n == 0
}

func checkFile(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// setDatabaseURL never repeats the URL: there is a password in it. Nor does it
// repeat what net/url says, which quotes it.
func setDatabaseURL(s *Server, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" {
		return errors.New("must be a URL such as postgres://user:password@host:5432/database (characters like @ : / ? # % in the password are written %40 %3A %2F %3F %23 %25)")
	}
	s.DatabaseURL = purser.NewSecret(text)
	return nil
}

var siteName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func addSite(s *Server, text string) error {
	name, place, found := strings.Cut(text, "=")
	endpoint, region, _ := strings.Cut(place, ",")
	switch {
	case !found:
		return fmt.Errorf("%q is not NAME=ENDPOINT,SIGNING_REGION", text)
	case !siteName.MatchString(name):
		return fmt.Errorf("the site's name %q must be 1 to 63 small letters, digits and hyphens", name)
	case slices.ContainsFunc(s.Sites, func(other purser.Site) bool { return other.Name == name }):
		return fmt.Errorf("the site %s is there twice", name)
	case strings.ContainsFunc(region, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '/' }):
		return fmt.Errorf("the signing region %q of site %s must be a word such as us-east-1", region, name)
	}
	// Noted even if the endpoint is wrong, so that a second one is told as such.
	s.Sites = append(s.Sites, purser.Site{Name: name, Endpoint: endpoint, SigningRegion: region})
	if fault := purser.CheckEndpoint(endpoint); fault != "" {
		return fmt.Errorf("the endpoint of site %s %s", name, fault)
	}
	return nil
}

func addTree(s *Server, text string) error {
	place, path, found := strings.Cut(text, "=")
	// The method comes before the path, which may contain anything.
	name, method, wanted := strings.Cut(place, ":")
	tree := purser.Tree{Category: purser.Category(name), Path: filepath.Clean(path), Method: purser.TreeMethod(method)}
	switch {
	case !found:
		return fmt.Errorf("%q is not CATEGORY=PATH or CATEGORY:METHOD=PATH", text)
	case !slices.Contains(purser.Categories, tree.Category):
		return fmt.Errorf("%q is not a category: dataset, model, notebookWorkspace or sharedStorage", name)
	case wanted && !slices.Contains(purser.TreeMethods, tree.Method):
		return fmt.Errorf("%q is not a method of measuring: walk, quota or ceph", method)
	case !filepath.IsAbs(path):
		return fmt.Errorf("the path %q must be absolute", path)
	case !strings.Contains(path, "{team}"):
		return fmt.Errorf("the path %q must contain {team}, or every team would be charged for all of it", path)
	case strings.ContainsAny(strings.ReplaceAll(path, "{team}", ""), "{}\x00"):
		return fmt.Errorf("the path %q must not contain braces other than {team}", path)
	}
	for _, other := range s.Trees {
		if within(tree.Path, other.Path) || within(other.Path, tree.Path) {
			return fmt.Errorf("the paths %q and %q are one in the other, so that files would be counted twice", other.Path, path)
		}
	}
	s.Trees = append(s.Trees, tree)
	return nil
}

// within reports whether a path is in a directory, or the directory itself.
func within(path, dir string) bool {
	return strings.HasPrefix(path+"/", strings.TrimSuffix(dir, "/")+"/")
}

func setFreeStorage(s *Server, text string) (err error) {
	s.DefaultFreeStorage, err = purser.ParseBytes(text)
	return err
}

func setScanInterval(s *Server, text string) error {
	const shortest, longest = time.Second, 30 * 24 * time.Hour
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s, 15m or 1h", text)
	}
	if d < shortest || d > longest {
		return fmt.Errorf("%q is not between 1s and 720h (30 days)", text)
	}
	s.ScanInterval = d
	return nil
}

func setRequestsPerDay(s *Server, text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number of requests such as 100000, or 0 for no limit", text)
	}
	s.ScanRequestsPerDay = n
	return nil
}

func setLogLevel(s *Server, text string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, known := levels[strings.ToLower(text)]
	if !known {
		return fmt.Errorf("%q is not debug, info, warn or error", text)
	}
	s.LogLevel = level
	return nil
}

func setLogFormat(s *Server, text string) error {
	if !slices.Contains([]string{"auto", "text", "json"}, text) {
		return fmt.Errorf("%q is not auto, text or json", text)
	}
	s.LogFormat = text
	return nil
}
