package metering

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// TestTheNextScanBeginsWhereTheLastOneFoundKeys counts a bucket twice: what the
// first scan has to find out by cutting, the second one knows.
func TestTheNextScanBeginsWhereTheLastOneFoundKeys(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket")
		bucket.splits, bucket.pageSize = true, 10
		for i := range 1000 {
			bucket.put(entry(fmt.Sprintf("%s/models/%d/%04d", f.team, i%7, i), int64(i)))
		}
		p := f.addBucket("bucket")
		service, _ := f.node()
		first := f.scan(service, p.ID)
		second := f.scan(service, p.ID)
		if first.State != purser.ScanDone || second.State != purser.ScanDone || first.Bytes != second.Bytes || second.Objects != 1000 {
			t.Fatalf("first %+v, second %+v", first, second)
		}
		saved, err := f.store.GetCuts(t.Context(), f.team, first.SourceID)
		var cuts [][]byte
		if err != nil || json.Unmarshal(saved, &cuts) != nil || len(cuts) != spansAtOnce-1 {
			t.Errorf("%d cuts, error %v; want %d", len(cuts), err, spansAtOnce-1)
		}
	})
}

func TestStorageClasses(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket")
		bucket.splits = true
		classed := func(key string, size int64, class string, of source.Class) source.Entry {
			return source.Entry{Key: []byte(string(f.team) + "/" + key), Size: size, StorageClass: []byte(class), Class: of}
		}
		bucket.put(
			classed("a", 1, "STANDARD", source.Current), classed("b", 2, "GLACIER", source.Current), classed("c", 4, "STANDARD", source.Current),
			classed("d", 8, "STANDARD", source.Noncurrent), classed("e", 16, "", source.Current), classed("f", 32, "STANDARD", source.Unfinished))
		p := f.addBucket("bucket")
		service, _ := f.node()
		f.scan(service, p.ID)
		want := []purser.StorageClass{
			{Name: "GLACIER", Amount: purser.Amount{Objects: 1, Bytes: 2}},
			{Name: "STANDARD", Amount: purser.Amount{Objects: 2, Bytes: 13}},
		}
		if diff := cmp.Diff(want, f.usage(p.ID).StorageClasses); diff != "" {
			t.Error(diff)
		}
	})
}

func TestStorageClassesAreFew(t *testing.T) {
	t.Parallel()
	var d details
	var page pageDetails
	for i := range 100 {
		page.reset()
		page.count(source.Entry{Key: []byte("k"), Size: 1, StorageClass: fmt.Appendf(nil, "C%d", i)})
		d.merge(&page, &splitReader{&reader{place: &place{}, after: []byte("k")}}, nil)
	}
	classes := d.storageClasses()
	sum := purser.Bytes(0)
	for _, c := range classes {
		sum += c.Bytes
	}
	if len(classes) != maxClasses+1 || sum != 100 {
		t.Errorf("%d classes of together %d bytes", len(classes), sum)
	}
}

// TestCutsAreEven samples the ends of pages on several nodes, and has the cuts
// lie evenly among all pages.
func TestCutsAreEven(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all details
		total := 0
		for node := range rapid.IntRange(1, 4).Draw(t, "nodes") {
			var d details
			for i := range rapid.IntRange(0, 3000).Draw(t, "pages") {
				d.Sample.see(fmt.Appendf(nil, "%d/%06d", node, i))
				total++
			}
			if len(d.Sample.Keys) > maxSample {
				t.Fatalf("a sample has %d keys", len(d.Sample.Keys))
			}
			all.add(d)
		}
		cuts := all.Sample.cuts()
		if !slices.IsSortedFunc(cuts, bytes.Compare) || len(cuts) >= spansAtOnce || len(cuts) > total/pagesPerSpan {
			t.Fatalf("cuts %q of %d pages", cuts, total)
		}
		if total >= 4*spansAtOnce && len(cuts) < spansAtOnce/2-1 {
			t.Fatalf("only %d cuts of %d pages", len(cuts), total)
		}
	})
}

// TestAnUnorderedPlaceHasNoDetails falls back to one chain in the middle.
func TestAnUnorderedPlaceHasNoDetails(t *testing.T) {
	eachDatabase(t, func(t *testing.T, f *fixture) {
		bucket := f.world.set("bucket")
		bucket.splits = true
		for i := range 30 {
			bucket.put(entry(fmt.Sprintf("%s/models/%04d", f.team, i), 1))
		}
		bucket.before = func(_ context.Context, step int) error {
			if step == 4 {
				return &source.Error{ScanError: purser.ScanError{Code: source.CodeUnordered}}
			}
			return nil
		}
		p := f.addBucket("bucket")
		service, _ := f.node()
		scan := f.scan(service, p.ID)
		usage := f.usage(p.ID)
		if scan.State != purser.ScanDone || scan.Objects != 30 || len(usage.Folders) != 0 {
			t.Errorf("%+v, folders %+v", scan, usage.Folders)
		}
	})
}
