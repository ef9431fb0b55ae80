package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/config"
)

// serve runs a server until ctx ends: the configuration is loaded, now open,
// wire, run, drain. It calls ready with the server's address once it serves.
func serve(ctx context.Context, c config.Server, stderr io.Writer, ready func(url string)) error {
	lines := newLogWriter(stderr)
	defer lines.Flush()
	log := newLogger(c, lines)
	if err := harden(); err != nil {
		log.WarnContext(ctx, "core dumps could not be switched off", "error", err)
	}
	o, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	a, err := wire(c, o, log)
	if err == nil {
		err = bootstrap(ctx, a, c.DataDir, stderr)
	}
	if err == nil {
		err = run(ctx, c, o, a, log, func(url string) {
			lines.Flush() // whoever waits for this finds all that led to it in the log
			ready(url)
		})
	}
	return errors.Join(err, o.store.Close())
}

func newLogger(c config.Server, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// bootstrap makes the first team and leaves its operator's key in a file.
func bootstrap(ctx context.Context, a *app, dataDir string, stderr io.Writer) error {
	path, err := filepath.Abs(filepath.Join(dataDir, operatorKeyFile))
	if err != nil {
		return err
	}
	written := false
	created, err := a.teams.Bootstrap(ctx, func(key purser.Secret) error {
		written = true
		return writeSecretFile(path, key)
	})
	switch {
	case created && err == nil:
		_, _ = fmt.Fprintf(stderr, "purser: this is the first start: team \"default\" was made; its operator's key is in %s\n", path)
	case written: // for a team that did not come to be
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// run listens and works until ctx ends or something happens that cannot be
// lived with, and drains.
func run(ctx context.Context, c config.Server, o *opened, a *app, log *slog.Logger, serving func(url string)) error {
	api, err := listen(c.Listen, "--listen")
	if err != nil {
		return err
	}
	adminListener, err := listen(c.AdminListen, "--admin-listen")
	if err != nil {
		return errors.Join(err, api.Close())
	}
	ready := &readiness{database: o.store.Ping}
	// The admin listener outlives the others: it tells that they are draining.
	admin := newHTTPServer(newAdminHandler(ready, a.metrics.handler()), log)
	adminDone := make(chan error, 1)
	go func() { adminDone <- ignoreClosed(admin.Serve(adminListener)) }()

	log.InfoContext(ctx, "serving", "address", api.Addr().String(), "admin", adminListener.Addr().String(), "database", o.store.Dialect())
	serving("http://" + api.Addr().String())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.metering.Run(ctx) })
	group.Go(func() error { return noteUsedKeys(ctx, a.verifier, o.store, log) })
	group.Go(func() error {
		return serveUntil(ctx, newHTTPServer(a.api.Handler(), log), netutil.LimitListener(api, maxConnections))
	})
	group.Go(func() error {
		select {
		case err := <-o.store.Failed():
			return err
		case <-ctx.Done():
			ready.draining.Store(true)
			return nil
		}
	})
	err = group.Wait()
	return errors.Join(err, admin.Close(), <-adminDone)
}
