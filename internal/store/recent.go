package store

import (
	"context"
	"hash/maphash"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/purserhq/purser"
)

// How much of what was read lately is remembered: together about 40 MB when all
// of it is full, since a provider takes about 500 bytes.
const (
	recentProviders = 32_768
	recentPages     = 2_048
	recentUsages    = 16_384
	// recentPageItems is the longest page that is remembered: a little more than
	// a page has unless somebody asks for more.
	recentPageItems = 25
)

// recent remembers what was read lately of each team, until the team changes.
// SQLite has it, because there this process is the only one that writes: to find
// a row anew costs ten times as much as to know that nothing has changed. A nil
// recent remembers nothing.
type recent struct {
	versions  *versions
	providers *memory[purser.ProviderID, purser.Provider]
	pages     *memory[purser.PageRequest, purser.Page[purser.Provider]]
	usages    *memory[struct{}, TeamUsage]
}

func newRecent() *recent {
	v := &versions{seed: maphash.MakeSeed()}
	return &recent{
		versions:  v,
		providers: newMemory[purser.ProviderID, purser.Provider](v, recentProviders),
		pages:     newMemory[purser.PageRequest, purser.Page[purser.Provider]](v, recentPages),
		usages:    newMemory[struct{}, TeamUsage](v, recentUsages),
	}
}

// versions count the commits that changed something of a team. Teams share a
// counter by chance, which costs a look-up that was not needed and nothing else.
// While a commit is under way its counters are odd: whoever reads then may see
// the team before or after it, so that what is read is neither kept nor answered
// from memory.
type versions struct {
	seed     maphash.Seed
	counters [1024]atomic.Uint64
}

func (v *versions) of(team string) *atomic.Uint64 {
	return &v.counters[maphash.String(v.seed, team)%uint64(len(v.counters))]
}

// touched are the counters of what one transaction has changed. A nil touched
// keeps no account.
type touched map[*atomic.Uint64]struct{}

// step moves the counters on: to odd before the commit, and to even after it.
func (t touched) step() {
	for counter := range t {
		counter.Add(1)
	}
}

// memory is the answers to one question, the least lately used ones forgotten.
type memory[K comparable, V any] struct {
	versions *versions
	answers  *lru.Cache[about[K], answer[V]]
}

// about is what was asked.
type about[K comparable] struct {
	team purser.TeamID
	key  K
}

// answer is what was found when the team's counter stood at version.
type answer[V any] struct {
	version uint64
	value   V
}

func newMemory[K comparable, V any](v *versions, size int) *memory[K, V] {
	answers, err := lru.New[about[K], answer[V]](size)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &memory[K, V]{v, answers}
}

// get returns what is remembered, or reads it, and remembers it if it is worth
// it. Failures are not remembered.
func (m *memory[K, V]) get(team purser.TeamID, key K, worth func(V) bool, read func() (V, error)) (V, error) {
	counter, asked := m.versions.of(string(team)), about[K]{team, key}
	version := counter.Load()
	if known, ok := m.answers.Get(asked); ok && known.version == version {
		return known.value, nil
	}
	value, err := read()
	if err == nil && version%2 == 0 && counter.Load() == version && worth(value) {
		m.answers.Add(asked, answer[V]{version, value})
	}
	return value, err
}

func always[V any](V) bool { return true }

// GetProvider returns a team's provider; KindNotFound if the team has none with
// this id.
func (s *Store) GetProvider(ctx context.Context, team purser.TeamID, id purser.ProviderID) (purser.Provider, error) {
	read := func() (purser.Provider, error) { return s.reads.GetProvider(ctx, team, id) }
	if s.recent == nil {
		return read()
	}
	return s.recent.providers.get(team, id, always, read)
}

// ListProviders returns a page of a team's providers. Its items are shared: they
// must not be changed.
func (s *Store) ListProviders(ctx context.Context, team purser.TeamID, page purser.PageRequest) (purser.Page[purser.Provider], error) {
	read := func() (purser.Page[purser.Provider], error) { return s.reads.ListProviders(ctx, team, page) }
	if s.recent == nil {
		return read()
	}
	short := func(p purser.Page[purser.Provider]) bool { return len(p.Items) <= recentPageItems }
	return s.recent.pages.get(team, page, short, read)
}

// GetTeamUsage returns a team's counters.
func (s *Store) GetTeamUsage(ctx context.Context, team purser.TeamID) (TeamUsage, error) {
	read := func() (TeamUsage, error) { return s.reads.GetTeamUsage(ctx, team) }
	if s.recent == nil {
		return read()
	}
	return s.recent.usages.get(team, struct{}{}, always, read)
}
