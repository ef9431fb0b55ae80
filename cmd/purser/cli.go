package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

// environment is what a run of the program gets from outside, and the flags
// that many commands share.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	vars           []string // as os.Environ gives them

	json    bool
	url     string
	keyFile string

	// running is set once a command has begun its work: what fails before that is
	// the command line's fault.
	running bool
}

// getenv returns the value of an environment variable; "" if it is not set.
func (e *environment) getenv(name string) string {
	value := ""
	for _, v := range e.vars {
		if rest, found := strings.CutPrefix(v, name+"="); found {
			value = rest // as in the process's own environment, the last one wins
		}
	}
	return value
}

// say tells people something that is no data.
func (e *environment) say(format string, args ...any) {
	_, _ = fmt.Fprintln(e.stderr, plain(fmt.Sprintf(format, args...)))
}

// complain tells people what is wrong; several faults are a line each.
func (e *environment) complain(message string) {
	for line := range strings.Lines(message) {
		e.say("purser: %s", strings.TrimSuffix(line, "\n"))
	}
}

// terminal returns the terminal that stream is; nil if it is none.
func terminal(stream any) *os.File {
	f, is := stream.(*os.File)
	if !is || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return f
}

// newGroup makes a command that only holds others.
func newGroup(use, short string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{Use: use, Short: short, DisableFlagsInUseLine: true}
	group.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		message := fmt.Sprintf("%q is not a command of %s", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			message += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{message}
	}
	group.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	group.SuggestionsMinimumDistance = 2
	group.AddCommand(commands...)
	return group
}

// one asks for exactly one argument.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s needs one %s, and got %d", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}

// clientFlags adds to a command, and the commands below it, the flags that say
// which server to talk to and how to answer.
func (e *environment) clientFlags(cmd *cobra.Command) *cobra.Command {
	flags := cmd.PersistentFlags()
	flags.StringVar(&e.url, "url", "", "`ADDRESS` of the server (environment PURSER_URL)")
	flags.StringVar(&e.keyFile, "api-key-file", "", "`FILE` that holds the API key, - for stdin (environment PURSER_API_KEY or PURSER_API_KEY_FILE)")
	e.jsonFlag(cmd)
	return cmd
}

func (e *environment) jsonFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().BoolVar(&e.json, "json", false, "answer with one JSON document")
}

// withClient makes what a command does out of what it does with a server.
func (e *environment) withClient(do func(context.Context, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := e.connect()
		if err != nil {
			return err
		}
		return do(cmd.Context(), c, args)
	}
}

// noteRunning arranges for running to be set when cmd, or one below it, begins.
func (e *environment) noteRunning(cmd *cobra.Command) {
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			e.running = true
			return inner(cmd, args)
		}
	}
	for _, child := range cmd.Commands() {
		e.noteRunning(child)
	}
}

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitTemporary   = 5
	exitInterrupted = 130
)

const exitCodesHelp = `  0    done
  1    failed; the message says why
  2    the command line is wrong, or a question was answered with no
  3    there is no such thing in your team
  4    the API key is missing, does not count, or does not allow this
  5    the server cannot be reached or is busy; the same command may work later
  130  interrupted`

// usageError is a fault of the command line.
type usageError struct{ message string }

func (e usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errSaid is a failure that people have been told about already.
var errSaid = errors.New("failed")

// report tells people why a command failed and returns the exit code.
func (e *environment) report(ctx context.Context, command *cobra.Command, err error) int {
	var (
		usage    usageError
		answered *client.Error
		ours     *purser.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		e.complain("interrupted")
		return exitInterrupted
	case errors.As(err, &usage), !e.running:
		e.complain(err.Error())
		e.say("See %s --help.", command.CommandPath())
		return exitUsage
	case errors.As(err, &answered):
		e.complain(sentence(answered))
		return exitCode(answered)
	case errors.As(err, &ours) && ours.Message != "":
		e.complain(ours.Message)
		return exitFailed
	}
	e.complain(err.Error())
	return exitFailed
}

// sentence is what people are told of a failed call.
func sentence(err *client.Error) string {
	switch {
	case err.Status == http.StatusUnauthorized:
		return "The server does not accept the API key, or got none; see purser help environment."
	case err.Status >= http.StatusInternalServerError && err.RequestID != "" && !strings.Contains(err.Message, err.RequestID):
		return err.Message + " (request id " + err.RequestID + ")"
	}
	return err.Message
}

func exitCode(err *client.Error) int {
	switch {
	case client.IsNotFound(err):
		return exitNotFound
	case client.IsDenied(err):
		return exitDenied
	case err.Temporary():
		return exitTemporary
	}
	return exitFailed
}
