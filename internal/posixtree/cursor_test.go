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

// TestAnyCutIsExact makes random trees and walks them in steps and parts of random
// size, with any number of workers, in Sources that are dropped at random and with
// steps that fail at random.
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
		o.partNames = rapid.IntRange(1, 5).Draw(rt, "names in a part")
		o.workers = rapid.IntRange(1, 4).Draw(rt, "workers")
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
	if !step.Done || len(src.Cursor()) != 5 {
		t.Errorf("done %t with a cursor of %d bytes, want 5", step.Done, len(src.Cursor()))
	}
}

// sampleState has of each sort of directory one: whole, cut, and passed through.
func sampleState() state {
	root := &dir{}
	a := &dir{root, "a"}
	b := &dir{root, "b"}
	deep := &dir{a, "deep"}
	return state{
		items: []item{
			{dir: b},
			{dir: root, cut: &cut{parts: 4, left: []uint32{1}, names: &names{}}},
			{dir: &dir{deep, "x"}},
			{dir: root, cut: &cut{parts: 4, left: []uint32{3}, names: &names{}}},
		},
		unreadable: 300,
		links:      map[fileID]uint64{{5, 1000}: 1, {5, 1002}: 2, {7, 3}: 1},
	}
}

func TestCursorForm(t *testing.T) {
	t.Parallel()
	want := "\x02\xac\x02\x00" +
		"\x04\x02\x01\x02" + "\x02" + // the root: parts 1 and 3 of 4; two directories
		"\x01a\x00\x01" + "\x04deep\x00\x01" + "\x01x\x01\x00" +
		"\x01b\x01\x00" +
		"\x05\xe8\x07\x01" + "\x00\x02\x02" + "\x02\x03\x01"
	if got := string(sampleState().encode()); got != want {
		t.Errorf("encode = %q, want %q", got, want)
	}
	back, err := decodeCursor([]byte(want))
	must(t, err)
	var left []string
	for _, it := range back.items {
		text := string(it.dir.appendPath([]byte("/")))
		if it.cut != nil {
			text += fmt.Sprint(" ", it.cut.left, " of ", it.cut.parts)
		}
		left = append(left, text)
	}
	if diff := cmp.Diff([]string{"/ [1 3] of 4", "/a/deep/x/", "/b/"}, left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sampleState().links, back.links, cmp.AllowUnexported(fileID{})); diff != "" || back.unreadable != 300 {
		t.Errorf("unreadable %d, links (-want +got):\n%s", back.unreadable, diff)
	}
}

func TestHostileCursors(t *testing.T) {
	t.Parallel()
	const large = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
	for name, cursor := range map[string]string{
		"nothing":                      "",
		"another version":              "\x01\x00\x00\x01\x00",
		"out of the tree":              "\x02\x00\x00\x00\x01\x02..\x01\x00",
		"the same directory":           "\x02\x00\x00\x00\x01\x01.\x01\x00",
		"a path for a name":            "\x02\x00\x00\x00\x01\x05a/../\x01\x00",
		"an absolute path":             "\x02\x00\x00\x00\x01\x04/etc\x01\x00",
		"a zero byte":                  "\x02\x00\x00\x00\x01\x01\x00\x01\x00",
		"an empty name":                "\x02\x00\x00\x00\x01\x00\x01\x00",
		"a name beyond NAME_MAX":       "\x02\x00\x00\x00\x01\x80\x02" + strings.Repeat("n", 256) + "\x01\x00",
		"more directories than bytes":  "\x02\x00\x00\x01" + large + "\x01a\x01\x00",
		"fewer directories than bytes": "\x02\x00\x00\x01\x02\x01a\x01\x00",
		"a longer name than bytes":     "\x02\x00\x00\x00\x01" + large,
		"directories not in order":     "\x02\x00\x00\x00\x02\x01b\x01\x00\x01a\x01\x00",
		"the same directory twice":     "\x02\x00\x00\x00\x02\x01a\x01\x00\x01a\x01\x00",
		"nothing left in a directory":  "\x02\x00\x00\x00\x01\x01a\x00\x00",
		"three parts":                  "\x02\x00\x00\x03\x01\x00\x00",
		"too many parts":               "\x02\x00\x00\x80\x80\x08\x01\x00\x00",
		"no part left":                 "\x02\x00\x00\x04\x00\x00",
		"more parts left than bytes":   "\x02\x00\x00\x04" + large + "\x00",
		"a part beyond the last":       "\x02\x00\x00\x04\x01\x04\x00",
		"parts that run round again":   "\x02\x00\x00\x04\x02\x01" + large + "\x00",
		"the same part twice":          "\x02\x00\x00\x04\x02\x01\x00\x00",
		"a number of eleven bytes":     "\x02\xff" + large + "\x00\x01\x00",
		"a number in a longer form":    "\x02\x80\x00\x00\x01\x00",
		"a link without names left":    "\x02\x00\x00\x01\x00\x05\x05\x00",
		"the same link twice":          "\x02\x00\x00\x01\x00\x05\x05\x01\x00\x00\x01",
		"half a link":                  "\x02\x00\x00\x01\x00\x05",
		"inodes that run round again":  "\x02\x00\x00\x01\x00\x05\x05\x01\x00" + large + "\x01",
	} {
		if s, err := decodeCursor([]byte(cursor)); err == nil {
			t.Errorf("%s: decoded as %+v", name, s)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add([]byte(""))
	f.Add(beginning().encode())
	f.Add(state{}.encode())
	f.Add(sampleState().encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeCursor(b)
		if err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("%q was decoded but encodes as %q", b, s.encode())
		}
	})
}

// TestPartsAreForEver: a cursor of an older version must mean the same parts.
func TestPartsAreForEver(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]uint32{"": 0x1cd9, "a": 0xcd20, "file-000001": 0x6c66, "\xff\xfe": 0x6b0e} {
		if got := partOf([]byte(name), 1<<16); got != want {
			t.Errorf("%q is in part %#x, not %#x", name, got, want)
		}
	}
	for count, want := range map[int]uint32{0: 0, 1: 0, 2000: 0, 2001: 4, 4001: 8, 1 << 30: maxParts} {
		if got := partsFor(count, 1000); got != want {
			t.Errorf("a directory of %d names is cut into %d parts, not %d", count, got, want)
		}
	}
}

// TestPartsAreEven: names as programs make them must not all come into one part.
func TestPartsAreEven(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"%d", "file-%06d", "img_%x.jpeg", "%08b"} {
		var all names
		for i := range 16_000 {
			all.add(fmt.Appendf(nil, form, i), kindFile)
		}
		for i, part := range all.split(16) {
			if n := len(part.list); n < 500 || n > 2000 {
				t.Errorf("%s: part %d has %d of 16,000 names, want about 1,000", form, i, n)
			}
		}
	}
}
