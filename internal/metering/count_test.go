package metering

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

func TestSlotsMatchCategories(t *testing.T) {
	t.Parallel()
	if slotCount != len(purser.Categories)+1 {
		t.Fatalf("slotCount is %d, categories are %d", slotCount, len(purser.Categories))
	}
	for _, category := range append([]purser.Category{purser.CategoryUnmatched}, purser.Categories...) {
		if got := slotOf(category).category(); got != category {
			t.Errorf("%q comes back as %q", category, got)
		}
	}
}

func TestCategories(t *testing.T) {
	t.Parallel()
	const team = purser.TeamID("tea000000000001")
	own := []purser.MeteringRule{
		{Category: purser.CategoryModel, Prefix: "data/models/"},
		{Category: purser.CategoryDataset, Prefix: "data/"},
		{Category: purser.CategorySharedStorage, Prefix: "data/models/never/"},
	}
	all := []purser.MeteringRule{{Category: purser.CategoryNotebookWorkspace, Prefix: ""}}
	for _, c := range []struct {
		name    string
		managed bool
		rules   []purser.MeteringRule
		key     string
		want    purser.Category
	}{
		{"datasets of the folder", false, nil, "tea000000000001/datasets/a", purser.CategoryDataset},
		{"models of the folder", false, nil, "tea000000000001/models/a/b", purser.CategoryModel},
		{"notebooks of the folder", false, nil, "tea000000000001/notebooks/a", purser.CategoryNotebookWorkspace},
		{"something else in the folder", false, nil, "tea000000000001/a", purser.CategorySharedStorage},
		{"the folder's own marker", false, nil, "tea000000000001/", purser.CategorySharedStorage},
		{"a name that only begins like a category", false, nil, "tea000000000001/datasets2/a", purser.CategorySharedStorage},
		{"a category without its slash", false, nil, "tea000000000001/datasets", purser.CategorySharedStorage},
		{"outside the folder", false, nil, "b", purser.CategoryUnmatched},
		{"outside the folder of managed storage", true, nil, "b", purser.CategorySharedStorage},
		{"a category on managed storage", true, nil, "tea000000000001/models/a", purser.CategoryModel},
		{"a category outside the folder of managed storage", true, nil, "models/a", purser.CategorySharedStorage},
		{"own rules, the first that matches", false, own, "data/models/a", purser.CategoryModel},
		{"own rules, a later one", false, own, "data/a", purser.CategoryDataset},
		{"own rules, one that an earlier one hides", false, own, "data/models/never/a", purser.CategoryModel},
		{"own rules, none matches", false, own, "other", purser.CategoryUnmatched},
		{"own rules replace the default ones", false, own, "tea000000000001/models/a", purser.CategoryUnmatched},
		{"own rules on managed storage", true, own, "other", purser.CategoryUnmatched},
		{"a rule for everything", false, all, "\xff\x00", purser.CategoryNotebookWorkspace},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &Service{Options: Options{Sites: purser.NewSites()}}
			p := s.planBucket(store.Source{TeamID: team, ProviderID: "spl000000000001"},
				purser.Provider{TeamID: team, Managed: c.managed, S3: purser.S3Config{Bucket: "bucket"}}, store.Credential{}, c.rules)
			if got := p.classify.slot([]byte(c.key)).category(); got != c.want {
				t.Errorf("%q counts as %q, want %q", c.key, got, c.want)
			}
			wantPrefix := ""
			if !c.managed && c.rules == nil {
				wantPrefix = string(team) + "/"
			}
			if p.bucket.Prefix != wantPrefix {
				t.Errorf("lists %q, want %q", p.bucket.Prefix, wantPrefix)
			}
		})
	}
}

