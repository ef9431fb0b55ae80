package purser

import (
	"math"
	"math/bits"
	"time"
)

// Reading is what a source held at one moment, with counters that ran until
// then, as on an electricity meter: what lies between two readings of a source
// is the difference of their counters, however many readings there were in
// between, and whether they still exist or not.
type Reading struct {
	At time.Time // to the microsecond
	Usage
	// Areas are what lay under the straight lines from reading to reading so far, in
	// the order of Categories.
	Areas [4]Area
	// Unknown is how much of the time so far lies in gaps: between readings too far
	// apart for a straight line to mean anything. Gaps add nothing to Areas.
	Unknown time.Duration
}

// FirstReading is the reading that a source's counters start with. The time since
// it was due is a gap if it is longer than patience.
func FirstReading(at time.Time, u Usage, due time.Time, patience time.Duration) Reading {
	r := Reading{At: at, Usage: u}
	if waited := at.Sub(due); waited > patience {
		r.Unknown = waited
	}
	return r
}

// Next is the reading that follows r. Between the two is a gap if they are
// further apart than patience. Time never runs backwards, whatever clocks do.
func (r Reading) Next(at time.Time, u Usage, patience time.Duration) Reading {
	next := r
	next.Usage = u
	passed := at.Sub(r.At)
	if passed <= 0 {
		return next
	}
	next.At = at
	if passed > patience {
		next.Unknown += passed
		return next
	}
	before, after := r.list(), u.list()
	for i := range next.Areas {
		next.Areas[i] = r.Areas[i].plus(trapezoid(before[i], after[i], passed, passed))
	}
	return next
}

// Until is what the counters stood at when it was t, between r and the reading
// that follows it. The usage is that of r until next is reached.
func (r Reading) Until(t time.Time, next Reading) Reading {
	passed, whole := t.Sub(r.At), next.At.Sub(r.At)
	if passed >= whole {
		return next
	}
	state := r
	state.At = t
	if next.Unknown > r.Unknown {
		state.Unknown += passed
		return state
	}
	before, after := r.list(), next.list()
	for i := range state.Areas {
		state.Areas[i] = r.Areas[i].plus(trapezoid(before[i], after[i], passed, whole))
	}
	return state
}

// ByteHoursSince is how many byte-hours lie between two readings of a source.
// They are whole because both counters are rounded down to whole ones first;
// so the parts of a time add up to exactly what the whole of it has.
func (r Reading) ByteHoursSince(earlier Reading) Usage {
	hours := func(i int) Bytes { return r.Areas[i].byteHours().minus(earlier.Areas[i].byteHours()) }
	return Usage{Dataset: hours(0), Model: hours(1), NotebookWorkspace: hours(2), SharedStorage: hours(3)}
}

// list gives the four in the order of Categories.
func (u Usage) list() [4]Bytes {
	return [4]Bytes{u.Dataset, u.Model, u.NotebookWorkspace, u.SharedStorage}
}

// Area is bytes times time. It is counted in halves of a byte-microsecond, so
// that a trapezoid is a whole number, and in 128 bits (Hi × 2⁶⁴ + Lo), which
// hold 2⁶³ bytes for half a million years.
type Area struct{ Hi, Lo uint64 }

// areaOfByteHour is one byte-hour.
const areaOfByteHour = 2 * uint64(time.Hour/time.Microsecond)

func (a Area) plus(b Area) Area {
	lo, carry := bits.Add64(a.Lo, b.Lo, 0)
	hi, _ := bits.Add64(a.Hi, b.Hi, carry)
	return Area{hi, lo}
}

// minus is a − b as an amount: 0 if it is negative, and at most the largest
// number there is.
func (a Area) minus(b Area) Bytes {
	lo, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	hi, borrow := bits.Sub64(a.Hi, b.Hi, borrow)
	switch {
	case borrow != 0:
		return 0
	case hi != 0 || lo > math.MaxInt64:
		return math.MaxInt64
	}
	return Bytes(lo)
}

// byteHours is a in whole byte-hours, rounded down.
func (a Area) byteHours() Area {
	hi, rest := a.Hi/areaOfByteHour, a.Hi%areaOfByteHour
	lo, _ := bits.Div64(rest, a.Lo, areaOfByteHour)
	return Area{hi, lo}
}

// trapezoid is the area under the first part of a straight line that leads from
// one amount to another in the time whole. What is left of a half of a
// byte-microsecond is dropped.
func trapezoid(from, to Bytes, part, whole time.Duration) Area {
	d, all := uint64(part.Microseconds()), uint64(whole.Microseconds()) //nolint:gosec // time does not run backwards
	if all == 0 {
		return Area{}
	}
	// Twice the rectangle below the start, and the triangle above or below it.
	base := multiply(2*uint64(from), d) //nolint:gosec // amounts are never negative
	if to >= from {
		return base.plus(multiply(uint64(to-from), d).scale(d, all)) //nolint:gosec // not negative
	}
	lost := multiply(uint64(from-to), d).scale(d, all) //nolint:gosec // not negative
	lo, borrow := bits.Sub64(base.Lo, lost.Lo, 0)
	hi, _ := bits.Sub64(base.Hi, lost.Hi, borrow)
	return Area{hi, lo}
}

func multiply(a, b uint64) Area {
	hi, lo := bits.Mul64(a, b)
	return Area{hi, lo}
}

// scale is a × part / whole, rounded down; part is at most whole.
func (a Area) scale(part, whole uint64) Area {
	// The product has 192 bits, the quotient no more than a.
	carried, low := bits.Mul64(a.Lo, part)
	high, middle := bits.Mul64(a.Hi, part)
	middle, carry := bits.Add64(middle, carried, 0)
	high += carry
	hi, rest := bits.Div64(high, middle, whole)
	lo, _ := bits.Div64(rest, low, whole)
	return Area{hi, lo}
}
