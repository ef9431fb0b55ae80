package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// trees compares on directory trees whose files are in the cache. Files are
// sparse: only their sizes matter.
func (b *bench) trees(ctx context.Context) error {
	for _, kind := range []struct {
		name string
		make func(*tree, int) error
	}{
		{"10 in each folder, three deep", nested},
		{"all in one folder", wide},
		{"10 in each folder, one of ten a hard link", linked},
	} {
		if err := b.tree(ctx, kind.name, kind.make); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) tree(ctx context.Context, name string, build func(*tree, int) error) (err error) {
	t := tree{root: filepath.Join(b.dir, "tree")}
	defer func() { err = errors.Join(err, os.RemoveAll(t.root)) }()
	if err := build(&t, b.files); err != nil {
		return err
	}
	directories, err := t.directories()
	if err != nil {
		return err
	}
	_, err = b.compare(ctx, comparison{
		title: fmt.Sprintf("tree, %d files, %s, warm", b.files, name), truth: t.total, warm: true,
		contenders: b.ofTree(t.root, directories),
	})
	return err
}

func nested(t *tree, files int) error {
	for i := range files {
		if err := t.file(nestedName(i)); err != nil {
			return err
		}
	}
	return nil
}

func nestedName(i int) string {
	return fmt.Sprintf("team-%03d/package-%02d/module-%d/file-%d.bin", i/10_000, i/100%100, i/10%10, i%10)
}

func wide(t *tree, files int) error {
	for i := range files {
		if err := t.file(fmt.Sprintf("file-%08d.bin", i)); err != nil {
			return err
		}
	}
	return nil
}

func linked(t *tree, files int) error {
	for i := range files {
		make := t.file
		if i%10 == 9 { // of a file in another folder, where there is one
			make = func(name string) error { return t.link(nestedName(i/20*10), name) }
		}
		if err := make(nestedName(i)); err != nil {
			return err
		}
	}
	return nil
}

// tree makes files and adds them up.
type tree struct {
	root   string
	total  total
	folder string // the last one
}

func (t *tree) path(name string) (string, error) {
	path := filepath.Join(t.root, name)
	if folder := filepath.Dir(path); folder != t.folder {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", err
		}
		t.folder = folder
	}
	return path, nil
}

// file makes one of some size.
func (t *tree) file(name string) error {
	path, err := t.path(name)
	if err != nil {
		return err
	}
	size := t.total.objects*7919%1_000_000 + 1
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	t.total.objects++
	t.total.bytes += size
	return errors.Join(f.Truncate(size), f.Close())
}

// link gives a file another name.
func (t *tree) link(from, name string) error {
	path, err := t.path(name)
	if err != nil {
		return err
	}
	return os.Link(filepath.Join(t.root, from), path)
}

// directories are what a tree has beside files.
type directories struct{ number, bytes int64 }

func (t *tree) directories() (found directories, err error) {
	err = filepath.WalkDir(t.root, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			found.number++
			found.bytes += info.Size()
		}
		return err
	})
	return found, err
}
