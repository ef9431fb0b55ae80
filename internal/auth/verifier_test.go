package auth_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are API keys in memory.
type keys struct {
	mu     sync.Mutex
	stored map[purser.KeyID]purser.StoredKey
	finds  int
	// before is called before a key is looked up; nil for nothing.
	before func(ctx context.Context) error
}

func (k *keys) FindKey(ctx context.Context, id purser.KeyID) (purser.StoredKey, error) {
	k.mu.Lock()
	k.finds++
	stored, found := k.stored[id] // as it is when the question comes, not the answer
	before := k.before
	k.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return purser.StoredKey{}, err
		}
	}
	if !found {
		return purser.StoredKey{}, purser.NotFound("store.FindKey", "API key")
	}
	return stored, nil
}

// create adds a key and returns it with its token.
func (k *keys) create(expiresAt time.Time) (purser.APIKey, string) {
	id, token, hash := auth.NewKey()
	key := purser.APIKey{ID: id, TeamID: "tea000000000001", Role: purser.RoleEditor, ExpiresAt: expiresAt}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stored == nil {
		k.stored = make(map[purser.KeyID]purser.StoredKey)
	}
	k.stored[id] = purser.StoredKey{APIKey: key, Hash: hash}
	return key, token.Expose()
}

func (k *keys) revoke(id purser.KeyID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.stored, id)
}

func (k *keys) asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.finds
}

func (k *keys) setBefore(before func(context.Context) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before = before
}

// clock is a clock that stands still unless it is told to move.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) now() time.Time               { return time.UnixMicro(c.micros.Load()).UTC() }
func (c *clock) advance(d time.Duration)      { c.micros.Add(d.Microseconds()) }
func (c *clock) in(d time.Duration) time.Time { return c.now().Add(d) }

func setup() (*keys, *clock, *auth.Verifier) {
	k, c := &keys{}, newClock()
	return k, c, auth.NewVerifier(k, c.now, auth.LifeShared)
}

func principalOf(k purser.APIKey) auth.Principal {
	return auth.Principal{KeyID: k.ID, TeamID: k.TeamID, Role: k.Role}
}

func mustVerify(t testing.TB, v *auth.Verifier, token string, want purser.APIKey) {
	t.Helper()
	if got, err := v.Verify(t.Context(), token); err != nil || got != principalOf(want) {
		t.Fatalf("Verify = %+v, %v; want %+v", got, err, principalOf(want))
	}
}

func mustRefuse(t testing.TB, v *auth.Verifier, token string) {
	t.Helper()
	mustFail(t, v, token, purser.KindUnauthenticated)
}

func mustFail(t testing.TB, v *auth.Verifier, token string, kind purser.Kind) {
	t.Helper()
	if got, err := v.Verify(t.Context(), token); purser.KindOf(err) != kind || got != (auth.Principal{}) {
		t.Fatalf("Verify = %+v, %v; want %s and nobody", got, err, kind)
	}
}

func TestBadKeysCannotBeToldApart(t *testing.T) {
	t.Parallel()
	k, c, v := setup()
	good, token := k.create(c.in(time.Hour))
	mustVerify(t, v, token, good)
	_, expired := k.create(c.now())
	revoked, revokedToken := k.create(time.Time{})
	k.revoke(revoked.ID)
	_, unknown, _ := auth.NewKey()
	short, shortToken := k.create(time.Time{})
	k.stored[short.ID] = purser.StoredKey{APIKey: short, Hash: k.stored[short.ID].Hash[:31]}
	empty, emptyToken := k.create(time.Time{})
	k.stored[empty.ID] = purser.StoredKey{APIKey: empty}

	tests := map[string]struct {
		token string
		finds int
	}{
		"missing":                {"", 0},
		"malformed":              {"Bearer", 0},
		"wrong checksum":         {token[:len(token)-6] + "000000", 0},
		"very long":              {strings.Repeat("x", 1<<16), 0},
		"unknown":                {unknown.Expose(), 1},
		"expired":                {expired, 1},
		"revoked":                {revokedToken, 1},
		"id of another's key":    {encode(string(good.ID), strings.Repeat("0", 43)), 1},
		"stored hash cut short":  {shortToken, 1},
		"stored hash is missing": {emptyToken, 1},
	}
	var first error
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		for range 2 { // a refusal is not remembered either
			before := k.asked()
			got, err := v.Verify(t.Context(), tests[name].token)
			if purser.KindOf(err) != purser.KindUnauthenticated || got != (auth.Principal{}) {
				t.Errorf("%s: Verify = %+v, %v", name, got, err)
			}
			if first == nil {
				first = err
			}
			if diff := cmp.Diff(first, err); diff != "" {
				t.Errorf("%s: another error than for the others (-want +got):\n%s", name, diff)
			}
			if finds := k.asked() - before; finds != tests[name].finds {
				t.Errorf("%s: asked the store %d times, want %d", name, finds, tests[name].finds)
			}
		}
	}
	if used := v.TakeUsed(); len(used) != 1 {
		t.Errorf("%d keys count as used, want the good one", len(used))
	}
}

