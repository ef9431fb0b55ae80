package posixtree

import (
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/purserhq/purser/internal/metering/source"
)

// BenchmarkWalk compares, on one warm tree of 100,000 files in 500 directories,
// this walk with what there is otherwise.
func BenchmarkWalk(b *testing.B) {
	const files = 100_000
	root := scratch(b)
	for i := range files {
		writeFile(b, filepath.Join(root, fmt.Sprintf("d%02d/e%02d/file-%06d", i%20, i/20%25, i)), 0)
	}
	b.Run("posixtree", func(b *testing.B) {
		for b.Loop() {
			if n := walkOurs(b, root); n != files {
				b.Fatal(n)
			}
		}
	})
	b.Run("filepath.WalkDir and Info", func(b *testing.B) {
		for b.Loop() {
			if n := walkDir(b, root); n != files {
				b.Fatal(n)
			}
		}
	})
	b.Run("du", func(b *testing.B) {
		for b.Loop() {
			if out, err := exec.Command("du", "-s", "-x", "--apparent-size", root).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
}

func walkOurs(b *testing.B, root string) (files int) {
	b.Helper()
	src, err := New(nil).Open(b.Context(), source.Tree{Root: root}, nil)
	must(b, err)
	defer func() { must(b, src.Close()) }()
	var bytes int64
	for done := false; !done; {
		step, err := src.Step(b.Context(), func(e source.Entry) { files++; bytes += e.Size })
		must(b, err)
		done = step.Done
	}
	return files
}

func walkDir(b *testing.B, root string) (files int) {
	b.Helper()
	var bytes int64
	must(b, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		must(b, err)
		files++
		bytes += info.Size()
		return nil
	}))
	return files
}
