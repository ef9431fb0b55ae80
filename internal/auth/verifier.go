package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strconv"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/purserhq/purser"
)

// How long a verified key is believed without asking the store.
const (
	// LifeShared is for a store that other nodes change too: a key revoked on one
	// of them works here no longer than that, and one second is promised.
	LifeShared = 900 * time.Millisecond
	// LifeSole is for a store that only this process changes, so that Forget tells
	// of every revocation.
	LifeSole = 30 * time.Second
)

const (
	// cacheSize bounds the verified keys, and the notes of their use: about 4 MB.
	cacheSize = 10_000
	// findTimeout bounds one question to the store, which several callers may be
	// waiting for and none may cancel.
	findTimeout = 5 * time.Second
)

// Finder finds API keys.
type Finder interface {
	// FindKey returns a key; KindNotFound if there is none, or it was revoked.
	FindKey(ctx context.Context, id purser.KeyID) (purser.StoredKey, error)
}

// Verifier turns API keys into principals. It is safe for concurrent use.
type Verifier struct {
	keys Finder
	now  func() time.Time
	life time.Duration
	// cache has verified keys by the SHA-256 of the token: no token is kept, and
	// since nobody can choose a hash, the time of a look-up tells nothing.
	cache   *lru.Cache[digest, verified]
	flights singleflight.Group

	mu sync.Mutex
	// generation counts the calls of Forget: what was read from the store before
	// one is not believed after it. It is guarded by mu, as is the filling of cache.
	generation uint64
	// used is when keys were last read from the store; guarded by mu.
	used map[purser.KeyID]time.Time
}

type digest = [sha256.Size]byte

// verified is a key that was found and matched.
type verified struct {
	principal Principal
	expiresAt time.Time // zero: never
	// readAt is when the question was put to the store; the answer may be that old.
	readAt time.Time
}

// NewVerifier makes a Verifier; now tells the time, and life is how long a
// verified key is believed.
func NewVerifier(keys Finder, now func() time.Time, life time.Duration) *Verifier {
	cache, err := lru.New[digest, verified](cacheSize)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Verifier{keys: keys, now: now, life: life, cache: cache, used: make(map[purser.KeyID]time.Time)}
}

// Verify returns who presents token. For a token that does not count, whatever
// the reason, the error is the same KindUnauthenticated; when the store cannot
// tell, it is the store's error, so that nobody takes a good key for a bad one.
func (v *Verifier) Verify(ctx context.Context, token string) (Principal, error) {
	now := v.now()
	hash := hashToken(token)
	key, found := v.cache.Get(hash)
	if !found || !v.fresh(key, now) {
		var err error
		if key, err = v.ask(ctx, token, hash, now); err != nil {
			return Principal{}, err
		}
		now = v.now()
	}
	if key.expired(now) {
		return Principal{}, refused()
	}
	return key.principal, nil
}

// hashToken is HashKey on the stack, since every request goes through it.
func hashToken(token string) digest {
	var buffer [128]byte // longer than a key
	return sha256.Sum256(append(buffer[:0], token...))
}

// refused is the error for all keys that do not count: whoever guesses must not
// learn how near a guess was.
func refused() error {
	return &purser.Error{Kind: purser.KindUnauthenticated, Op: "auth.Verify", Message: "A valid API key is needed."}
}

// fresh reports whether what was read may still be believed. The clock may have
// been set back since.
func (v *Verifier) fresh(k verified, now time.Time) bool {
	age := now.Sub(k.readAt)
	return age >= 0 && age < v.life
}

func (k verified) expired(now time.Time) bool {
	return !k.expiresAt.IsZero() && !now.Before(k.expiresAt)
}

// ask reads the key from the store, together with all who ask for the same token
// at the same time. An answer that was on its way before this caller arrived may
// be too old when it comes; the next one cannot be.
func (v *Verifier) ask(ctx context.Context, token string, hash digest, arrived time.Time) (verified, error) {
	for {
		key, err := v.join(ctx, token, hash)
		if err != nil || !key.readAt.Before(arrived) || v.fresh(key, v.now()) {
			return key, err
		}
	}
}