func TestStoreThatCannotTell(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want purser.Kind
	}{
		"unavailable": {purser.Errorf(purser.KindUnavailable, "store", "Try again."), purser.KindUnavailable},
		"broken":      {errors.New("no such column"), purser.KindInternal},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c, v := setup()
			key, token := k.create(time.Time{})
			mustVerify(t, v, token, key)
			c.advance(time.Second)
			k.setBefore(func(context.Context) error { return test.err })
			mustFail(t, v, token, test.want)
			_, unknown, _ := auth.NewKey()
			mustFail(t, v, unknown.Expose(), test.want)
			k.setBefore(nil)
			mustVerify(t, v, token, key)
		})
	}
}

func TestStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keys{}
		v := auth.NewVerifier(k, time.Now, auth.LifeShared)
		key, token := k.create(time.Time{})
		k.setBefore(func(ctx context.Context) error {
			<-ctx.Done()
			return &purser.Error{Kind: purser.KindCanceled, Op: "store", Err: ctx.Err()}
		})
		mustFail(t, v, token, purser.KindUnavailable)
		k.setBefore(nil)
		mustVerify(t, v, token, key)
	})
}

func TestStoreThatPanics(t *testing.T) {
	t.Parallel()
	k, _, v := setup()
	_, token := k.create(time.Time{})
	k.setBefore(func(context.Context) error { panic("driver") })
	mustFail(t, v, token, purser.KindInternal)
}

func TestVerifiedKeyIsBelievedForLessThanASecond(t *testing.T) {
	t.Parallel()
	k, c, v := setup()
	key, token := k.create(time.Time{})
	steps := []struct {
		advance time.Duration
		finds   int
	}{
		{0, 1},
		{0, 1},
		{899 * time.Millisecond, 1},
		{time.Millisecond, 2},
		{899 * time.Millisecond, 2}, // a use does not prolong it
		{-time.Hour, 3},             // the clock was set back: nobody knows how old it is
	}
	for i, step := range steps {
		c.advance(step.advance)
		mustVerify(t, v, token, key)
		if got := k.asked(); got != step.finds {
			t.Errorf("step %d: asked the store %d times in all, want %d", i, got, step.finds)
		}
	}
}

func TestRevocationTakesEffectWithinASecond(t *testing.T) {
	t.Parallel()
	k, c, v := setup()
	key, token := k.create(time.Time{})
	mustVerify(t, v, token, key)
	k.revoke(key.ID) // on another node: this one is not told
	for waited := time.Duration(0); waited < time.Second; waited += 50 * time.Millisecond {
		_, _ = v.Verify(t.Context(), token) // busy keys must not stay longer
		c.advance(50 * time.Millisecond)
	}
	mustRefuse(t, v, token)
}

