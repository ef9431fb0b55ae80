package s3bucket

import (
	"bytes"
	"context"

	"github.com/purserhq/purser/internal/metering/source"
)

const (
	// maxProbes bounds what one attempt to split costs: enough to find out what all
	// keys that are left have in common.
	maxProbes = 8
	// pagesBetween is how many pages must have come since the last attempt before
	// another is worth its probes.
	pagesBetween = 2
)

// Split implements source.Splitter. A guess at a key in the middle is made real
// by asking for the first key behind it. Where there is none, nothing lies
// between the guess and the bound; a bound that is far off is then brought near
// by asking how much of the last key all that is left has in common.
//
// A bucket on MinIO is not cut. Each listing there that does not go on from a
// token is a walk of its own through the bucket: sixteen spans took three times
// as long as one on two cores (100,000 objects), and the server longer to rest.
func (l *lister) Split(ctx context.Context) (at []byte, requests int64, err error) {
	before := l.requests
	at, err = l.split(ctx)
	return at, l.requests - before, err
}

func (l *lister) split(ctx context.Context) ([]byte, error) {
	if l.bucket.OneChain || l.walks || l.sinceSplit < pagesBetween || len(l.at.After) == 0 {
		return nil, nil
	}
	l.sinceSplit = 0
	// bound is the nearest key with nothing between it and the end but, perhaps, the
	// end itself.
	bound, narrow := l.bucket.Until, false
	for range maxProbes {
		guess := l.guess(bound, narrow)
		if guess == nil {
			return nil, nil
		}
		key, err := l.probe(ctx, guess)
		if err != nil {
			return nil, err
		}
		until := l.bucket.Until
		switch {
		case key == nil, until != nil && bytes.Compare(key, until) > 0:
			l.bucket.Until, bound, narrow = guess, guess, true
		case bytes.Equal(key, until):
			bound, narrow = guess, true
		default:
			l.bucket.Until = key
			return key, nil
		}
	}
	return nil, nil
}

// guess returns a key between the last one and until, or nil.
func (l *lister) guess(until []byte, narrow bool) []byte {
	last, known := l.at.After, len(l.bucket.Prefix)
	if until != nil {
		known = max(known, commonPrefix(last, until))
	}
	middle := l.alphabet.midpoint(last, until, len(l.bucket.Prefix))
	if middle != nil && !narrow {
		return middle
	}
	if known < l.shared {
		guess := beyond(last[:known+(l.shared-known+1)/2])
		if guess != nil && (until == nil || bytes.Compare(guess, until) < 0) {
			return guess
		}
	}
	return middle
}

// probe returns the first key behind after, or nil.
func (l *lister) probe(ctx context.Context, after []byte) ([]byte, error) {
	probe := &lister{
		opener: l.opener, client: l.client, limits: l.limits, bucket: l.bucket, region: l.region, regionKnown: l.regionKnown,
		at: position{Version1: l.at.Version1, After: after},
	}
	probe.bucket.Until = nil
	defer func() {
		probe.shrink()
		l.requests += probe.requests
	}()
	for {
		done, err := probe.step(ctx, 1, func(source.Entry) {})
		if err != nil || probe.first != nil || done {
			return probe.first, err
		}
	}
}

// learn takes in what the page that ends with last says about the keys.
func (l *lister) learn(first, last []byte) {
	l.shared = commonPrefix(first, last)
	l.alphabet.learn(l.shared, first, last)
	if l.first == nil {
		l.first = bytes.Clone(first)
	}
	l.pages++
	l.sinceSplit++
}

// Left implements source.Splitter: as many pages as came so far for each part of
// the way, on a map of the keys that only knows their first bytes.
func (l *lister) Left() float64 {
	if l.pages == 0 || l.walks {
		return 0
	}
	until, common := l.bucket.Until, len(l.bucket.Prefix)
	if until != nil {
		common = min(commonPrefix(l.first, until), commonPrefix(l.first, l.at.After)) // a last page may end behind the bound
	}
	begin, now := l.alphabet.share(l.first, until, common), l.alphabet.share(l.at.After, until, common)
	if now <= begin {
		return float64(l.pages) // too near the beginning to tell
	}
	return float64(l.pages) * (1 - now) / (now - begin)
}

// Full implements source.Splitter.
func (l *lister) Full() bool { return l.joined != nil && l.joined.full() }

// Last implements source.Splitter.
func (l *lister) Last() []byte {
	if l.bucket.OneChain {
		return nil
	}
	return l.at.After
}
