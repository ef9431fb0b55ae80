package folders_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/folders"
)

type object struct {
	key  string
	size int64
}

// expected finds the biggest folders the plain way.
func expected(objects []object, skip int) []purser.FolderLevel {
	levels := []purser.FolderLevel{}
	for depth := range folders.Depths {
		sums, rest := map[string]purser.Amount{}, purser.Amount{}
		for _, o := range objects {
			end := skip
			for range depth + 1 {
				i := bytes.IndexByte([]byte(o.key[end:]), '/')
				if i < 0 {
					end = -1
					break
				}
				end += i + 1
			}
			if end < 0 {
				rest = plus(rest, o.size)
				continue
			}
			sums[o.key[:end]] = plus(sums[o.key[:end]], o.size)
		}
		if len(sums) == 0 {
			break
		}
		var all []purser.Folder
		for path, amount := range sums {
			all = append(all, purser.Folder{Path: path, Amount: amount})
		}
		slices.SortFunc(all, func(a, b purser.Folder) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path))
		})
		level := purser.FolderLevel{Biggest: all[:min(len(all), folders.Biggest)], Rest: rest}
		for _, f := range all[len(level.Biggest):] {
			level.Rest.Objects += f.Objects
			level.Rest.Bytes += f.Bytes
		}
		levels = append(levels, level)
	}
	return levels
}

func plus(a purser.Amount, size int64) purser.Amount {
	return purser.Amount{Objects: a.Objects + 1, Bytes: a.Bytes + purser.Bytes(size)}
}

// TestTheBiggestAreFound counts places in spans that are cut anywhere, in pages
// of any length, by several tables that are saved and pruned at any time.
func TestTheBiggestAreFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const prefix = "team/"
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		names, largest := rapid.IntRange(1, 40).Draw(t, "names"), rapid.SampledFrom([]int64{1, 4, 1 << 40}).Draw(t, "largest")
		var objects []object
		for i := range rapid.IntRange(1, 600).Draw(t, "objects") {
			key := prefix
			for range random.IntN(folders.Depths + 2) {
				key += fmt.Sprintf("%d/", random.IntN(names))
			}
			objects = append(objects, object{fmt.Sprintf("%s%d", key, i), random.Int64N(largest)})
		}
		slices.SortFunc(objects, func(a, b object) int { return cmp.Compare(a.key, b.key) })

		// Each span belongs to one of the tables.
		type span struct{ at, end, table int }
		tables := make([]folders.Table, 3)
		for i := range tables {
			tables[i].Skip = len(prefix)
		}
		var spans []*span
		cuts := append(rapid.SliceOfN(rapid.IntRange(1, len(objects)), 0, 8).Draw(t, "cuts"), len(objects))
		slices.Sort(cuts)
		begin := 0
		for _, end := range cuts {
			spans = append(spans, &span{begin, end, rapid.IntRange(0, len(tables)-1).Draw(t, "table")})
			begin = end
		}
		bounds := cuts[:len(cuts)-1]
		edges := func() iter.Seq[[]byte] {
			return func(yield func([]byte) bool) {
				for _, s := range spans {
					if s.at < s.end && s.at > 0 && !yield([]byte(objects[s.at-1].key)) {
						return
					}
				}
				for _, b := range bounds {
					if !yield([]byte(objects[b-1].key)) {
						return
					}
				}
			}
		}
		page := folders.Page{Skip: len(prefix)}
		for left := slices.Clone(spans); len(left) > 0; {
			i := random.IntN(len(left))
			s := left[i]
			page.Reset()
			for end := min(s.end, s.at+random.IntN(30)+1); s.at < end; s.at++ {
				page.Count([]byte(objects[s.at].key), 1, objects[s.at].size)
			}
			table := &tables[s.table]
			table.Merge(&page, edges)
			if random.IntN(2) == 0 {
				table.Prune(edges())
			}
			if random.IntN(2) == 0 {
				text, err := json.Marshal(table)
				*table = folders.Table{Skip: len(prefix)}
				if err != nil || json.Unmarshal(text, table) != nil {
					t.Fatalf("a table does not come back: %v", err)
				}
			}
			if s.at == s.end {
				left = slices.Delete(left, i, i+1)
			}
		}
		var all folders.Table
		for _, table := range tables {
			all.Add(table)
		}
		if diff := gocmp.Diff(expected(objects, len(prefix)), all.Levels()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestMemoryIsBounded counts a folder for each object.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var table folders.Table
	page, last := folders.Page{}, []byte(nil)
	edges := func() iter.Seq[[]byte] { return slices.Values([][]byte{last}) }
	largest := 0
	for i := range 200_000 {
		last = fmt.Appendf(last[:0], "%06d/x", i)
		page.Count(last, 1, int64(i)) // each is bigger than all before
		if i%1000 == 999 {
			table.Merge(&page, edges)
			page.Reset()
			text, err := json.Marshal(&table)
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, len(text))
		}
	}
	if largest > 150_000 {
		t.Errorf("a table grew to %d bytes", largest)
	}
	if got := table.Levels()[0]; got.Biggest[0].Path != "199999/" || got.Rest.Objects != 200_000-folders.Biggest {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkCount(b *testing.B) {
	for name, format := range map[string]string{"one folder": "team/datasets/images/%08d", "a folder each": "team/datasets/%08d/x"} {
		b.Run(name, func(b *testing.B) {
			var keys [1000][]byte
			for i := range keys {
				keys[i] = fmt.Appendf(nil, format, i)
			}
			page, table := folders.Page{Skip: len("team/")}, folders.Table{Skip: len("team/")}
			edges := func() iter.Seq[[]byte] { return slices.Values(keys[999:]) }
			b.ReportAllocs()
			for b.Loop() {
				page.Reset()
				for _, key := range keys {
					page.Count(key, 1, 100)
				}
				table.Merge(&page, edges)
			}
		})
	}
}
