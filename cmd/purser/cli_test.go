package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestHelp compares every help text with the one that was reviewed: a file for
// each command of the first level.
func TestHelp(t *testing.T) {
	t.Parallel()
	texts := map[string]string{}
	for _, path := range commandPaths(newRootCommand(&environment{}), nil) {
		name := "purser"
		if len(path) > 0 {
			name = path[0]
		}
		texts[name] += "$ " + strings.Join(append([]string{"purser"}, path...), " ") + " --help\n" + help(t, path) + "\n"
	}
	for name, got := range texts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareGolden(t, filepath.Join("testdata", "help", name+".txt"), got)
		})
	}
}

func help(t *testing.T, path []string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := program(t.Context(), append(path, "--help"), strings.NewReader(""), &stdout, &stderr, nil)
	if code != exitOK || stderr.Len() > 0 {
		t.Errorf("%v --help exits with %d and says %q", path, code, stderr.String())
	}
	return stdout.String()
}

func compareGolden(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; make it with go test ./cmd/purser -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("not as in %s; if it is right, run go test ./cmd/purser -update (-want +got):\n%s", golden, diff)
	}
}

// commandPaths lists the commands that are ours, their parents first.
func commandPaths(cmd *cobra.Command, path []string) [][]string {
	paths := [][]string{path}
	for _, child := range cmd.Commands() {
		if child.Runnable() && child.Name() != "completion" && child.Name() != "help" {
			paths = append(paths, commandPaths(child, append(append([]string{}, path...), child.Name()))...)
		}
	}
	return paths
}

// TestNoSecretIsAFlag holds the command line to its promise: the flags that
// name a secret only say where it is.
func TestNoSecretIsAFlag(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, path := range commandPaths(newRootCommand(&environment{}), nil) {
		_, _ = got.WriteString(help(t, path))
	}
	for line := range strings.Lines(got.String()) {
		name, found := strings.CutPrefix(strings.TrimSpace(line), "--")
		if !found {
			continue
		}
		name, rest, _ := strings.Cut(name, " ")
		if (strings.Contains(name, "secret") || strings.Contains(name, "api-key")) && strings.HasPrefix(rest, "string") {
			t.Errorf("--%s takes a secret", name)
		}
	}
}

// TestJSONIsTheAPIs decodes what --json shows with the generated types, which
// are strict about names that are missing and values that have another form.
func TestJSONIsTheAPIs(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	full := purser.Scan{
		ID: "scn000000000001", ProviderID: "splgct3arqdh77c", Source: "s3://bkt", State: purser.ScanFailed, Objects: 1, Bytes: 1 << 60, Requests: 2,
		StartedAt: at, FinishedAt: at, Error: &purser.ScanError{Code: "c", Message: "m", Hint: "h"},
		EstimatedCost: 10, Budget: &purser.RequestBudget{PerDay: 10, Spent: 2, Day: purser.StepDay.Begin(at)},
	}
	tests := map[string]struct {
		document any
		wire     interface{ UnmarshalJSON([]byte) error }
	}{
		"provider": {toProviderJSON(purser.Provider{S3: purser.S3Config{
			Endpoint: "https://s3.example.com", Region: "ny2", SignatureVersion: "v4",
		}}), &oas.StorageProvider{}},
		"empty provider":   {toProviderJSON(purser.Provider{}), &oas.StorageProvider{}},
		"metering rules":   {toRulesJSON([]purser.MeteringRule{{Category: purser.CategoryModel, Prefix: "m/"}}), &oas.Metering{}},
		"no rules":         {toRulesJSON(nil), &oas.Metering{}},
		"utilization":      {toUtilizationJSON(purser.Utilization{MeasuredAt: at, State: purser.UsageStale}), &oas.StorageUtilization{}},
		"provider's usage": {toSourceUsageJSON(purser.SourceUsage{MeasuredAt: at, Method: "list"}, at.Add(time.Hour)), &oas.ProviderUtilization{}},
		"usage of folders": {toSourceUsageJSON(purser.SourceUsage{
			Folders: []purser.FolderLevel{
				{Biggest: []purser.Folder{{Path: "a/", Amount: purser.Amount{Objects: 1, Bytes: 2}}}, Rest: purser.Amount{Objects: 3, Bytes: 4}},
				{},
			},
			StorageClasses: []purser.StorageClass{{Name: "STANDARD", Amount: purser.Amount{Objects: 5, Bytes: 6}}},
		}, at), &oas.ProviderUtilization{}},
		"history":            {toHistoryJSON(purser.History{Items: []purser.HistoryItem{{At: at, Usage: purser.Usage{Model: 1}}}, DaysUntilFull: new(int)}), &oas.UtilizationHistory{}},
		"empty history":      {toHistoryJSON(purser.History{}), &oas.UtilizationHistory{}},
		"usage not measured": {toSourceUsageJSON(purser.SourceUsage{}, at), &oas.ProviderUtilization{}},
		"health": {toHealthJSON(purser.Health{
			State: purser.HealthFailing, Since: at, CheckedAt: at, Error: full.Error, Method: "list",
			Detected: purser.Detected{Region: "eu-west-3", ListVersion: 2, Addressing: purser.AddressingPath, Versioned: new(bool)},
		}), &oas.ProviderHealth{}},
		"unknown health": {toHealthJSON(purser.Health{State: purser.HealthUnknown}), &oas.ProviderHealth{}},
		"scan":           {toScanJSON(full), &oas.Scan{}},
		"queued scan":    {toScanJSON(purser.Scan{State: purser.ScanQueued}), &oas.Scan{}},
		"team":           {toTeamJSON(purser.Team{CreatedAt: at}), &oas.Team{}},
		"key":            {toKeyJSON(purser.APIKey{Role: purser.RoleOwner, CreatedAt: at, ExpiresAt: at, LastUsedAt: at}), &oas.ApiKey{}},
		"eternal key":    {toKeyJSON(purser.APIKey{Role: purser.RoleOwner, CreatedAt: at}), &oas.ApiKey{}},
		"audit event":    {toEventJSON(purser.AuditEvent{At: at, Result: purser.AuditOK}), &oas.AuditEvent{}},
		"last page":      {pageJSON{Items: []any{}}, &oas.TeamPage{}},
		"page":           {pageJSON{HasMore: true, Items: []any{toTeamJSON(purser.Team{CreatedAt: at})}, NextPage: orNull("c")}, &oas.TeamPage{}},
		"deleted":        {idJSON{"splgct3arqdh77c"}, &oas.Deleted{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := json.Marshal(test.document)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.wire.UnmarshalJSON(text); err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			if back, is := test.wire.(json.Marshaler); is {
				checkSameNames(t, text, back)
			}
		})
	}
}

