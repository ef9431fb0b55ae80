package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
	"github.com/purserhq/purser/internal/config"
)

func newDemoCommand(e *environment) *cobra.Command {
	d := &demo{environment: e}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a server with sample buckets and a tree, measured before your eyes",
		Long: `Starts a server on embedded defaults and an S3 server beside it, both on
loopback, fills two buckets and a directory tree with sample files, registers
and measures them, shows the result, and stays up until Ctrl-C.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&d.dir, "data-dir", "", "`DIRECTORY` to keep everything in; by default a temporary one, removed at the end")
	flags.StringVar(&d.listen, "listen", "", "`ADDRESS` of the API; by default 127.0.0.1:8080, or a free port if that is taken")
	flags.BoolVar(&d.once, "once", false, "end after showing the result")
	return cmd
}

// demo is one run of the demonstration.
type demo struct {
	*environment
	dir    string
	listen string
	once   bool

	store demoStore
	url   string
	api   *client.Client
	team  purser.TeamID
	truth demoTruth
}

func (d *demo) run(ctx context.Context) (err error) {
	begin := time.Now()
	cleanUp, err := d.prepareDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanUp()) }()
	if d.store, err = d.startStore(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.store.Stop()) }()

	servers, inner := errgroup.WithContext(ctx)
	inner, stop := context.WithCancel(inner)
	defer stop()
	if err = d.startServer(inner, servers); err == nil {
		err = d.show(inner, begin)
	}
	if err == nil && !d.once {
		d.say("\nCtrl-C ends the demonstration.")
		<-inner.Done()
	}
	stop()
	return errors.Join(err, servers.Wait())
}

// prepareDir makes the directory that holds everything and returns how to clean
// up after the demonstration.
func (d *demo) prepareDir() (cleanUp func() error, err error) {
	if d.dir != "" {
		d.dir, err = filepath.Abs(d.dir)
		return func() error { return nil }, errors.Join(err, os.MkdirAll(d.dir, 0o700))
	}
	d.dir, err = os.MkdirTemp("", "purser-demo-")
	return func() error { return os.RemoveAll(d.dir) }, err
}

// show fills, registers and measures everything and shows what came of it.
func (d *demo) show(ctx context.Context, begin time.Time) error {
	if err := d.fill(ctx); err != nil {
		return fmt.Errorf("the sample data could not be written: %w", err)
	}
	if err := d.register(ctx); err != nil {
		return err
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	if err := d.showUtilization(ctx); err != nil {
		return err
	}
	d.showWhereToLook(time.Since(begin))
	return nil
}

func (d *demo) serverConfig() config.Server {
	c := config.Defaults()
	c.Listen, c.AdminListen, c.DataDir = d.address(), "127.0.0.1:0", filepath.Join(d.dir, "purser-data")
	c.EgressAllow = []string{d.store.address()}
	c.Trees = []purser.Tree{{Category: purser.CategoryNotebookWorkspace, Path: filepath.Join(d.dir, "notebooks", "{team}")}}
	c.LogLevel, c.LogFormat = slog.LevelWarn, "text"
	return c
}

// address is where the API is to listen: on the usual port if that is free.
func (d *demo) address() string {
	if d.listen != "" {
		return d.listen
	}
	usual := config.Defaults().Listen
	l, err := net.Listen("tcp", usual)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close() // it only had to be possible
	return usual
}

// startServer starts the server in this process and waits until it serves.
func (d *demo) startServer(ctx context.Context, servers *errgroup.Group) error {
	c := d.serverConfig()
	ready := make(chan string, 1)
	failed := make(chan error, 1)
	servers.Go(func() error {
		err := serve(ctx, c, d.stderr, func(url string) { ready <- url })
		failed <- err
		return err
	})
	select {
	case d.url = <-ready:
	case err := <-failed:
		return err
	}
	key, err := d.readSecretFile(d.keyPath())
	if err != nil {
		return err
	}
	d.api, err = client.New(client.Config{URL: d.url, APIKey: key})
	if err != nil {
		return err
	}
	session, err := d.api.Session(ctx)
	d.team = session.Team.ID
	return err
}

func (d *demo) keyPath() string { return filepath.Join(d.dir, "purser-data", operatorKeyFile) }

func (d *demo) fill(ctx context.Context) error {
	d.say("Writing sample files to two buckets and a directory tree …")
	d.truth = demoTruth{}
	if err := d.truth.fillBucket(ctx, d.store, "research", demoBucket(d.team)); err != nil {
		return err
	}
	if err := d.truth.fillBucket(ctx, d.store, "archive", demoArchive()); err != nil {
		return err
	}
	return d.truth.fillTree(ctx, filepath.Join(d.dir, "notebooks", string(d.team)), demoTree())
}

// register registers the buckets through the API, unless an earlier run in the
// same directory has.
func (d *demo) register(ctx context.Context) error {
	d.say("Registering the buckets …")
	known := map[string]purser.ProviderID{}
	for p, err := range d.api.EachProvider(ctx, client.ListOptions{}) {
		if err != nil {
			return err
		}
		known[p.S3.Bucket] = p.ID
	}
	for _, bucket := range []string{"research", "archive"} {
		draft := purser.ProviderDraft{
			Name: "Sample " + bucket, TeamDefault: bucket == "research", Secret: d.store.secret,
			S3: purser.S3Config{Endpoint: d.store.Endpoint(), Bucket: bucket, AccessKey: d.store.accessKey, RetainData: true},
		}
		id, registered := known[bucket]
		if registered { // the S3 server has another port now
			if _, _, err := d.api.UpdateProvider(ctx, id, draft); err != nil {
				return err
			}
		} else {
			p, _, err := d.api.CreateProvider(ctx, draft)
			if err != nil {
				return err
			}
			id = p.ID
		}
		if bucket == "archive" {
			if _, err := d.api.SetMeteringRules(ctx, id, demoArchiveRules); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure has every source measured and waits for it.
func (d *demo) measure(ctx context.Context) error {
	d.say("Measuring …")
	scans, err := d.api.StartScans(ctx)
	if err != nil {
		return err
	}
	for _, scan := range scans {
		done, err := d.api.WaitScan(ctx, scan.ID, nil)
		if err != nil {
			return err
		}
		if done.State != purser.ScanDone {
			return fmt.Errorf("measuring %s: %s", done.Source, scanFault(done))
		}
		d.say("  %-40s %5d objects  %10s  %3d requests", done.Source, done.Objects, done.Bytes.Human(), done.Requests)
	}
	return nil
}

func scanFault(s purser.Scan) string {
	if s.Error == nil {
		return string(s.State)
	}
	return s.Error.Message + " " + s.Error.Hint
}

// showUtilization prints what was measured beside what was written. That both
// agree is the point of the program, so it is checked.
func (d *demo) showUtilization(ctx context.Context) error {
	u, err := d.api.Utilization(ctx)
	if err != nil {
		return err
	}
	t := newTable("CATEGORY", ">MEASURED", ">WRITTEN", ">")
	differs := false
	for _, line := range []struct {
		category purser.Category
		title    string
		measured purser.Bytes
	}{
		{purser.CategoryDataset, "datasets", u.Dataset},
		{purser.CategoryModel, "models", u.Model},
		{purser.CategoryNotebookWorkspace, "notebook workspaces", u.NotebookWorkspace},
		{purser.CategorySharedStorage, "shared storage", u.SharedStorage},
	} {
		written := d.truth[line.category]
		differs = differs || line.measured != written
		t.row(line.title, line.measured.String(), written.String(), line.measured.Human())
	}
	t.row("total", u.Total().String(), d.truth.total().String(), u.Total().Human())
	t.row("left of the plan", u.RemainingFreeStorage().String(), "", u.RemainingFreeStorage().Human())
	_, _ = fmt.Fprintln(d.stdout)
	if err := d.printTable(t); err != nil {
		return err
	}
	if differs {
		return errors.New("what was measured is not what was written; please report this")
	}
	return nil
}

// total is what counts: everything but what no rule matches.
func (t demoTruth) total() (sum purser.Bytes) {
	for _, category := range purser.Categories {
		sum += t[category]
	}
	return sum
}

func (d *demo) showWhereToLook(took time.Duration) {
	_, _ = fmt.Fprintf(d.stdout, `
Ready after %.1f s.
  API      %[2]s/v1            (description: %[2]s/v1/openapi.json)
  S3       %[3]s
  Key      %[4]s

Try:
  export KEY=$(cat %[4]s)
  curl -H "Authorization: Bearer $KEY" %[2]s/v1/storage-providers
  curl -H "Authorization: Bearer $KEY" %[2]s/v1/storage-providers/utilization
  curl -H "Authorization: Bearer $KEY" -X POST -H 'Content-Type: application/json' -d '{}' %[2]s/v1/scans

or, with this program:
  export PURSER_URL=%[2]s PURSER_API_KEY=$KEY
  purser provider list
  purser utilization
`, took.Seconds(), d.url, d.store.Endpoint(), d.keyPath())
}
