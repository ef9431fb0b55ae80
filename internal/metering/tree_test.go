package metering

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

// TestMethodOfATree: sums that were begun in one way are not continued in another,
// and the source is told the way.
func TestMethodOfATree(t *testing.T) {
	t.Parallel()
	src := store.Source{TeamID: "t1", TreeCategory: purser.CategoryModel, TreePath: "/srv/{team}"}
	places := map[int64]purser.TreeMethod{}
	for _, method := range append([]purser.TreeMethod{purser.TreeAuto}, purser.TreeMethods...) {
		s := &Service{Options: Options{Trees: []purser.Tree{{Category: src.TreeCategory, Path: src.TreePath, Method: method}}}}
		p, err := s.planTree(src)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(source.Tree{Root: "/srv/t1", Method: method}, p.tree); diff != "" {
			t.Errorf("by %q (-want +got):\n%s", method, diff)
		}
		if other, known := places[p.place]; known {
			t.Errorf("by %q and by %q are the same place", method, other)
		}
		places[p.place] = method
	}
}

func TestEntriesOfManyObjects(t *testing.T) {
	t.Parallel()
	p := page{classify: &classifier{rest: slotOf(purser.CategoryModel)}}
	p.Count(source.Entry{Size: 10, Objects: 7})
	p.Count(source.Entry{Size: 1})
	p.Count(source.Entry{Size: -1, Objects: 5}) // absurd, and not counted
	if diff := cmp.Diff(store.Tallies{purser.CategoryModel: {Objects: 8, Current: 11}}, p.counts.tallies()); diff != "" || !p.absurd {
		t.Errorf("absurd %t, tallies (-want +got):\n%s", p.absurd, diff)
	}
}
