package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// version is set when a release is built (-ldflags "-X main.version=v1.2.3").
var version string

// build says what this binary is made from.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func readVersion() build {
	b := build{Version: version, Go: runtime.Version()}
	if info, known := debug.ReadBuildInfo(); known {
		b.Version = cmp.Or(b.Version, info.Main.Version)
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				b.Commit = setting.Value
			}
		}
	}
	b.Version = cmp.Or(b.Version, "(devel)")
	return b
}

func newVersionCommand(e *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Show which version this is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := readVersion()
			if e.json {
				return e.printJSON(b)
			}
			_, err := fmt.Fprintf(e.stdout, "purser %s %s %s/%s\n", b.Version, b.Go, runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	e.jsonFlag(cmd)
	return cmd
}

// newManCommand writes the manual pages; those who make packages need it.
func newManCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a directory", Args: one("directory"), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // manual pages are for everybody
				return fmt.Errorf("the manual pages cannot be written: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same program always gives the same pages
			header := &doc.GenManHeader{Section: "1", Source: "purser " + readVersion().Version, Manual: "Purser"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("the manual pages cannot be written: %w", err)
			}
			e.say("The manual pages are in %s.", args[0])
			return nil
		},
	}
}
