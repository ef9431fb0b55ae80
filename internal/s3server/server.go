// Package s3server is a real S3 server on a directory: versitygw with its posix
// backend.
//
// It serves demonstrations and tests, which must not depend on somebody's
// account elsewhere. versitygw changes the directory of its process and allows
// one server per process, so that it always runs as a child: Start begins one,
// RunChild is what the child does. What always holds: the child ends when its
// parent does, however that happens, and keys are in neither its arguments nor
// its environment.
package s3server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"github.com/purserhq/purser"
)

// Options say what to serve where, to whom.
type Options struct {
	// Root is the directory whose subdirectories are the buckets; it must exist
	// and support extended attributes.
	Root string
	// Versions is a directory for older versions; without it buckets keep none.
	Versions string
	// Listen is HOST:PORT. Start takes port 0 for a free one, Run does not.
	Listen string
	// AccessKey and Secret are the one account, which may do everything.
	AccessKey string
	Secret    purser.Secret
	// Region is what requests must be signed for; empty means us-east-1.
	Region string
}

// The limits of a small server on loopback.
const (
	maxConnections = 256
	maxRequests    = 128
	maxParts       = 10_000
	healthPath     = "/.purser-health"
	lameDuck       = time.Second // how long a child that is to end finishes requests
)

// Run serves until ctx ends. It changes the directory of the process and can
// run once at a time.
func Run(ctx context.Context, o Options) error {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return err
	}
	attributes := meta.XattrMeta{}
	if err := attributes.Test(root); err != nil {
		return fmt.Errorf("the file system of %s cannot keep extended attributes, which the S3 server needs; choose a directory on another one: %w", root, err)
	}
	versions := o.Versions
	if versions != "" {
		if versions, err = filepath.Abs(versions); err != nil {
			return err
		}
	}
	backend, err := posix.New(root, attributes, posix.PosixOpts{VersioningDir: versions})
	if err != nil {
		return fmt.Errorf("serve %s over S3: %w", root, err)
	}
	err = embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: o.AccessKey, RootUserSecret: o.Secret.Expose(), Region: o.Region,
		Ports: []string{o.Listen}, HealthPath: healthPath,
		MaxConnections: maxConnections, MaxRequests: maxRequests, MultipartMaxParts: maxParts,
		Quiet: true, KeepAlive: true,
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was asked to end
	}
	return fmt.Errorf("serve %s over S3: %w", root, err)
}

// message is what the parent writes to the child's standard input, as JSON. It
// is the one place where the secret travels.
type message struct {
	Root, Versions, Listen, AccessKey, Secret, Region string
}

// RunChild is the whole of a child process that Start began: it reads from
// stdin what to serve, and serves until ctx ends or stdin does, which is how a
// child learns that its parent has died.
func RunChild(ctx context.Context, stdin io.Reader) error {
	var m message
	if err := json.NewDecoder(stdin).Decode(&m); err != nil {
		return errors.New("this command is for purser's own use: it is told on its standard input what to serve")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // ends with the parent
		cancel()
	}()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Root: m.Root, Versions: m.Versions, Listen: m.Listen, AccessKey: m.AccessKey, Secret: purser.NewSecret(m.Secret), Region: m.Region})
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// The server waits for its clients to close the connections they keep, which
	// they have no reason to do. The process ends now; every answered request is done.
	select {
	case err := <-ended:
		return err
	case <-time.After(lameDuck):
		return nil
	}
}

// ChildMain runs RunChild and ends the process: 0 after a clean stop.
func ChildMain() {
	if err := RunChild(context.Background(), os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
