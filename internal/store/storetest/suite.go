// Package storetest is what the two databases promise alike, as tests: the
// conformance suite that internal/store passes on SQLite and on PostgreSQL.
//
// The files are the areas (providers, teams, records, metering, history), and for what
// cuts across them transactions, paging and contention. Each promise gets a team
// of its own, and those that look at all teams a database of their own; so they
// run in parallel.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
)

// promise is one thing that holds on both databases.
type promise struct {
	// name says it.
	name string
	// alone promises need a database that nobody else writes to.
	alone bool
	keep  func(*kit)
}

// Run checks every promise on databases made by open, which are empty and are
// closed by whoever opened them.
func Run(t *testing.T, open func(testing.TB) *store.Store) {
	t.Helper()
	node := func(t testing.TB) []*store.Store { return []*store.Store{open(t)} }
	shared := node(t)
	check(t, "providers", providerPromises, shared, node)
	check(t, "teams", teamPromises, shared, node)
	check(t, "records", recordPromises, shared, node)
	check(t, "metering", meteringPromises, shared, node)
	check(t, "scans", scanPromises, shared, node)
	check(t, "history", historyPromises, shared, node)
	check(t, "paging", pagingPromises, shared, node)
	check(t, "transactions", transactionPromises, shared, node)
	check(t, "contention", contentionPromises, shared, node)
}

// RunNodes checks the promises about contention between the nodes that open
// returns, which are open on one new database.
func RunNodes(t *testing.T, open func(testing.TB) []*store.Store) {
	t.Helper()
	check(t, "contention", contentionPromises, open(t), open)
}

func check(t *testing.T, area string, promises []promise, shared []*store.Store, open func(testing.TB) []*store.Store) {
	t.Helper()
	for _, p := range promises {
		t.Run(area+"/"+p.name, func(t *testing.T) {
			t.Parallel()
			nodes := shared
			if p.alone {
				nodes = open(t)
			}
			p.keep(newKit(t, nodes))
		})
	}
}

// kit is a test with a store and a team in it.
type kit struct {
	*testing.T
	*store.Store
	nodes []*store.Store // on the same database; Store is the first
	team  purser.TeamID
	now   time.Time
}

func newKit(t *testing.T, nodes []*store.Store) *kit {
	k := &kit{T: t, Store: nodes[0], nodes: nodes, now: time.Date(2030, 1, 2, 3, 4, 5, 678901000, time.UTC)}
	k.team = k.newTeam()
	return k
}

// ctx is the test's context.
func (k *kit) ctx() context.Context { return k.Context() }

// do runs fn in a transaction that must succeed. fn runs on another goroutine,
// so it returns its errors rather than end the test.
func (k *kit) do(fn func(*store.Tx) error) {
	k.Helper()
	k.must(k.InTx(k.ctx(), fn))
}

func (k *kit) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

// fails checks the kind of an error, and that its message is for people: not
// empty, unless the fault is ours, and without a word of the database.
func (k *kit) fails(err error, kind purser.Kind) {
	k.Helper()
	if purser.KindOf(err) != kind {
		k.Fatalf("error %v is of kind %q, want %q", err, purser.KindOf(err), kind)
	}
	var e *purser.Error
	if !errors.As(err, &e) {
		k.Fatalf("error %v is not a *purser.Error", err)
	}
	if !slices.Contains(messages, e.Message) {
		k.Fatalf("message %q is none that the store is known to give; if it is new and fit for people, add it here", e.Message)
	}
}

// messages are all that people are told by the store while it runs.
var messages = []string{
	"", // ours to explain, in the log
	"No storage provider with this id exists in your team.",
	"No API key with this id exists in your team.",
	"No source with this id exists in your team.",
	"No scan with this id exists in your team.",
	"No team with this id exists.",
	"This contradicts what is stored already.",
	"The request was given up before it was done.",
	"The database cannot take the request right now; nothing was changed. Try again.",
	"The server is shutting down; try again.",
}

func equal[T any](k *kit, what string, got, want T) {
	k.Helper()
	// SQLite gives no bytes as nil.
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		k.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// get returns the result of a read that must succeed.
func get[T any](k *kit) func(T, error) T {
	return func(v T, err error) T {
		k.Helper()
		k.must(err)
		return v
	}
}

func (k *kit) newTeam() purser.TeamID {
	k.Helper()
	team := k.teamValue()
	k.do(func(tx *store.Tx) error { return tx.CreateTeam(k.ctx(), team) })
	return team.ID
}

func (k *kit) teamValue() purser.Team {
	id := purser.NewTeamID()
	return purser.Team{ID: id, Name: "Team " + string(id), Namespace: string(id), TotalFreeStorage: 5 << 30, CreatedAt: k.now}
}

// provider is a provider with every field set, not stored yet.
func (k *kit) provider() purser.Provider {
	return purser.Provider{
		ID: purser.NewProviderID(), TeamID: k.team, Name: "Größe 日本 'quoted'",
		S3: purser.S3Config{
			Endpoint: "https://s3.example.com", Bucket: "bucket", AccessKey: "AKIAEXAMPLE", Region: "ny2",
			RetainData: true, SignatureVersion: "s3v4",
		},
		Version: 1, CreatedAt: k.now, UpdatedAt: k.now,
	}
}

var sealed = []byte{0, 1, 2, 0xff, 0xfe}

func (k *kit) newProvider() purser.Provider {
	k.Helper()
	p := k.provider()
	k.do(func(tx *store.Tx) error { return tx.CreateProvider(k.ctx(), p, sealed) })
	return p
}

// at runs fn n times at once, on the nodes in turn, and returns the errors in
// the order of the calls.
func (k *kit) at(n int, fn func(i int, s *store.Store) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-start
			errs[i] = fn(i, k.nodes[i%len(k.nodes)])
		})
	}
	close(start)
	running.Wait()
	return errs
}

// locked runs fn in a transaction that has locked the team, as every change of a
// team's things does.
func (k *kit) locked(s *store.Store, fn func(*store.Tx) error) error {
	return s.InTx(k.ctx(), func(tx *store.Tx) error {
		if err := tx.LockTeam(k.ctx(), k.team); err != nil {
			return err
		}
		return fn(tx)
	})
}

// named makes the i-th of something in a row of ids that sorts as it counts.
func named[ID ~string](prefix string, i int) ID { return ID(fmt.Sprintf("%s%012d", prefix, i)) }