// join waits for the answer of the store, for as long as ctx allows.
func (v *Verifier) join(ctx context.Context, token string, hash digest) (verified, error) {
	generation := v.currentGeneration()
	flight := strconv.FormatUint(generation, 36) + ":" + string(hash[:])
	answer := v.flights.DoChan(flight, func() (any, error) {
		return v.read(context.WithoutCancel(ctx), token, hash, generation)
	})
	select {
	case <-ctx.Done():
		return verified{}, &purser.Error{
			Kind: purser.KindCanceled, Op: "auth.Verify", Err: ctx.Err(),
			Message: "The request was given up before it was done.",
		}
	case result := <-answer:
		key, _ := result.Val.(verified)
		return key, result.Err
	}
}

// read asks the store for a key and keeps it if it matches. It runs outside of
// any request, where a panic would end the process.
func (v *Verifier) read(ctx context.Context, token string, hash digest, generation uint64) (key verified, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &purser.Error{Kind: purser.KindInternal, Op: "auth.Verify", Err: fmt.Errorf("panic: %v", p)}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	readAt := v.now()
	stored, err := v.find(ctx, token)
	if err != nil {
		return verified{}, err
	}
	key = verified{
		principal: Principal{KeyID: stored.ID, TeamID: stored.TeamID, Role: stored.Role},
		expiresAt: stored.ExpiresAt, readAt: readAt,
	}
	if subtle.ConstantTimeCompare(hash[:], stored.Hash) != 1 || key.expired(readAt) {
		return verified{}, refused()
	}
	v.keep(hash, key, generation)
	return key, nil
}

// nobodysHash is compared in place of the hash of a key that is not there, so
// that its absence costs the same time. No token has it, in all likelihood.
var nobodysHash = make([]byte, sha256.Size)

// find returns the stored key for a token, or one that nothing matches. A token
// without the form of a key is not worth a trip to the store; that this is
// quicker tells nothing, for the form is no secret.
func (v *Verifier) find(ctx context.Context, token string) (purser.StoredKey, error) {
	nobody := purser.StoredKey{Hash: nobodysHash}
	id, ok := ParseKey(token)
	if !ok {
		return nobody, nil
	}
	key, err := v.keys.FindKey(ctx, id)
	switch {
	case err == nil:
		return key, nil
	case purser.KindOf(err) == purser.KindNotFound:
		return nobody, nil
	case ctx.Err() != nil:
		return nobody, &purser.Error{
			Kind: purser.KindUnavailable, Op: "auth.Verify", Err: err, RetryAfter: time.Second,
			Message: "API keys cannot be checked right now; try again.",
		}
	}
	return nobody, purser.Wrap("auth.Verify", err)
}

// keep caches a verified key, unless a key was revoked since it was read, and
// notes its use.
func (v *Verifier) keep(hash digest, key verified, generation uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.generation == generation {
		v.cache.Add(hash, key)
	}
	if _, known := v.used[key.principal.KeyID]; known || len(v.used) < cacheSize {
		v.used[key.principal.KeyID] = key.readAt
	}
}

func (v *Verifier) currentGeneration() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.generation
}

// Forget makes this node ask the store about a key again, at once. Call it when a
// revocation has been committed; other nodes notice within a second.
func (v *Verifier) Forget(id purser.KeyID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.generation++
	for _, hash := range v.cache.Keys() {
		if key, found := v.cache.Peek(hash); found && key.principal.KeyID == id {
			v.cache.Remove(hash)
		}
	}
}

// TakeUsed returns which keys were used since the last call, and when last. The
// times may be early by the life of a cache entry.
// With more than 10,000 keys in use some are left out until a later call.
func (v *Verifier) TakeUsed() map[purser.KeyID]time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	used := v.used
	v.used = make(map[purser.KeyID]time.Time)
	return used
}
