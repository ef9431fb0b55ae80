package posixtree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/internal/metering/source"
)

// TestAnyCutIsExact makes random trees and walks them in steps of random size,
// in Sources that are dropped at random and with steps that fail at random.
func TestAnyCutIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		root, err := os.MkdirTemp(scratchBase, "posixtree-")
		must(t, err)
		defer func() { must(t, os.RemoveAll(root)) }()
		makeTree(t, rt, root)
		want, allocated := truth(t, root)

		o := New(nil)
		o.stepNames = rapid.IntRange(1, 9).Draw(rt, "names in a step")
		if rapid.Bool().Draw(rt, "untyped") {
			o.readNames = untyped
		}
		got := walkInPieces(t, rt, o, root)
		// Which name of a file counts is the walk's own choice.
		if len(got.Sizes) != len(want) || sum(got.Sizes) != sum(want) || got.Allocated != allocated || got.Incomplete != nil {
			rt.Fatalf("%d files, %d bytes, %d allocated, incomplete %+v; want %d, %d, %d\n%v\n%v",
				len(got.Sizes), sum(got.Sizes), got.Allocated, got.Incomplete, len(want), sum(want), allocated, got.Sizes, want)
		}
	})
}

// makeTree makes a tree of a few dozen directories, files and further names of
// files.
func makeTree(t *testing.T, rt *rapid.T, root string) {
	t.Helper()
	dirs, files := []string{root}, []string(nil)
	names := rapid.SampledFrom([]string{"a", "a.", "a0", "b", "B", "\xff", "\n", "é", "z"})
	for i := range rapid.IntRange(0, 40).Draw(rt, "things") {
		parent := rapid.SampledFrom(dirs).Draw(rt, "parent")
		path := filepath.Join(parent, fmt.Sprintf("%s%d", names.Draw(rt, "name"), i))
		switch what := rapid.IntRange(0, 9).Draw(rt, "what"); {
		case what < 3:
			must(t, os.Mkdir(path, 0o755))
			dirs = append(dirs, path)
		case what < 7 && len(files) > 0:
			must(t, os.Link(rapid.SampledFrom(files).Draw(rt, "file"), path))
		case what < 8:
			must(t, os.Symlink(rapid.SampledFrom(dirs).Draw(rt, "target"), path))
		default:
			writeFile(t, path, rapid.Int64Range(0, 1<<20).Draw(rt, "size"))
			files = append(files, path)
		}
	}
}

func walkInPieces(t *testing.T, rt *rapid.T, o *Opener, root string) result {
	t.Helper()
	got, cursor := result{Sizes: map[string]int64{}}, []byte(nil)
	for done := false; !done; {
		src, err := o.Open(t.Context(), source.Tree{Root: root}, cursor)
		must(t, err)
		for more := true; more && !done; more = rapid.Bool().Draw(rt, "stay") {
			done = stepOrFail(t, rt, src, &got)
			cursor = src.Cursor()
		}
		must(t, src.Close())
	}
	return got
}

// stepOrFail takes one step, perhaps after one that is cancelled half-way.
func stepOrFail(t *testing.T, rt *rapid.T, src source.Source, got *result) (done bool) {
	t.Helper()
	if rapid.IntRange(0, 3).Draw(rt, "fail") == 0 {
		before := src.Cursor()
		ctx, cancel := context.WithCancel(t.Context())
		step := result{Sizes: map[string]int64{}}
		found, err := src.Step(ctx, func(e source.Entry) { cancel(); step.count(e) })
		cancel()
		if err == nil {
			for key, size := range step.Sizes {
				got.count(source.Entry{Key: []byte(key), Size: size})
			}
			got.Allocated += step.Allocated
			return found.Done
		}
		if !errors.Is(err, context.Canceled) || !bytes.Equal(before, src.Cursor()) {
			rt.Fatalf("a cancelled step: %v, cursor %q, before %q", err, src.Cursor(), before)
		}
	}
	found, err := src.Step(t.Context(), got.count)
	must(t, err)
	return found.Done
}

func TestCursorsOfTheEndAreSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for i := range 50 {
		writeFile(t, filepath.Join(root, fmt.Sprint(i)), 1)
		must(t, os.Link(filepath.Join(root, fmt.Sprint(i)), filepath.Join(dir, fmt.Sprint(i))))
	}
	src, err := New(nil).Open(t.Context(), source.Tree{Root: root}, nil)
	must(t, err)
	defer func() { must(t, src.Close()) }()
	step, err := src.Step(t.Context(), func(source.Entry) {})
	must(t, err)
	if !step.Done || len(src.Cursor()) != 4 {
		t.Errorf("done %t with a cursor of %d bytes, want 4", step.Done, len(src.Cursor()))
	}
}

func TestCursorForm(t *testing.T) {
	t.Parallel()
	s := state{
		at:         position{"dir", "file"},
		unreadable: 300,
		links:      map[fileID]uint64{{5, 1000}: 1, {5, 1002}: 2, {7, 3}: 1},
	}
	want := "\x01\xac\x02\x00\x02\x03dir\x04file" + "\x05\xe8\x07\x01" + "\x00\x02\x02" + "\x02\x03\x01"
	if got := string(s.encode()); got != want {
		t.Errorf("encode = %q, want %q", got, want)
	}
	back, err := decodeCursor([]byte(want))
	must(t, err)
	if diff := cmp.Diff(s, back, cmp.AllowUnexported(state{}, fileID{})); diff != "" {
		t.Errorf("decode (-want +got):\n%s", diff)
	}
}

func TestHostileCursors(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]string{
		"nothing":                     "",
		"another version":             "\x02\x00\x00\x01\x00",
		"out of the tree":             "\x01\x00\x00\x02\x02..\x00",
		"the same directory":          "\x01\x00\x00\x02\x01.\x00",
		"a path for a name":           "\x01\x00\x00\x02\x05a/../\x00",
		"an absolute path":            "\x01\x00\x00\x02\x04/etc\x00",
		"a zero byte":                 "\x01\x00\x00\x01\x01\x00",
		"an empty directory name":     "\x01\x00\x00\x02\x00\x01a",
		"a name beyond NAME_MAX":      "\x01\x00\x00\x01\x80\x02" + strings.Repeat("n", 256),
		"more names than bytes":       "\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
		"a longer name than bytes":    "\x01\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"a number of eleven bytes":    "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00\x01\x00",
		"a number in a longer form":   "\x01\x80\x00\x00\x01\x00",
		"a link without names left":   "\x01\x00\x00\x01\x00\x05\x05\x00",
		"the same link twice":         "\x01\x00\x00\x01\x00\x05\x05\x01\x00\x00\x01",
		"half a link":                 "\x01\x00\x00\x01\x00\x05",
		"inodes that run round again": "\x01\x00\x00\x01\x00\x05\x05\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01",
	} {
		if s, err := decodeCursor([]byte(cursor)); err == nil {
			t.Errorf("%s: decoded as %+v", name, s)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add([]byte(""))
	f.Add(beginning().encode())
	f.Add(state{at: position{"a", "b", ""}, leftOut: 1, links: map[fileID]uint64{{1, 2}: 3}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeCursor(b)
		if err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("%q was decoded but encodes as %q", b, s.encode())
		}
	})
}
