// Command purser is the Purser server and its command line in one binary.
//
// The command line is a client like any other: it talks to a server through
// package client and knows nothing that the API does not say. What always
// holds: data goes to stdout and talk to stderr, a secret is never taken from
// the command line, and the exit code says what sort of failure there was (see
// purser help exit-codes).
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C ends what does not listen
	os.Exit(program(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// program is the whole program but for what belongs to the process. It returns
// the exit code.
func program(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, vars []string) int {
	e := &environment{stdin: stdin, stdout: stdout, stderr: stderr, vars: vars}
	root := newRootCommand(e)
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	return e.report(ctx, command, err)
}

func newRootCommand(e *environment) *cobra.Command {
	root := newGroup("purser", "Keep a team's buckets, their credentials and what is in them",
		newServeCommand(e),
		newDemoCommand(e),
		newStoreCommand(e),
		newProviderCommand(e),
		newUtilizationCommand(e),
		newScanCommand(e),
		newDuCommand(e),
		newTeamCommand(e),
		newKeyCommand(e),
		newAuditCommand(e),
		newVersionCommand(e),
		newManCommand(e),
		newTopic("environment", "Which server the commands talk to, and as whom", environmentHelp),
		newTopic("exit-codes", "What the exit codes mean", exitCodesHelp),
	)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err.Error()} })
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	e.noteRunning(root)
	return root
}

// newTopic makes a page of help that belongs to no command.
func newTopic(name, short, text string) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Long: text}
}
