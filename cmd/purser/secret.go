package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/purserhq/purser"
)

// maxSecretFile is more than any file that holds a secret.
const maxSecretFile = 64 << 10

// readSecretFile reads a secret from a file, or from stdin if path is "-".
func (e *environment) readSecretFile(path string) (purser.Secret, error) {
	stream := e.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return purser.Secret{}, fmt.Errorf("the secret cannot be read: %w", err)
		}
		defer func() { _ = f.Close() }() // nothing was written
		stream = f
	}
	text, err := io.ReadAll(io.LimitReader(stream, maxSecretFile))
	if err != nil {
		return purser.Secret{}, fmt.Errorf("the secret cannot be read: %w", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case secret == "":
		return purser.Secret{}, fmt.Errorf("there is no secret in %s; it is empty", path)
	case strings.ContainsAny(secret, "\r\n"):
		return purser.Secret{}, fmt.Errorf("there is more than a secret in %s; it must be one line", path)
	}
	return purser.NewSecret(secret), nil
}

// secretVariable is where programs leave the secret access key of a bucket.
const secretVariable = "PURSER_SECRET_ACCESS_KEY"

// secretAccessKey gets the secret half of a bucket's credential: from file if
// one is named, else from the environment, else from whoever sits at the
// terminal. It is never a flag, because the command lines of all users can be
// seen in the list of processes.
func (e *environment) secretAccessKey(ctx context.Context, file string) (purser.Secret, error) {
	if file != "" {
		return e.readSecretFile(file)
	}
	if value := e.getenv(secretVariable); value != "" {
		return purser.NewSecret(value), nil
	}
	if terminal(e.stdin) == nil {
		return purser.Secret{}, usagef("the secret access key is missing; give it with --secret-file FILE (- for stdin) or in %s", secretVariable)
	}
	return e.promptSecret(ctx, "Secret access key: ")
}

// promptSecret asks at the terminal without showing what is typed.
func (e *environment) promptSecret(ctx context.Context, prompt string) (purser.Secret, error) {
	fd := int(terminal(e.stdin).Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return purser.Secret{}, fmt.Errorf("the terminal cannot be asked: %w", err)
	}
	_, _ = io.WriteString(e.stderr, prompt)
	typed, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	_ = term.Restore(fd, before) // an interrupted ReadPassword leaves the echo off
	e.say("")
	switch {
	case err != nil:
		return purser.Secret{}, err
	case len(typed) == 0:
		return purser.Secret{}, usageError{"no secret access key was typed"}
	}
	return purser.NewSecret(string(typed)), nil
}

// errDeclined says that nothing was done because somebody said no.
var errDeclined = usageError{"nothing was changed"}

// confirm asks at the terminal whether to go on; without a terminal somebody
// has to have said so with --yes.
func (e *environment) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if terminal(e.stdin) == nil {
		return usageError{"this cannot be undone and there is no terminal to ask at; add --yes if you are sure"}
	}
	_, _ = io.WriteString(e.stderr, plain(question)+" [y/N] ")
	answer, err := interruptible(ctx, func() (string, error) { return bufio.NewReader(e.stdin).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// interruptible waits for read, or for ctx to end; a read from a terminal knows
// nothing of contexts. What is read after that is lost.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := read()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