// The answer of a slow store is as old as the question. Whoever comes after the
// revocation must not be let in by an answer from before it.
func TestRevocationWhileTheStoreIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keys{}
		v := auth.NewVerifier(k, time.Now, auth.LifeShared)
		key, token := k.create(time.Time{})
		release := make(chan struct{})
		k.setBefore(func(context.Context) error { <-release; return nil })
		early := verifyAsync(t.Context(), v, token)
		synctest.Wait()
		k.revoke(key.ID)
		time.Sleep(time.Second) // of the bubble's clock
		late := verifyAsync(t.Context(), v, token)
		synctest.Wait()
		close(release)
		if err := <-early; err != nil {
			t.Errorf("who came before the revocation got %v", err)
		}
		if err := <-late; purser.KindOf(err) != purser.KindUnauthenticated {
			t.Errorf("who came a second after the revocation got %v", err)
		}
	})
}

func verifyAsync(ctx context.Context, v *auth.Verifier, token string) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := v.Verify(ctx, token)
		result <- err
	}()
	return result
}

func TestForgetTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	k, _, v := setup()
	key, token := k.create(time.Time{})
	other, otherToken := k.create(time.Time{})
	mustVerify(t, v, token, key)
	mustVerify(t, v, otherToken, other)
	k.revoke(key.ID)
	v.Forget(key.ID)
	mustRefuse(t, v, token)
	before := k.asked()
	mustVerify(t, v, otherToken, other)
	if k.asked() != before {
		t.Error("another key was forgotten too")
	}
}

// A question that was under way when the key was revoked brings it neither back
// into the cache nor to those who come later.
func TestForgetWhileTheStoreIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keys{}
		v := auth.NewVerifier(k, time.Now, auth.LifeShared)
		key, token := k.create(time.Time{})
		release := make(chan struct{})
		k.setBefore(func(context.Context) error { <-release; return nil })
		early := verifyAsync(t.Context(), v, token)
		synctest.Wait()
		k.revoke(key.ID)
		v.Forget(key.ID)
		late := verifyAsync(t.Context(), v, token)
		synctest.Wait()
		close(release)
		if err := <-early; err != nil {
			t.Errorf("who came before the revocation got %v", err)
		}
		if err := <-late; purser.KindOf(err) != purser.KindUnauthenticated {
			t.Errorf("who came after the revocation got %v", err)
		}
		mustRefuse(t, v, token)
	})
}

func TestExpiryIsCheckedOnEveryCall(t *testing.T) {
	t.Parallel()
	k, c, v := setup()
	key, token := k.create(c.in(500 * time.Millisecond))
	mustVerify(t, v, token, key)
	c.advance(499 * time.Millisecond)
	mustVerify(t, v, token, key)
	c.advance(time.Millisecond)
	mustRefuse(t, v, token)
	if got := k.asked(); got != 1 {
		t.Errorf("asked the store %d times: the last answer did not come from the cache", got)
	}
}

func TestCallersAtOnceAskOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keys{}
		v := auth.NewVerifier(k, time.Now, auth.LifeShared)
		_, token := k.create(time.Time{})
		release := make(chan struct{})
		k.setBefore(func(context.Context) error { <-release; return nil })
		var results []<-chan error
		for range 100 {
			results = append(results, verifyAsync(t.Context(), v, token))
		}
		synctest.Wait()
		close(release)
		for _, result := range results {
			if err := <-result; err != nil {
				t.Error(err)
			}
		}
		if got := k.asked(); got != 1 {
			t.Errorf("asked the store %d times, want once", got)
		}
	})
}

func TestCallerWhoLeavesFailsNobodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keys{}
		v := auth.NewVerifier(k, time.Now, auth.LifeShared)
		_, token := k.create(time.Time{})
		release := make(chan struct{})
		k.setBefore(func(ctx context.Context) error {
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		first := verifyAsync(ctx, v, token)
		synctest.Wait()
		second := verifyAsync(t.Context(), v, token)
		synctest.Wait()
		cancel()
		if err := <-first; purser.KindOf(err) != purser.KindCanceled {
			t.Errorf("who left got %v", err)
		}
		close(release)
		if err := <-second; err != nil {
			t.Errorf("who stayed got %v", err)
		}
	})
}

