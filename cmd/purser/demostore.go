package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/s3server"
)

// demoStore is the S3 server of the demonstration.
type demoStore struct {
	*s3server.Process
	accessKey string
	secret    purser.Secret
}

// address is the server's host:port.
func (s demoStore) address() string { return strings.TrimPrefix(s.Endpoint(), "http://") }

// storeCommand names what the demonstration runs as its child.
const storeCommand = "s3-server"

func newStoreCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: storeCommand, Hidden: true, Args: cobra.NoArgs,
		Short: "Serve buckets from a directory, as a child of the demonstration",
		RunE:  func(cmd *cobra.Command, _ []string) error { return s3server.RunChild(cmd.Context(), e.stdin) },
	}
}

// startStore starts the S3 server and waits until it answers.
func (d *demo) startStore(ctx context.Context) (demoStore, error) {
	root := filepath.Join(d.dir, "s3")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return demoStore{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return demoStore{}, err
	}
	store := demoStore{accessKey: "DEMO" + rand.Text()[:16], secret: purser.NewSecret(rand.Text() + rand.Text())}
	store.Process, err = s3server.Start(ctx, func() *exec.Cmd { return exec.Command(self, storeCommand) },
		s3server.Options{Root: root, Listen: "127.0.0.1:0", AccessKey: store.accessKey, Secret: store.secret})
	return store, err
}