func TestPlaceChangesWithWhatIsMeasured(t *testing.T) {
	t.Parallel()
	s := &Service{Options: Options{Sites: purser.NewSites(purser.Site{Name: "ny2", Endpoint: "https://ny2.example.com"})}}
	base := purser.Provider{Name: "a", Version: 1, S3: purser.S3Config{Bucket: "bucket", Endpoint: "https://a.example.com"}}
	place := func(change func(*purser.Provider), rules ...purser.MeteringRule) int64 {
		p := base
		change(&p)
		return s.planBucket(store.Source{}, p, store.Credential{}, rules).place
	}
	same := place(func(*purser.Provider) {})
	for name, got := range map[string]int64{
		"name":    place(func(p *purser.Provider) { p.Name, p.Version = "b", 2 }),
		"key":     place(func(p *purser.Provider) { p.S3.AccessKey = "other" }),
		"default": place(func(p *purser.Provider) { p.TeamDefault = true }),
	} {
		if got != same {
			t.Errorf("another %s is another place", name)
		}
	}
	for name, got := range map[string]int64{
		"bucket":   place(func(p *purser.Provider) { p.S3.Bucket = "bucket2" }),
		"endpoint": place(func(p *purser.Provider) { p.S3.Endpoint = "" }),
		"site":     place(func(p *purser.Provider) { p.S3.Endpoint, p.S3.Region = "", "ny2" }),
		"managed":  place(func(p *purser.Provider) { p.Managed = true }),
		"rules":    place(func(*purser.Provider) {}, purser.MeteringRule{Category: purser.CategoryModel, Prefix: "m/"}),
	} {
		if got == same {
			t.Errorf("another %s is the same place", name)
		}
	}
}

func TestCategoriesAddUpToWhatWasHandedOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prefixes := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "a/", "ab", "b/", "\xff"}), 0, 4).Draw(t, "prefixes")
		classify := classifier{rest: unmatched}
		for _, prefix := range prefixes {
			classify.add(prefix, rapid.SampledFrom(purser.Categories).Draw(t, "category"))
		}
		entries := rapid.SliceOf(rapid.Custom(func(t *rapid.T) source.Entry {
			return source.Entry{
				Key:  []byte(rapid.StringMatching(`[ab/]{0,4}`).Draw(t, "key")),
				Size: rapid.OneOf(rapid.Int64Range(0, 9), rapid.Int64Range(0, maxSourceBytes), rapid.Int64()).Draw(t, "size"),
			}
		})).Draw(t, "entries")
		p := page{classify: &classify}
		var bytes, objects int64
		for _, e := range entries {
			p.Count(e)
			if e.Size >= 0 && e.Size <= maxSourceBytes-bytes {
				bytes, objects = bytes+e.Size, objects+1
			} else if !p.absurd {
				t.Fatalf("size %d after %d bytes passed", e.Size, bytes)
			}
		}
		var total purser.Bytes
		var number int64
		for _, tally := range p.counts.tallies() {
			total, number = total+tally.Bytes(), number+tally.Objects
		}
		if int64(total) != bytes || number != objects || p.counts.bytes != bytes {
			t.Fatalf("categories hold %d bytes in %d objects, handed out were %d in %d", total, number, bytes, objects)
		}
		if diff := cmp.Diff(p.counts, countsOf(p.counts.tallies()), cmp.AllowUnexported(counts{})); diff != "" {
			t.Fatalf("sums change when stored: %s", diff)
		}
	})
}

func TestCountsNeverOverflow(t *testing.T) {
	t.Parallel()
	var sum counts
	for i := range 100 {
		var one counts
		if !one.add(0, source.Current, maxSourceBytes) {
			t.Fatal("the limit itself is refused")
		}
		if merged := sum.merge(&one); merged != (i == 0) {
			t.Fatalf("merge %d: %t", i, merged)
		}
	}
	if sum.add(1, source.Current, 1) || sum.add(1, source.Current, math.MaxInt64) || sum.add(1, source.Current, -1) || sum.bytes != maxSourceBytes {
		t.Errorf("counts went past the limit: %+v", sum)
	}
}

func TestRetryDelay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		failures    int64
		asked, want string
	}{
		{1, "0s", "2s"},
		{2, "0s", "4s"},
		{6, "0s", "64s"},
		{7, "0s", "2m"},
		{1000, "0s", "2m"},
		{1, "30s", "30s"},
		{1, "24h", "5m"},
	} {
		t.Run(fmt.Sprintf("%d failures, asked for %s", c.failures, c.asked), func(t *testing.T) {
			t.Parallel()
			want := duration(t, c.want)
			for range 100 {
				got := retryDelay(defaultTimes.retry, c.failures, duration(t, c.asked))
				if got < want*9/10 || got > want*11/10 {
					t.Fatalf("waits %s, want %s", got, want)
				}
			}
		})
	}
}

func TestJitterSpreads(t *testing.T) {
	t.Parallel()
	const interval = 3600_000_000_000
	lowest, highest := int64(math.MaxInt64), int64(0)
	for range 1000 {
		d := int64(jitter(interval))
		lowest, highest = min(lowest, d), max(highest, d)
	}
	if lowest < interval*9/10 || highest > interval*11/10 || lowest > interval*95/100 || highest < interval*105/100 {
		t.Errorf("an hour becomes %d to %d", lowest, highest)
	}
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
