package posixtree

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserhq/purser/internal/metering/source"
)

// BenchmarkWalk compares, on warm trees of 100,000 names, this walk with what
// there is otherwise: filepath.WalkDir with Info, du, and gdu if it is installed.
// In each round each of them walks once, so that whatever else the machine does
// meets all of them; all have to come to the same total. Reported are the medians
// in milliseconds and how many times as long as this walk the others take. The
// trees lie in TMPDIR.
func BenchmarkWalk(b *testing.B) {
	for _, shape := range []struct {
		name string
		make func(b *testing.B, root string)
	}{
		{"wide", makeWide},
		{"folders", makeFolders},
		{"deep", makeDeepChains},
		{"packages", makePackages},
		{"links", makeLinks},
	} {
		b.Run(shape.name, func(b *testing.B) {
			root := b.TempDir()
			shape.make(b, root)
			rivals := rivalsOn(b, root)
			for _, r := range rivals { // warm up, and compare the totals
				r.run(b)
			}
			times := make([][]float64, len(rivals))
			for b.Loop() {
				for i, r := range rivals {
					began := time.Now()
					r.run(b)
					times[i] = append(times[i], float64(time.Since(began).Microseconds())/1000)
				}
			}
			ours := median(times[0])
			b.ReportMetric(0, "ns/op") // of all together, which means nothing
			b.ReportMetric(ours, "ms")
			for i, r := range rivals[1:] {
				b.ReportMetric(median(times[i+1])/ours, "x-"+r.name)
			}
		})
	}
}

// BenchmarkWorkers shows what the number of workers does.
func BenchmarkWorkers(b *testing.B) {
	root := b.TempDir()
	makePackages(b, root)
	for _, workers := range []int{1, 2, 4, 8, 16, 32} {
		b.Run(strconv.Itoa(workers), func(b *testing.B) {
			for b.Loop() {
				walkOurs(b, root, workers)
			}
		})
	}
}

type rival struct {
	name string
	run  func(b *testing.B)
}

// rivalsOn returns this walk and the others, each of which fails the benchmark if it
// comes to another total.
func rivalsOn(b *testing.B, root string) []rival {
	b.Helper()
	files, dirs, dirBytes := walkDir(b, root)
	same := func(b *testing.B, what string, got int64, wanted ...int64) {
		b.Helper()
		if !slices.Contains(wanted, got) {
			b.Fatalf("%s comes to %d, not to %v", what, got, wanted)
		}
	}
	rivals := []rival{
		{"posixtree", func(b *testing.B) { same(b, "posixtree", walkOurs(b, root, 0), files) }},
		{"WalkDir", func(b *testing.B) { got, _, _ := walkDir(b, root); same(b, "WalkDir", got, files) }},
		// Older versions add the directories' own sizes.
		{"du", func(b *testing.B) {
			same(b, "du", runTool(b, "du", "-s", "-x", "--apparent-size", "--block-size=1", root), files, files+dirBytes)
		}},
	}
	if _, err := exec.LookPath("gdu"); err == nil {
		rivals = append(rivals, rival{"gdu", func(b *testing.B) { // takes each directory for 4,096 bytes
			same(b, "gdu", runTool(b, "gdu", "-n", "-p", "-s", "-a", "-x", "--no-prefix", root), files, files+4096*dirs)
		}})
	}
	return rivals
}

func runTool(b *testing.B, name string, args ...string) int64 {
	b.Helper()
	out, err := exec.Command(name, args...).Output()
	must(b, err)
	total, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	must(b, err)
	return total
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

func makeWide(b *testing.B, root string) {
	for i := range 100_000 {
		writeFile(b, filepath.Join(root, fmt.Sprintf("file-%06d", i)), int64(i))
	}
}

func makeFolders(b *testing.B, root string) {
	for i := range 100_000 {
		writeFile(b, filepath.Join(root, fmt.Sprintf("d%02d/e%02d/file-%06d", i%20, i/20%25, i)), int64(i))
	}
}

// makeDeepChains makes 200 chains of 100 directories with four files in each.
func makeDeepChains(b *testing.B, root string) {
	for i := range 200 {
		dir := filepath.Join(root, fmt.Sprintf("chain-%03d", i))
		for level := range 100 {
			for file := range 4 {
				writeFile(b, filepath.Join(dir, fmt.Sprintf("file-%d", file)), int64(level))
			}
			dir = filepath.Join(dir, "d")
		}
	}
}

// makePackages makes what a package manager leaves behind: many directories with
// few small files, some packages within others.
func makePackages(b *testing.B, root string) {
	for i := range 100_000 {
		pkg, file := i/50, i%50
		dir := filepath.Join(root, "node_modules", fmt.Sprintf("package-%03d", pkg/5))
		if pkg%5 > 0 {
			dir = filepath.Join(dir, "node_modules", fmt.Sprintf("dependency-%d", pkg%5))
		}
		sub := []string{"", "lib", "dist/esm", "dist/cjs", "test/fixtures", "src/internal/util"}[file%6]
		writeFile(b, filepath.Join(dir, sub, fmt.Sprintf("module-%02d.js", file)), int64(100+file*37))
	}
}

// makeLinks makes 90,000 files, of which 10,000 have a second name elsewhere.
func makeLinks(b *testing.B, root string) {
	for i := range 90_000 {
		path := filepath.Join(root, fmt.Sprintf("d%02d/e%02d/file-%06d", i%20, i/20%25, i))
		writeFile(b, path, int64(i))
		if i%9 == 0 {
			other := filepath.Join(root, fmt.Sprintf("links/l%03d", i%100))
			must(b, os.MkdirAll(other, 0o755))
			must(b, os.Link(path, filepath.Join(other, fmt.Sprintf("link-%06d", i))))
		}
	}
}

// walkOurs takes the cursor after each step, as package metering does.
func walkOurs(b *testing.B, root string, workers int) (bytes int64) {
	b.Helper()
	o := New(nil)
	if workers > 0 {
		o.workers = workers
	}
	src, err := o.Open(b.Context(), source.Tree{Root: root}, nil)
	must(b, err)
	defer func() { must(b, src.Close()) }()
	for done := false; !done; {
		step, err := src.Step(b.Context(), func(e source.Entry) { bytes += e.Size })
		must(b, err)
		done = step.Done
		src.Cursor()
	}
	return bytes
}

// walkDir also returns how many directories there are, and their own sizes.
func walkDir(b *testing.B, root string) (bytes, dirs, dirBytes int64) {
	b.Helper()
	twice := map[uint64]bool{}
	must(b, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		must(b, err)
		st := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // on Unix it is one
		switch {
		case d.IsDir():
			dirs++
			dirBytes += info.Size()
		case st.Nlink > 1 && twice[st.Ino]:
		default:
			twice[st.Ino] = st.Nlink > 1
			bytes += info.Size()
		}
		return nil
	}))
	return bytes, dirs, dirBytes
}
