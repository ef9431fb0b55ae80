package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser"
)

// demoFiles are the sample files of one category in one place.
type demoFiles struct {
	category purser.Category
	prefix   string
	count    int
	maxSize  int // bytes; sizes are spread evenly below
}

// demoBucket is a bucket as a team with Purser's own layout has it: everything
// in the team's folder, by category.
func demoBucket(team purser.TeamID) []demoFiles {
	folder := string(team) + "/"
	return []demoFiles{
		{purser.CategoryDataset, folder + "datasets/street-signs/train/", 900, 24 << 10},
		{purser.CategoryDataset, folder + "datasets/street-signs/test/", 200, 24 << 10},
		{purser.CategoryModel, folder + "models/signs-v3/", 60, 256 << 10},
		{purser.CategoryNotebookWorkspace, folder + "notebooks/exploration/", 150, 16 << 10},
		{purser.CategorySharedStorage, folder + "exports/", 90, 32 << 10},
	}
}

// demoArchive is a bucket that was there before Purser, with a layout of its
// own: rules say what counts as what, and its logs count as nothing.
func demoArchive() []demoFiles {
	return []demoFiles{
		{purser.CategoryDataset, "corpora/2025/", 600, 16 << 10},
		{purser.CategoryModel, "checkpoints/", 120, 128 << 10},
		{purser.CategoryUnmatched, "logs/", 80, 4 << 10},
	}
}

var demoArchiveRules = []purser.MeteringRule{
	{Category: purser.CategoryDataset, Prefix: "corpora/"},
	{Category: purser.CategoryModel, Prefix: "checkpoints/"},
}

// demoTree is a directory of notebooks on a shared file system.
func demoTree() []demoFiles {
	return []demoFiles{{purser.CategoryNotebookWorkspace, "anna/", 400, 8 << 10}, {purser.CategoryNotebookWorkspace, "ben/", 200, 8 << 10}}
}

// demoTruth is what was written, by category: what measuring must find.
type demoTruth map[purser.Category]purser.Bytes

// each calls write for every file, sixteen at a time, and adds up what was
// written. The same files come out every time.
func (t demoTruth) each(ctx context.Context, groups []demoFiles, write func(ctx context.Context, name string, content []byte) error) error {
	pool := make([]byte, 512<<10)
	random := rand.NewChaCha8([32]byte([]byte("purser's sample data, every time")))
	_, _ = random.Read(pool)  // never fails
	sizes := rand.New(random) //nolint:gosec // the same sizes every time, on purpose
	writers, ctx := errgroup.WithContext(ctx)
	writers.SetLimit(16)
	for _, files := range groups {
		for i := range files.count {
			size := 1 + sizes.IntN(files.maxSize)
			start := sizes.IntN(len(pool) - size)
			name := fmt.Sprintf("%sfile-%04d.bin", files.prefix, i)
			t[files.category] += purser.Bytes(size)
			writers.Go(func() error { return write(ctx, name, pool[start:start+size]) })
		}
	}
	return writers.Wait()
}

// fillBucket makes a bucket and puts the files into it.
func (t demoTruth) fillBucket(ctx context.Context, store demoStore, bucket string, groups []demoFiles) error {
	client, err := minio.New(store.address(), &minio.Options{
		Creds: credentials.NewStaticV4(store.accessKey, store.secret.Expose(), ""), Region: "us-east-1", MaxRetries: 3,
	})
	if err != nil {
		return err
	}
	if there, err := client.BucketExists(ctx, bucket); err != nil {
		return err
	} else if !there {
		if err := client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
			return err
		}
	}
	return t.each(ctx, groups, func(ctx context.Context, name string, content []byte) error {
		_, err := client.PutObject(ctx, bucket, name, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{DisableContentSha256: true})
		return err
	})
}

// fillTree writes the files below root.
func (t demoTruth) fillTree(ctx context.Context, root string, groups []demoFiles) error {
	for _, files := range groups {
		if err := os.MkdirAll(filepath.Join(root, filepath.FromSlash(path.Dir(files.prefix+"x"))), 0o700); err != nil {
			return err
		}
	}
	return t.each(ctx, groups, func(_ context.Context, name string, content []byte) error {
		return os.WriteFile(filepath.Join(root, filepath.FromSlash(name)), content, 0o600)
	})
}
