package e2e

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/e2e/canned"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/s3bucket/s3buckettest"
)

// TestHostileStores has stores that were good for one scan turn hostile, one for
// each script, each a team's own. Whatever they do, the scan says what is wrong
// in our words, the figures of the good scan stay, the memory of the process
// does not grow by more than 64 MiB, and an honest team among them is measured.
func TestHostileStores(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	var strayed atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(elsewhere.Close)

	type hostile struct {
		s3buckettest.Script
		*tenant
	}
	var all []*hostile
	add := func(script s3buckettest.Script) *hostile {
		good, held := cannedBucket(t, oneObject, canned.Options{Versioned: script.Of == source.Versions})
		h := &hostile{script, newTenant(t, s, fmt.Sprintf("team-%d", len(all)), newTurncoat(t, good), held)}
		h.begin(t)
		all = append(all, h)
		return h
	}
	for _, script := range s3buckettest.Scripts(elsewhere.URL) {
		add(script)
	}
	scripts := all
	// Only a deadline ends these, after a slice and its grace: they begin first and
	// are looked at last.
	silent := []*hostile{
		add(s3buckettest.Script{Name: "silence", Always: true, Handler: s3buckettest.Hang}),
		add(s3buckettest.Script{Name: "answers that drip", Always: true, Handler: drip}),
		add(s3buckettest.Script{Name: "a listing that drips", Handler: drip}),
	}
	good, held := cannedBucket(t, oneObject, canned.Options{})
	honest := newTenant(t, s, "honest", newTurncoat(t, good), held)
	for _, h := range all {
		awaitScan(t, h.server, h.scan, "done")
		h.stored.expect(t, h.server, "complete")
	}
	honest.measure(t)

	turn := func(h *hostile) {
		if h.Always {
			h.store.turn(h.Handler)
		} else {
			h.store.turnListings(h.Of, h.Handler)
		}
		h.begin(t)
	}
	for _, h := range silent {
		turn(h)
	}

	// Those that would show in the memory run alone, the others together.
	slices.SortStableFunc(scripts, func(a, b *hostile) int {
		return cmp.Compare(strconv.FormatBool(b.Large), strconv.FormatBool(a.Large))
	})
	for len(scripts) > 0 {
		batch := scripts[:min(len(scripts), 12)]
		if batch[0].Large {
			batch = batch[:1]
		}
		scripts = scripts[len(batch):]
		before := s.memory(t, "VmRSS")
		s.forgetPeak(t)
		for _, h := range batch {
			turn(h)
		}
		honest.begin(t)
		for _, h := range batch {
			t.Run(h.Name, func(t *testing.T) {
				code := h.Code
				if code == source.CodeUnordered {
					code = h.Chain // it is listed once more, by one chain
				}
				switch {
				case code == "":
					awaitScan(t, h.server, h.scan, "done")
				case h.Temporary: // it is tried for minutes, and says so meanwhile
					h.awaitFault(t, 20*time.Second, "running", code)
					h.stored.expect(t, h.server, "complete")
					h.cancel(t)
				default:
					h.awaitFault(t, 20*time.Second, "failed", code)
					h.stored.expect(t, h.server, "stale")
				}
			})
		}
		awaitScan(t, honest.server, honest.scan, "done")
		s.expectGrowth(t, fmt.Sprintf("%s … %s (%d)", batch[0].Name, batch[len(batch)-1].Name, len(batch)), before)
	}

	for _, h := range silent {
		t.Run(h.Name, func(t *testing.T) {
			h.awaitFault(t, 70*time.Second, "running", source.CodeTimeout)
			h.stored.expect(t, h.server, "complete")
			h.cancel(t)
		})
	}

	// All are cancelled or have failed, so that no store hears of us any more.
	time.Sleep(time.Second) // what cancelling promises
	asked := map[*hostile]int64{}
	for _, h := range all {
		asked[h] = h.store.requests.Load()
	}
	honest.measure(t)
	for _, h := range all {
		if n := h.store.requests.Load(); n != asked[h] {
			t.Errorf("%s: %d requests after the end of the scan", h.Name, n-asked[h])
		}
	}
	if n := strayed.Load(); n != 0 {
		t.Errorf("%d requests went where Location pointed", n)
	}
	if log := s.log.String(); strings.Contains(log, "panic") {
		t.Errorf("the log tells of a panic:\n%s", tail(log, 4000))
	}
}

// drip sends a byte now and then.
func drip(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _ = w.Write([]byte(" "))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// TestOddStores measures, to the byte, stores that differ from AWS in the ways
// that stores do.
func TestOddStores(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	all := map[string]*tenant{}
	add := func(name string, o canned.Options) {
		good, held := cannedBucket(t, manyObjects(t, 12_345), o)
		c := newTenant(t, s, name, newTurncoat(t, good), held)
		c.begin(t)
		all[name] = c
	}
	for _, quirk := range canned.Quirks {
		add(string(quirk), canned.Options{Quirks: []canned.Quirk{quirk}, Delay: 5 * time.Millisecond})
	}
	add("versioned", canned.Options{Versioned: true})
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			awaitScan(t, c.server, c.scan, "done")
			c.stored.expect(t, c.server, "complete")
		})
	}
}

