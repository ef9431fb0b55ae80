package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// total is what a program found. Some do not tell how many objects: -1.
type total struct{ objects, bytes int64 }

// contender is a program with its arguments.
type contender struct {
	name    string
	ours    bool
	once    bool // too slow for more than one round
	command []string
	env     []string
	count   func(output []byte) (total, error)
	// adds is what the program counts beside files: directories themselves.
	adds int64
}

// find looks for all programs.
func (b *bench) find() {
	look := func(path *string, name, where string) {
		found, err := exec.LookPath(filepath.Join(where, name))
		if err != nil {
			b.missing = append(b.missing, name)
			return
		}
		if *path = found; where != "" {
			*path, _ = filepath.Abs(found) // fails without a working directory
		}
	}
	look(&b.rclone, "rclone", b.peers)
	look(&b.mc, "mc", b.peers)
	look(&b.s5cmd, "s5cmd", "")
	look(&b.aws, "aws", "")
	look(&b.du, "du", "")
	look(&b.gdu, "gdu", "")
	if b.purser == "" {
		b.missing = append(b.missing, "purser")
	}
}

// ourBucket is purser du on a bucket, in some ways.
func (b *bench) ourBucket(endpoint, place string, ranges ...int) (made []contender) {
	if b.purser == "" {
		return nil
	}
	for _, n := range ranges {
		made = append(made, contender{
			name: fmt.Sprintf("purser du --ranges %d", n), ours: true, env: b.awsEnv(), count: countJSON("objects", "bytes"),
			command: []string{b.purser, "du", "s3://" + place, "--endpoint", endpoint, "--json", "--ranges", strconv.Itoa(n)},
		})
	}
	return made
}

func (b *bench) awsEnv() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + b.accessKey, "AWS_SECRET_ACCESS_KEY=" + b.secret, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// bucketPeers are the peers on a bucket. each has its default and, where it has
// one that may be better for a large bucket, another mode.
func (b *bench) bucketPeers(endpoint, place string) (made []contender) {
	if b.rclone != "" {
		env := []string{
			"RCLONE_CONFIG=" + filepath.Join(b.configDir, "rclone.conf"), "RCLONE_CONFIG_BENCH_TYPE=s3", "RCLONE_CONFIG_BENCH_PROVIDER=Minio",
			"RCLONE_CONFIG_BENCH_ENDPOINT=" + endpoint, "RCLONE_CONFIG_BENCH_REGION=us-east-1",
			"RCLONE_CONFIG_BENCH_ACCESS_KEY_ID=" + b.accessKey, "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY=" + b.secret,
		}
		size := []string{b.rclone, "size", "--json", "bench:" + place}
		made = append(made,
			contender{name: "rclone size", command: size, env: env, count: countJSON("count", "bytes")},
			contender{
				name: "rclone size" + byFolder + " --checkers 16", env: env, count: countJSON("count", "bytes"),
				command: append(size[:len(size):len(size)], "--disable", "ListR", "--checkers", "16"),
			})
	}
	if b.mc != "" {
		host := strings.Replace(endpoint, "://", "://"+b.accessKey+":"+b.secret+"@", 1)
		made = append(made, contender{
			name: "mc du", env: []string{"MC_HOST_bench=" + host}, count: countJSON("objects", "size"),
			command: []string{b.mc, "--config-dir", filepath.Join(b.configDir, "mc"), "--json", "du", "bench/" + place},
		})
	}
	if b.s5cmd != "" {
		made = append(made, contender{
			name: "s5cmd du", env: b.awsEnv(), count: countJSON("count", "size"),
			command: []string{b.s5cmd, "--endpoint-url", endpoint, "--json", "du", "s3://" + place + "/*"},
		})
	}
	if b.aws != "" && b.slow {
		made = append(made, contender{
			name: awsList + " --recursive --summarize", once: true, env: b.awsEnv(), count: countSummary,
			command: []string{b.aws, "s3", "ls", "--recursive", "--summarize", "s3://" + place, "--endpoint-url", endpoint},
		})
	}
	return made
}

// awsList is how the AWS command line is begun: too slow to be anywhere but in
// the first comparison.
const awsList = "aws s3 ls"

// byFolder marks rclone's mode that lists every folder apart.
const byFolder = " --disable ListR"

// without are the contenders whose names do not contain any of names.
func without(contenders []contender, names ...string) (made []contender) {
	for _, c := range contenders {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(c.name, name) }) {
			made = append(made, c)
		}
	}
	return made
}

// ofTree are all programs on a directory tree. Of directories themselves purser
// counts nothing, GNU du their sizes, and gdu 4 KiB each.
func (b *bench) ofTree(path string, d directories) (made []contender) {
	if b.purser != "" {
		made = append(made, contender{
			name: "purser du", ours: true, count: countJSON("objects", "bytes"), command: []string{b.purser, "du", path, "--json"},
		})
	}
	if b.du != "" {
		made = append(made, contender{
			name: "GNU du", adds: d.bytes, count: countFirstNumber,
			command: []string{b.du, "-s", "-x", "--apparent-size", "-B1", path},
		})
	}
	if b.gdu != "" {
		made = append(made, contender{
			name: "gdu", adds: d.number << 12, count: countFirstNumber,
			command: []string{b.gdu, "-n", "-p", "-c", "-s", "-a", "-x", "--no-prefix", "--config-file", "/dev/null", path},
		})
	}
	return made
}

// countJSON reads the last of some JSON objects.
func countJSON(objects, size string) func([]byte) (total, error) {
	return func(output []byte) (t total, err error) {
		var last map[string]json.RawMessage
		for d := json.NewDecoder(bytes.NewReader(output)); ; {
			var next map[string]json.RawMessage
			if d.Decode(&next) != nil {
				break
			}
			last = next
		}
		for _, field := range []struct {
			name string
			into *int64
		}{{objects, &t.objects}, {size, &t.bytes}} {
			text := strings.Trim(string(last[field.name]), `"`) // purser's are decimal strings, or numbers
			if *field.into, err = strconv.ParseInt(text, 10, 64); err != nil {
				return t, fmt.Errorf("no number %q in %.300q", field.name, output)
			}
		}
		return t, nil
	}
}

var summary = regexp.MustCompile(`Total Objects: (\d+)\s+Total Size: (\d+)`)

func countSummary(output []byte) (t total, err error) {
	m := summary.FindSubmatch(output)
	if m == nil {
		return t, errors.New("no summary")
	}
	t.objects, _ = strconv.ParseInt(string(m[1]), 10, 64) // the pattern saw to it
	t.bytes, err = strconv.ParseInt(string(m[2]), 10, 64)
	return t, err
}

func countFirstNumber(output []byte) (t total, err error) {
	first, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\t")
	first, _, _ = strings.Cut(first, " ")
	t.objects = -1
	t.bytes, err = strconv.ParseInt(first, 10, 64)
	return t, err
}

// moduleVersion is of which module and version a program was built: what those
// say of themselves that we built is "development".
func moduleVersion(path string) (string, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	for _, m := range append(info.Deps, &info.Main) {
		if strings.HasPrefix(info.Path+"/", m.Path+"/") {
			return fmt.Sprintf("%s %s, built with %s", m.Path, m.Version, info.GoVersion), nil
		}
	}
	return "", fmt.Errorf("%s does not say what it was built from", path)
}

func firstLine(ctx context.Context, path string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if name := filepath.Base(path); !strings.Contains(line, name) {
		line = name + " " + line
	}
	return strings.Join(strings.Fields(line), " "), nil
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(info); m != nil {
		return string(m[1])
	}
	return "unknown"
}
