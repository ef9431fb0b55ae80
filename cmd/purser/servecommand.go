package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser/internal/config"
	"github.com/purserhq/purser/internal/egress"
)

func newServeCommand(e *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Runs the server until it is told to end (SIGTERM or Ctrl-C). Without any flag it
keeps everything in ./purser-data and listens on loopback only.

Every flag can also be given as an environment variable (--data-dir as
PURSER_DATA_DIR) or in the file that --config names (data-dir: …); a flag wins
over the environment, that over the file.`,
		Args: cobra.NoArgs,
	}
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(cmd.Flags(), e.vars, func(rule string) error {
			_, err := egress.ParseRule(rule)
			return err
		})
		if err != nil {
			return usageError{err.Error()}
		}
		if c.LogFormat == "auto" {
			c.LogFormat = "json"
			if terminal(e.stderr) != nil {
				c.LogFormat = "text"
			}
		}
		return serve(cmd.Context(), c, e.stderr, func(url string) {
			_, _ = fmt.Fprintln(e.stderr, "purser: serving "+url)
		})
	}
	return cmd
}
