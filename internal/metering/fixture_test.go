package metering

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
	"github.com/purserhq/purser/internal/change"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/seal"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

// canary is the secret of every provider in these tests.
const canary = "canary-secret-3f9a"

// quick are rhythms for tests that do not look at one of them.
var quick = times{
	slice: time.Second, grace: time.Second, most: time.Second, save: 5 * time.Millisecond, lease: 500 * time.Millisecond, offer: 5 * time.Second,
	watch: 20 * time.Millisecond, tick: 60 * time.Millisecond, poll: 25 * time.Millisecond, trees: 50 * time.Millisecond,
	clean: time.Hour, retry: time.Millisecond, stop: 5 * time.Second, day: 24 * time.Hour,
}

// fixture is a database with one team, and the places it may measure.
type fixture struct {
	t      testing.TB
	url    string // of a PostgreSQL database; empty for SQLite
	dir    string // of an SQLite database
	store  *store.Store
	world  *world
	team   purser.TeamID
	editor auth.Principal
	logs   *lockedBuffer
	closes map[*store.Store]func()
}

// eachDatabase runs a test on SQLite and on PostgreSQL.
func eachDatabase(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, onSQLite(t)) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, onPostgres(t)) })
}

func onSQLite(t testing.TB) *fixture {
	t.Helper()
	return setup(t, &fixture{t: t, dir: t.TempDir()})
}

func onPostgres(t testing.TB) *fixture {
	t.Helper()
	return setup(t, &fixture{t: t, url: pgtest.URL(t)})
}

func setup(t testing.TB, f *fixture) *fixture {
	t.Helper()
	f.world, f.logs, f.closes = &world{places: map[string]*place{}}, &lockedBuffer{}, map[*store.Store]func(){}
	f.store = f.open()
	f.team = f.addTeam("one")
	f.editor = auth.Principal{KeyID: purser.NewKeyID(), TeamID: f.team, Role: purser.RoleEditor}
	return f
}

// open opens the fixture's database once more, as another node would.
func (f *fixture) open() *store.Store {
	f.t.Helper()
	var s *store.Store
	var err error
	if f.url != "" {
		s, err = store.OpenPostgres(f.t.Context(), f.url, Migrate)
	} else {
		s, err = store.OpenSQLite(f.t.Context(), f.dir, Migrate)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.closes[s] = sync.OnceFunc(func() { _ = s.Close() }) // a store may be closed once only
	f.t.Cleanup(f.closes[s])
	return s
}

// close takes the database away from whoever works on it.
func (f *fixture) close() { f.closes[f.store]() }

func (f *fixture) inTx(fn func(ctx context.Context, tx *store.Tx) error) {
	f.t.Helper()
	ctx := context.Background()
	if err := f.store.InTx(ctx, func(tx *store.Tx) error { return fn(ctx, tx) }); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) addTeam(name string) purser.TeamID {
	f.t.Helper()
	id := purser.NewTeamID()
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		return tx.CreateTeam(ctx, purser.Team{ID: id, Name: name, Namespace: name, TotalFreeStorage: 5 << 30, CreatedAt: time.Now()})
	})
	return id
}

// addBucket registers a bucket whose first scan is due far in the future, so
// that only tests which want the schedule have it.
func (f *fixture) addBucket(bucket string, change ...func(*purser.Provider)) purser.Provider {
	f.t.Helper()
	now := time.Now()
	p := purser.Provider{
		ID: purser.NewProviderID(), TeamID: f.team, Name: bucket, Version: 1, CreatedAt: now, UpdatedAt: now,
		S3: purser.S3Config{Endpoint: "https://s3.example.com", Bucket: bucket, AccessKey: "AK"},
	}
	for _, c := range change {
		c(&p)
	}
	f.inTx(func(ctx context.Context, tx *store.Tx) error {
		if err := tx.CreateProvider(ctx, p, []byte("sealed:"+canary)); err != nil {
			return err
		}
		src := store.Source{TeamID: p.TeamID, ID: purser.NewSourceID(), ProviderID: p.ID, DueAt: now.Add(1000 * time.Hour)}
		if err := tx.CreateSource(ctx, src); err != nil {
			return err
		}
		return tx.RefreshTeamUsage(ctx, p.TeamID)
	})
	return p
}