// TestLargeAnswers has a store fill all the connections that it is given with
// pages as large as they may be, for as long as it is asked.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	keys := manyObjects(t, 150_000)
	spaces := func(n int) func(string) string {
		return func(page string) string { return page + strings.Repeat(" ", n) }
	}
	for _, c := range []struct {
		name  string
		swell func(page string) string
	}{
		{"as they are", spaces(0)},
		{"just ordinary", spaces(850 << 10)},
		{"with keys that must be copied", strings.NewReplacer("<Key>", "<Key><![CDATA[", "</Key>", "]]></Key>"+strings.Repeat(" ", 800)).Replace},
		{"beyond the ordinary", spaces(2 << 20)},
		{"as large as can be", spaces(7 << 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			good, held := cannedBucket(t, keys, canned.Options{Delay: 50 * time.Millisecond})
			store := newTurncoat(t, good)
			store.turnListings(source.Objects, func(w http.ResponseWriter, r *http.Request) {
				page := httptest.NewRecorder()
				good.ServeHTTP(page, r)
				_, _ = w.Write([]byte(c.swell(page.Body.String())))
			})
			before := s.memory(t, "VmRSS")
			s.forgetPeak(t)
			newTenant(t, s, strings.ReplaceAll(c.name, " ", "-"), store, held).measure(t)
			s.expectGrowth(t, c.name, before)
		})
	}
}

// endless lists keys that grow for ever, from wherever it is asked to, as fast as
// it can.
func endless(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after := cmp.Or(q.Get("continuation-token"), q.Get("start-after"))
	digits := (strings.TrimPrefix(after, "a") + strings.Repeat("0", 15))[:15]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || after > "a:" {
		_, _ = fmt.Fprint(w, s3buckettest.Listing(s3buckettest.Complete))
		return
	}
	var page strings.Builder
	for range 1000 {
		n++
		page.WriteString(s3buckettest.Entry(fmt.Sprintf("a%015d", n), "1"))
	}
	_, _ = fmt.Fprint(w, s3buckettest.Truncated(s3buckettest.Token(fmt.Sprintf("a%015d", n))+page.String()))
}

// deadBuckets are more than a node has workers.
const deadBuckets = 20

// TestHostileNeighbours has an honest team measured alone and beside two hostile
// endpoints, in turns: one lists keys without end, one is dead, and many buckets
// are there. It takes no more than one and a half times as long.
//
// It runs alone, because it compares times.
func TestHostileNeighbours(t *testing.T) {
	s := start(t, options{args: []string{"--egress-allow", "127.0.0.1/32"}})
	good, held := cannedBucket(t, manyObjects(t, 200_000), canned.Options{Delay: 150 * time.Millisecond})
	good.Render()
	honest := newTenant(t, s, "honest", newTurncoat(t, good), held)
	one, held := cannedBucket(t, oneObject, canned.Options{})
	restless := newTenant(t, s, "restless", newTurncoat(t, one), held)
	others := []*tenant{restless}
	store := newTurncoat(t, one)
	for i := range deadBuckets {
		others = append(others, newTenant(t, s, fmt.Sprint("dead-", i), store, held))
	}
	for _, c := range append(others, honest) {
		c.measure(t)
	}
	restless.store.turnListings(source.Objects, endless)
	store.turn(s3buckettest.Hang)

	took := func() time.Duration {
		begin := time.Now()
		honest.measure(t)
		return time.Since(begin)
	}
	before := s.memory(t, "VmRSS")
	s.forgetPeak(t)
	var alone, beside []time.Duration
	for range 3 {
		alone = append(alone, took())
		for _, c := range others {
			c.begin(t)
		}
		eventually(t, 20*time.Second, "the hostile ones are at it", func() bool {
			n, _ := restless.look(t)["objects"].(float64)
			return n > 10_000 && !slices.ContainsFunc(others, func(c *tenant) bool { return c.look(t)["state"] != "running" })
		})
		beside = append(beside, took())
		if now := restless.look(t); now["state"] != "running" || now["error"] != nil {
			t.Errorf("the endless scan has ended: %v", now)
		}
		for _, c := range others {
			c.cancel(t)
		}
		time.Sleep(time.Second) // what cancelling promises
		asked := restless.store.requests.Load()
		time.Sleep(300 * time.Millisecond)
		if n := restless.store.requests.Load() - asked; n != 0 {
			t.Errorf("%d requests a second after the scan was cancelled", n)
		}
	}
	s.expectGrowth(t, "listing without end", before)
	for _, c := range others {
		c.stored.expect(t, c.server, "complete")
	}
	slices.Sort(alone)
	slices.Sort(beside)
	ratio := float64(beside[1]) / float64(alone[1])
	t.Logf("alone %v, beside hostile ones %v: ratio of medians %.2f", alone, beside, ratio)
	if ratio > 1.5 {
		t.Errorf("beside hostile stores a scan takes %.2f times as long", ratio)
	}
}
