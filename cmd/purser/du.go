package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/egress"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/posixtree"
	"github.com/purserhq/purser/internal/s3bucket"
)

const duHelp = `Measures a bucket, a folder of one, or a directory, without a server: what the
server does for the teams' places, for anything you may read.

A bucket is listed by several requests at once, wherever its keys lie. The
credentials are those that AWS's own tools would use: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or the profile AWS_PROFILE of ~/.aws/credentials. The
endpoint is that of --endpoint or AWS_ENDPOINT_URL, else AWS's own.

Of a directory, the apparent size of regular files counts: files with several
names once, symbolic links and other mounts not at all.`

// duOptions are the flags of purser du.
type duOptions struct {
	endpoint, region, profile, signature string
	anonymous, all                       bool
	depth, ranges                        int
}

func newDuCommand(e *environment) *cobra.Command {
	o := duOptions{}
	cmd := &cobra.Command{
		Use: "du PLACE", Short: "Measure a bucket or a directory, without a server", Args: one("place"), Long: duHelp,
		Example: `  purser du s3://training-data/datasets --endpoint https://s3.example.com
  purser du s3://open-data --anonymous --depth 1
  purser du /srv/shared --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return e.du(cmd.Context(), args[0], o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.endpoint, "endpoint", "", "`URL` of the S3 service (environment AWS_ENDPOINT_URL)")
	flags.StringVar(&o.region, "region", "", "signing `REGION` (environment AWS_REGION); found out if it is not given")
	flags.StringVar(&o.profile, "profile", "", "`NAME` of the profile in ~/.aws/credentials (environment AWS_PROFILE)")
	flags.StringVar(&o.signature, "signature-version", "v4", "`VERSION` of the signature, v4 or v2")
	flags.BoolVar(&o.anonymous, "anonymous", false, "sign nothing, for buckets that are open to everybody")
	flags.BoolVar(&o.all, "all", false, "count older versions and unfinished uploads too")
	flags.IntVarP(&o.depth, "depth", "d", 0, "show folders down to this `DEPTH` apart")
	flags.IntVar(&o.ranges, "ranges", 16, "list at most `N` parts of a bucket at once")
	e.jsonFlag(cmd)
	return cmd
}

// du measures a place and shows what it holds.
func (e *environment) du(ctx context.Context, place string, o duOptions) error {
	if o.depth < 0 || o.ranges < 1 {
		return usagef("--depth must be 0 or more, and --ranges 1 or more")
	}
	m := &measurement{place: place, folders: newFolders(o.depth)}
	began := time.Now()
	opened, err := e.duPlace(place, o, m)
	if err != nil {
		return err
	}
	shown := e.showDu(m)
	err = m.run(ctx, opened, o)
	shown()
	if err != nil {
		return duError(err)
	}
	m.took = time.Since(began)
	return e.printDu(m)
}

// duError is what people are told of a failure.
func duError(err error) error {
	var problem *source.Error
	if errors.As(err, &problem) {
		return fmt.Errorf("%s %s (%s)", problem.Message, problem.Hint, problem.Code)
	}
	return err
}

// openSpan opens a part of the place that is measured.
type openSpan func(ctx context.Context, s engine.Span, oneChain bool) (source.Source, error)

// duPlace says how the parts of a place are opened.
func (e *environment) duPlace(place string, o duOptions, m *measurement) (openSpan, error) {
	rest, isBucket := strings.CutPrefix(place, "s3://")
	if !isBucket {
		root, err := filepath.Abs(place)
		if err != nil {
			return nil, err
		}
		trees := posixtree.New(slog.New(slog.NewTextHandler(e.stderr, nil)))
		return func(ctx context.Context, s engine.Span, _ bool) (source.Source, error) {
			return trees.Open(ctx, source.Tree{Root: root, Method: purser.TreeWalk}, s.Cursor)
		}, nil
	}
	b, err := e.duBucket(o)
	if err != nil {
		return nil, err
	}
	b.Bucket, b.Prefix, _ = strings.Cut(rest, "/")
	// Folders are told apart behind the place's own name, whole or not.
	m.folders.skip = len(strings.TrimSuffix(b.Prefix, "/"))
	buckets := s3bucket.New(egress.Unrestricted(), egress.Options{})
	if o.all {
		m.survey = func(ctx context.Context) (source.Survey, error) { return buckets.Survey(ctx, b) }
	}
	return func(ctx context.Context, s engine.Span, oneChain bool) (source.Source, error) {
		part := b
		part.What, part.After, part.Until, part.OneChain = s.What, s.After, s.Until, oneChain
		return buckets.Open(ctx, part, s.Cursor)
	}, nil
}

// duBucket finds out where the S3 service is, and who asks.
func (e *environment) duBucket(o duOptions) (source.Bucket, error) {
	b := source.Bucket{Endpoint: o.endpoint, Region: o.region, Signature: purser.SignatureV4}
	if b.Endpoint == "" {
		b.Endpoint = strings.TrimSuffix(e.getenv("AWS_ENDPOINT_URL"), "/")
	}
	if b.Endpoint != "" {
		if fault := purser.CheckEndpoint(b.Endpoint); fault != "" {
			return b, usagef("the endpoint %s", fault)
		}
	}
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if b.Region == "" {
			b.Region = e.getenv(name)
		}
	}
	switch o.signature {
	case "v4":
	case "v2":
		b.Signature = purser.SignatureV2
	default:
		return b, usagef("--signature-version must be v4 or v2")
	}
	if o.anonymous {
		return b, nil
	}
	var err error
	b.AccessKey, b.Secret, b.SessionToken, err = e.awsCredentials(o.profile)
	return b, err
}

// awsCredentials finds the caller's own credentials where AWS's tools do.
func (e *environment) awsCredentials(profile string) (accessKey string, secret, token purser.Secret, err error) {
	if key := e.getenv("AWS_ACCESS_KEY_ID"); key != "" && profile == "" {
		return key, purser.NewSecret(e.getenv("AWS_SECRET_ACCESS_KEY")), purser.NewSecret(e.getenv("AWS_SESSION_TOKEN")), nil
	}
	if profile == "" {
		profile = e.getenv("AWS_PROFILE")
	}
	v, err := credentials.NewFileAWSCredentials(e.getenv("AWS_SHARED_CREDENTIALS_FILE"), profile).GetWithContext(nil)
	if err != nil || v.AccessKeyID == "" {
		return "", secret, token, errors.New("no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with --profile, or use --anonymous")
	}
	return v.AccessKeyID, purser.NewSecret(v.SecretAccessKey), purser.NewSecret(v.SessionToken), nil
}

// run measures.
func (m *measurement) run(ctx context.Context, open openSpan, o duOptions) error {
	work := engine.All()
	if m.survey != nil {
		found, err := m.survey(ctx)
		m.requests.Add(found.Requests)
		if err != nil {
			return err
		}
		work, m.incomplete = engine.All(found.Listings...), found.Incomplete
	}
	m.engine = engine.New(work, engine.Options{
		Open: open, Workers: o.ranges, Retries: 5,
		NewPage: func() engine.Page { return &duPage{folders: newFolders(o.depth), skip: m.folders.skip} },
		Add:     m.add, Spent: func(n int64) { m.requests.Add(n) }, Forget: m.forget,
	})
	return m.engine.Run(ctx)
}
