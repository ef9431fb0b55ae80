// Package s3bucket makes a bucket countable: it lists the bucket's keys and
// sizes over the S3 protocol.
//
// A byte here is a byte of the current version of an object, as the listing
// reports it; older versions and parts of unfinished uploads are not counted.
// The package leaves to egress where connections may go and to package metering
// what a key counts as. What always holds: servers are strangers. A page is
// counted only if it is complete, plausible and further on than the page before;
// everything a server sends is bounded in size and time; no redirect is
// followed; and nothing a server says becomes part of a message for people.
package s3bucket

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/purserhq/purser/internal/egress"
	"github.com/purserhq/purser/internal/metering/source"
)

// maxRemembered bounds the memory of endpoints, which users choose.
const maxRemembered = 1024

// Opener opens buckets. It is safe for concurrent use.
type Opener struct {
	client *http.Client
	limits limits
	gates  *gates

	mu    sync.Mutex
	known map[string]habits // of endpoints
}

// habits are what was found out about a service and holds for all its buckets.
type habits struct {
	version1    bool // it only knows version 1 of the listing
	virtualHost bool // it wants the bucket in the host
}

// New makes an Opener whose connections obey policy.
func New(policy *egress.Policy, o egress.Options) *Opener {
	return &Opener{client: policy.Client(o), limits: defaultLimits, gates: newGates(), known: make(map[string]habits)}
}

// Open opens b at the place where cursor was taken; nil is its beginning.
// Nothing is sent yet.
func (o *Opener) Open(_ context.Context, b source.Bucket, cursor []byte) (source.Source, error) {
	l, err := o.lister(b)
	if err != nil {
		return nil, err
	}
	if b.What == source.Uploads {
		return openUploads(l, cursor)
	}
	if cursor == nil {
		l.at.After = b.After
	} else if err := json.Unmarshal(cursor, &l.at); err != nil {
		return nil, badCursor.because(err)
	}
	// Version 1 has no tokens, so that one chain is not for it.
	l.at.Version1 = b.What == source.Objects && (l.at.Version1 || !b.OneChain && o.habitsOf(b.Endpoint).version1)
	l.resumed = len(l.at.Token) > 0
	return l, nil
}

// lister makes a lister of b that stands at the beginning.
func (o *Opener) lister(b source.Bucket) (*lister, error) {
	if _, bad := addressOf(b, b.Region, false); bad != nil {
		return nil, bad
	}
	return &lister{opener: o, client: o.client, limits: o.limits, bucket: b, region: b.Region, regionKnown: b.Region != ""}, nil
}

// Close closes the connections that are kept for further pages.
func (o *Opener) Close() { o.client.CloseIdleConnections() }

func (o *Opener) habitsOf(endpoint string) habits {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known[endpoint]
}

// learn remembers what change says about an endpoint.
func (o *Opener) learn(endpoint string, change func(*habits)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.known[endpoint]
	change(&h)
	if len(o.known) >= maxRemembered {
		clear(o.known) // it is found out again
	}
	o.known[endpoint] = h
}