// checkSameNames checks that nothing of text is unknown to the generated type.
// What the API says in headers is part of the document here.
func checkSameNames(t *testing.T, text []byte, wire json.Marshaler) {
	t.Helper()
	again, err := wire.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(again, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if _, is := wire.(*oas.StorageUtilization); is {
		delete(got, "measuredAt")
		delete(got, "usageState")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-API +ours):\n%s", diff)
	}
}

func TestParseExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"12h":                       now.Add(12 * time.Hour),
		"90d":                       now.AddDate(0, 0, 90),
		"2027-01-01":                time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		"2027-01-01T00:00:00+01:00": time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC),
	} {
		got, err := parseExpiry(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"-1h", "0s", "-3d", "1.5d", "tomorrow", "2027-13-01", "99999999d"} {
		if got, err := parseExpiry(text, now); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                   "",
		"学习 data/ü":          "学习 data/ü",
		"\x1b[2Jgone":        `\x1b[2Jgone`,
		"two\nlines\t":       `two\nlines\t`,
		"\u202egpj.exe":      `\u202egpj.exe`,
		"\u009b31m and \x00": `\u009b31m and \x00`,
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestBars draws the bars of a terminal into a buffer: what is left there is
// the last state of each scan.
func TestBars(t *testing.T) {
	t.Parallel()
	scans := []purser.Scan{{Source: "s3://one\x1b[2J", State: purser.ScanQueued}, {Source: "s3://two", State: purser.ScanQueued}}
	var screen bytes.Buffer
	w := newBarWatcher(&screen, scans)
	w.look(1, purser.Scan{Source: "s3://two", State: purser.ScanRunning, Objects: 7})
	w.look(0, purser.Scan{Source: "s3://one\x1b[2J", State: purser.ScanDone, Objects: 1, Bytes: 1024, Requests: 1})
	w.look(1, purser.Scan{Source: "s3://two", State: purser.ScanFailed, Objects: 9})
	w.end()
	for _, want := range []string{`s3://one\x1b[2J: done, 1 object, 1.0 KiB, 1 request`, "s3://two: failed, 9 objects, 0 B, 0 requests"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("%q is not on the screen: %q", want, screen.String())
		}
	}
}

// TestInterrupted ends a command that waits for a scan. The scan goes on, and
// the exit code is that of an interrupted program.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text, _ := json.Marshal(toScanJSON(purser.Scan{ID: "scn000000000001", Source: "s3://bkt", State: purser.ScanRunning}))
		_, _ = w.Write(text)
		if r.Method == http.MethodGet {
			interrupt()
		}
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	code := program(ctx, []string{"provider", "scan", "splgct3arqdh77c", "--url", server.URL}, strings.NewReader(""), &stdout, &stderr, nil)
	if code != exitInterrupted || stdout.Len() > 0 {
		t.Errorf("exits with %d and says %q", code, stdout.String())
	}
	for _, want := range []string{"Measuring goes on; see purser scan get scn000000000001 --watch", "purser: interrupted\n"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is missing in %q", want, stderr.String())
		}
	}
}