func TestCacheAndUsesAreBounded(t *testing.T) {
	t.Parallel()
	const bound = 10_000
	k, _, v := setup()
	first, firstToken := k.create(time.Time{})
	mustVerify(t, v, firstToken, first)
	var last purser.APIKey
	var lastToken string
	for range bound {
		last, lastToken = k.create(time.Time{})
		mustVerify(t, v, lastToken, last)
	}
	before := k.asked()
	mustVerify(t, v, lastToken, last)
	if k.asked() != before {
		t.Error("the newest key is not in the cache")
	}
	mustVerify(t, v, firstToken, first)
	if k.asked() != before+1 {
		t.Error("the oldest key is still in the cache, beyond its bound")
	}
	if got := len(v.TakeUsed()); got != bound {
		t.Errorf("%d uses are noted, want %d", got, bound)
	}
}

func TestTakeUsed(t *testing.T) {
	t.Parallel()
	k, c, v := setup()
	a, aToken := k.create(time.Time{})
	b, bToken := k.create(time.Time{})
	start := c.now()
	mustVerify(t, v, aToken, a)
	mustVerify(t, v, bToken, b)
	c.advance(time.Second)
	mustVerify(t, v, bToken, b)
	want := map[purser.KeyID]time.Time{a.ID: start, b.ID: start.Add(time.Second)}
	if diff := cmp.Diff(want, v.TakeUsed()); diff != "" {
		t.Errorf("TakeUsed (-want +got):\n%s", diff)
	}
	if again := v.TakeUsed(); len(again) != 0 {
		t.Errorf("TakeUsed a second time = %v, want nothing", again)
	}
}

// Run it with the race detector.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	k, c, v := setup()
	type pair struct {
		key   purser.APIKey
		token string
	}
	var pairs []pair
	for range 8 {
		key, token := k.create(time.Time{})
		pairs = append(pairs, pair{key, token})
	}
	var revoked atomic.Bool
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := range 500 {
				p := pairs[(n+i)%len(pairs)]
				wasRevoked := revoked.Load()
				got, err := v.Verify(t.Context(), p.token)
				switch {
				case err == nil && got != principalOf(p.key):
					t.Errorf("the key of %s gave %+v", p.key.ID, got)
				case p.key == pairs[0].key && wasRevoked && err == nil:
					t.Error("a revoked key was let in")
				case p.key != pairs[0].key && err != nil:
					t.Errorf("a good key got %v", err)
				}
				if i%50 == n {
					c.advance(100 * time.Millisecond)
					v.TakeUsed()
				}
				if n == 0 && i == 250 {
					k.revoke(pairs[0].key.ID)
					v.Forget(pairs[0].key.ID)
					revoked.Store(true)
				}
			}
		})
	}
	wg.Wait()
	mustRefuse(t, v, pairs[0].token)
}

func TestErrorsHoldNoKey(t *testing.T) {
	t.Parallel()
	k, _, v := setup()
	_, token := k.create(time.Time{})
	k.setBefore(func(context.Context) error { return errors.New("broken") })
	_, err := v.Verify(t.Context(), token)
	if secret := strings.Split(token, "_")[2]; err == nil || bytes.Contains([]byte(err.Error()), []byte(secret[:8])) {
		t.Errorf("Verify = %v", err)
	}
}

func TestHitAllocatesNothing(t *testing.T) { // not parallel: it counts the allocations of the process
	k := &keys{}
	v := auth.NewVerifier(k, newClock().now, auth.LifeShared)
	key, token := k.create(time.Time{})
	mustVerify(t, v, token, key)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { _, _ = v.Verify(ctx, token) }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}

func BenchmarkVerifyHit(b *testing.B) {
	k := &keys{}
	_, token := k.create(time.Time{})
	v := auth.NewVerifier(k, time.Now, auth.LifeShared)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(b.Context(), token); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkVerifyMiss(b *testing.B) {
	k := &keys{}
	_, unknown, _ := auth.NewKey()
	v := auth.NewVerifier(k, time.Now, auth.LifeShared)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), unknown.Expose()); err == nil {
			b.Fatal("an unknown key was let in")
		}
	}
}
