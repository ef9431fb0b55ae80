package metering

import (
	"bytes"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/store"
)

// maxSourceBytes is the most that one source may be said to hold: 64 PiB, about
// twelve thousand of the largest objects S3 has (5 TiB) on top of each other. A
// server that claims more is lying or broken, and its claim must not make the
// sums of a team overflow.
const maxSourceBytes = 1 << 56

// slot is the place of a category among the sums: its index in
// purser.Categories, or unmatched.
type slot int

var unmatched = slot(len(purser.Categories))

// slotCount is one more than there are categories; a test holds it to that.
const slotCount = 5

func slotOf(c purser.Category) slot {
	for i, category := range purser.Categories {
		if category == c {
			return slot(i)
		}
	}
	return unmatched
}

func (s slot) category() purser.Category {
	if s == unmatched {
		return purser.CategoryUnmatched
	}
	return purser.Categories[s]
}

// classifier says which category a key counts for.
type classifier struct {
	rules []prefixRule
	rest  slot // what no rule matches
}

type prefixRule struct {
	prefix []byte
	slot   slot
}

func (c *classifier) add(prefix string, category purser.Category) {
	c.rules = append(c.rules, prefixRule{[]byte(prefix), slotOf(category)})
}

// slot returns the place of the first rule that matches.
func (c *classifier) slot(key []byte) slot {
	for i := range c.rules {
		if bytes.HasPrefix(key, c.rules[i].prefix) {
			return c.rules[i].slot
		}
	}
	return c.rest
}

// counts are sums by category. The zero value is empty.
type counts struct {
	slots [slotCount]purser.Tally
	bytes int64 // of all slots together, at most maxSourceBytes
}

// add counts one entry and reports false, having changed nothing, if no store
// can hold what would be the sum. Only what is current is an object.
func (c *counts) add(at slot, class source.Class, size int64) bool {
	if size < 0 || size > maxSourceBytes-c.bytes {
		return false
	}
	c.bytes += size
	t := &c.slots[at]
	switch class {
	case source.Noncurrent:
		t.Noncurrent += purser.Bytes(size)
	case source.Unfinished:
		t.Unfinished += purser.Bytes(size)
	default:
		t.Objects++
		t.Current += purser.Bytes(size)
	}
	return true
}

// merge adds other, or reports false and changes nothing.
func (c *counts) merge(other *counts) bool {
	if other.bytes > maxSourceBytes-c.bytes {
		return false
	}
	c.bytes += other.bytes
	for i, t := range other.slots {
		c.slots[i].Objects += t.Objects
		c.slots[i].Current += t.Current
		c.slots[i].Noncurrent += t.Noncurrent
		c.slots[i].Unfinished += t.Unfinished
	}
	return true
}

func (c *counts) objects() (n int64) {
	for _, t := range c.slots {
		n += t.Objects
	}
	return n
}

// tallies are the sums as they are stored: without the empty ones.
func (c *counts) tallies() store.Tallies {
	t := store.Tallies{}
	for i, tally := range c.slots {
		if tally != (purser.Tally{}) {
			t[slot(i).category()] = tally
		}
	}
	return t
}

// countsOf reads stored sums.
func countsOf(t store.Tallies) counts {
	var c counts
	for category, tally := range t {
		c.slots[slotOf(category)] = tally
		c.bytes += int64(tally.Bytes())
	}
	return c
}

// page collects what one step hands out, until the step has succeeded.
type page struct {
	classify *classifier
	counts   counts
	absurd   bool         // a size that cannot be
	details  *pageDetails // nil of trees
}

func (p *page) Reset() {
	p.counts, p.absurd = counts{}, false
	if p.details != nil {
		p.details.reset()
	}
}

func (p *page) Count(e source.Entry) {
	at := p.classify.slot(e.Key)
	if !p.counts.add(at, e.Class, e.Size) {
		p.absurd = true
		return
	}
	p.counts.slots[at].Objects += max(0, e.Objects-1) // one is counted already
	if p.details != nil {
		p.details.count(e)
	}
}