// service makes a Service on s that is not set to work.
func (f *fixture) service(s *store.Store, change ...func(*Options)) *Service {
	f.t.Helper()
	o := Options{
		Store: s, Changes: newMaker(s), Opener: unsealer{}, OpenBucket: f.world.openBucket, OpenTree: f.world.openTree,
		Sites: purser.NewSites(), Workers: 8, times: quick,
		Logger: slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&o)
	}
	service, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return service
}

// node makes a Service and sets it to work until stop is called, or the test has
// ended.
func (f *fixture) node(change ...func(*Options)) (service *Service, stop func()) {
	f.t.Helper()
	service = f.service(f.store, change...)
	return service, f.run(service)
}

func (f *fixture) run(service *Service) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

func newMaker(s *store.Store) *change.Maker { return change.NewMaker(s, plainSealer{}, time.Now) }

// await asks for the scan until ok accepts it: the database is where the state
// of a scan is, and it sends no word.
func (f *fixture) await(service *Service, scan purser.Scan, ok func(purser.Scan) bool) purser.Scan {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := service.Store.GetScan(context.Background(), scan.TeamID, scan.ID)
		if err != nil {
			f.t.Fatal(err)
		}
		if ok(got) {
			return got
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the scan does not get there: %+v, error %+v\n%s", got, got.Error, f.logs)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func ended(s purser.Scan) bool { return s.State.Ended() }

// scan starts a scan and waits for its end.
func (f *fixture) scan(service *Service, id purser.ProviderID) purser.Scan {
	f.t.Helper()
	return f.await(service, f.start(service, id), ended)
}

func (f *fixture) start(service *Service, id purser.ProviderID) purser.Scan {
	f.t.Helper()
	scan, err := service.Start(context.Background(), f.editor, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return scan
}

// usage returns the published figures, and not what scans have cost since.
func (f *fixture) usage(id purser.ProviderID) purser.SourceUsage {
	f.t.Helper()
	usage, err := f.store.GetSourceUsage(context.Background(), f.team, id)
	if err != nil {
		f.t.Fatal(err)
	}
	usage.Budget = purser.RequestBudget{}
	return usage
}

func (f *fixture) teamUsage() store.TeamUsage {
	f.t.Helper()
	usage, err := f.store.GetTeamUsage(context.Background(), f.team)
	if err != nil {
		f.t.Fatal(err)
	}
	return usage
}

// world is every place there is.
type world struct {
	mu     sync.Mutex
	places map[string]*place // by bucket, or by a tree's root
}

// set puts a place with entries into the world.
func (w *world) set(name string, entries ...source.Entry) *place {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &place{pageSize: 3}
	p.put(entries...)
	w.places[name] = p
	return p
}

func (w *world) openBucket(_ context.Context, b source.Bucket, cursor []byte) (source.Source, error) {
	if b.Secret.Expose() != canary {
		return nil, &source.Error{ScanError: purser.ScanError{Code: source.CodeBadCredentials}}
	}
	src, err := w.open(b.Bucket, b.Prefix, cursor, "list")
	if err != nil {
		return nil, err
	}
	r := src.(*reader)
	if r.until = b.Until; cursor == nil && b.After != nil {
		r.after, r.begun = b.After, true
	}
	if r.place.splits && !b.OneChain {
		return &splitReader{r}, nil
	}
	return r, nil
}

func (w *world) openTree(_ context.Context, t source.Tree, cursor []byte) (source.Source, error) {
	return w.open(t.Root, "", cursor, "walk")
}

func (w *world) open(name, prefix string, cursor []byte, method string) (source.Source, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.places[name]
	if p == nil {
		return nil, &source.Error{ScanError: purser.ScanError{Code: source.CodeNoSuchBucket, Message: "There is no such bucket."}}
	}
	return &reader{place: p, prefix: prefix, after: bytes.TrimPrefix(cursor, []byte("after:")), begun: cursor != nil, method: method}, nil
}

// place is a model of something that can be measured.
type place struct {
	mu         sync.Mutex
	entries    []source.Entry // sorted by key
	pageSize   int
	splits     bool // can be cut, so that how many steps it takes is left to chance
	incomplete *purser.ScanError
	region     string
	// before is called at the beginning of each step, numbered from 1 over all
	// readers, and may fail it.
	before   func(ctx context.Context, step int) error
	steps    int
	requests int64 // that were sent here, of all sorts
}

func (p *place) sent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *place) put(entries ...source.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries = append(p.entries, entries...)
	slices.SortFunc(p.entries, func(a, b source.Entry) int { return bytes.Compare(a.Key, b.Key) })
}

func (p *place) set(change func(*place)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// reader reads a place page by page, like a listing.
type reader struct {
	place  *place
	prefix string
	after  []byte
	until  []byte
	begun  bool
	method string
}

// splitReader is a reader of a bucket, which can be cut anywhere.
type splitReader struct{ *reader }

func (r *splitReader) left() []source.Entry {
	r.place.mu.Lock()
	defer r.place.mu.Unlock()
	var left []source.Entry
	for _, e := range r.place.entries {
		if bytes.Compare(e.Key, r.after) > 0 && (r.until == nil || bytes.Compare(e.Key, r.until) < 0) {
			left = append(left, e)
		}
	}
	return left
}

func (r *splitReader) Full() bool { return false }

func (r *splitReader) Last() []byte { return r.after }

func (r *splitReader) Left() float64 { return float64(len(r.left())) }

func (r *splitReader) Split(context.Context) ([]byte, int64, error) {
	r.place.set(func(p *place) { p.requests++ })
	left := r.left()
	if len(left) == 0 {
		return nil, 1, nil
	}
	r.until = left[len(left)/2].Key
	return r.until, 1, nil
}

func (r *reader) Step(ctx context.Context, count func(source.Entry)) (source.Step, error) {
	p := r.place
	p.mu.Lock()
	p.steps++
	p.requests++
	before, step := p.before, p.steps
	p.mu.Unlock()
	if before != nil {
		if err := before(ctx, step); err != nil {
			return source.Step{Requests: 1}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st := source.Step{Requests: 1, Incomplete: p.incomplete}
	last := r.after
	for n := 0; ; {
		i, _ := slices.BinarySearchFunc(p.entries, last, func(e source.Entry, key []byte) int { return bytes.Compare(e.Key, key) })
		if r.begun && i < len(p.entries) && bytes.Equal(p.entries[i].Key, last) {
			i++
		}
		for i < len(p.entries) && !bytes.HasPrefix(p.entries[i].Key, []byte(r.prefix)) {
			i++
		}
		if i == len(p.entries) || r.until != nil && bytes.Compare(p.entries[i].Key, r.until) > 0 {
			st.Done = true
			break
		}
		if n == p.pageSize {
			break
		}
		count(p.entries[i])
		last, n, r.begun = p.entries[i].Key, n+1, true
	}
	r.after, r.begun = last, true
	return st, nil
}

func (r *reader) Cursor() []byte { return append([]byte("after:"), r.after...) }
func (r *reader) Method() string { return r.method }
func (r *reader) Close() error   { return nil }

func (r *reader) Empty(context.Context) (bool, error) {
	r.place.mu.Lock()
	defer r.place.mu.Unlock()
	r.place.requests++
	return len(r.place.entries) == 0, nil
}

func (r *reader) Detected() purser.Detected {
	return purser.Detected{Region: r.place.region, Addressing: purser.AddressingPath}
}

func entry(key string, size int64) source.Entry { return source.Entry{Key: []byte(key), Size: size} }

// unsealer opens what addBucket sealed.
type unsealer struct{}

func (unsealer) Open(sealed []byte, b seal.Binding) (purser.Secret, error) {
	plain, ok := strings.CutPrefix(string(sealed), "sealed:")
	if !ok || b.Field != "secretAccessKey" || b.Version == 0 || b.Team == "" || b.Provider == "" {
		return purser.Secret{}, &purser.Error{Kind: purser.KindInternal, Message: "does not open"}
	}
	return purser.NewSecret(plain), nil
}

// plainSealer keeps first answers as they are.
type plainSealer struct{}

func (plainSealer) SealAnswer(_ purser.TeamID, _ string, plain []byte) ([]byte, error) {
	return plain, nil
}

func (plainSealer) OpenAnswer(_ purser.TeamID, _ string, sealed []byte) ([]byte, error) {
	return sealed, nil
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*lockedBuffer)(nil)

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
