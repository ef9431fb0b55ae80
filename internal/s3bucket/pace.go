package s3bucket

import "time"

// levels are how many requests may be under way at once at one endpoint. S3 takes
// 5,500 a second for each prefix, which sixteen at once stay far below.
var levels = [...]int{1, 2, 4, 8, 16}

const (
	mostAtOnce = 16 // the last of levels
	// A window is long enough to tell how fast answers come.
	windowAnswers = 8 // and no fewer than may be under way at once
	windowTime    = 40 * time.Millisecond
	// retryLevel is when a level that was worse is tried again; each time that it is
	// worse again, or meets with trouble, it is twice as long, up to longestRetry.
	retryLevel   = 3 * time.Second
	longestRetry = time.Minute
	// overhead is what an answer counts beyond its bytes: the search for a place to
	// cut asks for single keys, which cost a server about a quarter of a page.
	overhead = 100_000
)

// pace finds out at which level an endpoint answers fastest, in bytes a second:
// it begins with one request at a time, tries the next higher and the next lower
// level now and then, and stays where most arrives. A server that has no more to
// give is not pressed for more, and one that works best on one request at a time
// gets one at a time.
type pace struct {
	level int
	rates [len(levels)]rate

	// Of the window that is being looked at.
	begin   time.Time
	skip    int // answers to requests from before
	answers int
	busy    int // requests under way, summed up over the answers
	bytes   int
}

// rate is what is known of a level.
type rate struct {
	perSecond float64 // 0 is trouble, or not known
	again     time.Time
	wait      time.Duration
}

func (p *pace) limit() int { return levels[p.level] }

// answered takes in a good answer of so many bytes, when so many requests were
// under way.
func (p *pace) answered(now time.Time, size, busy int) {
	if p.skip > 0 || p.begin.IsZero() {
		p.skip = max(0, p.skip-1)
		p.begin = now
		return
	}
	p.answers++
	p.busy += busy
	p.bytes += size + overhead
	took := now.Sub(p.begin)
	if p.answers < max(windowAnswers, p.limit()) || took < windowTime {
		return
	}
	if 4*p.busy < 3*p.answers*p.limit() {
		p.turn(now, p.level, 0) // nobody wanted more
		return
	}
	p.judge(now, float64(p.bytes)/took.Seconds())
}

// rested begins a new window, with the first answer to come, after nothing was
// asked for some time, which says nothing of the endpoint. A moment is the work
// on the answers before.
func (p *pace) rested(d time.Duration) {
	if d > windowTime {
		*p = pace{level: p.level, rates: p.rates}
	}
}

// judge takes in how fast a level was, and chooses the next.
func (p *pace) judge(now time.Time, perSecond float64) {
	r := &p.rates[p.level]
	if r.perSecond > 0 {
		perSecond = (perSecond + r.perSecond) / 2
	}
	r.perSecond = perSecond
	best := p.level
	for i, other := range p.rates {
		// Fewer are as good as more, unless more bring more.
		if worth := 1.05 * other.perSecond; i < best && worth >= p.rates[best].perSecond || i > best && other.perSecond > 1.05*p.rates[best].perSecond {
			best = i
		}
	}
	r.wait = min(2*r.wait, longestRetry)
	if best == p.level || r.wait == 0 {
		r.wait = retryLevel
	}
	r.again = now.Add(r.wait)
	next := best
	switch {
	case best != p.level:
	case best+1 < len(levels) && now.After(p.rates[best+1].again):
		next = best + 1
	case best > 0 && now.After(p.rates[best-1].again):
		next = best - 1
	}
	skip := 0
	if next != p.level {
		skip = p.limit()
	}
	p.turn(now, next, skip)
}

// turn begins a window at a level, after some answers to requests from before.
func (p *pace) turn(now time.Time, level, skip int) {
	*p = pace{level: level, rates: p.rates, begin: now, skip: skip}
}

// trouble goes one level down, and keeps away from this one for a while.
func (p *pace) trouble(now time.Time) {
	wait := min(2*max(p.rates[p.level].wait, retryLevel), longestRetry)
	p.rates[p.level] = rate{0, now.Add(wait), wait}
	p.turn(now, max(0, p.level-1), p.limit())
}
