package purser_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser"
)

// TestReadingsCountExactly compares the counters with sums of large numbers.
func TestReadingsCountExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(0, math.MaxInt64))
		patience := time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "patience")) * time.Microsecond
		at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		last := purser.FirstReading(at, purser.Usage{Model: purser.Bytes(amount.Draw(t, "amount"))}, at, 0)
		area, unknown := new(big.Int), time.Duration(0)
		for range rapid.IntRange(1, 20).Draw(t, "readings") {
			passed := time.Duration(rapid.Int64Range(0, 2e6).Draw(t, "passed")) * time.Microsecond
			next := last.Next(last.At.Add(passed), purser.Usage{Model: purser.Bytes(amount.Draw(t, "amount"))}, patience)
			if passed > patience {
				unknown += passed
			} else {
				both := new(big.Int).Add(big.NewInt(int64(last.Model)), big.NewInt(int64(next.Model)))
				area.Add(area, both.Mul(both, big.NewInt(passed.Microseconds())))
			}
			checkBetween(t, last, next)
			last = next
		}
		if got := toBig(last.Areas[1]); got.Cmp(area) != 0 || last.Unknown != unknown || last.Areas[0] != (purser.Area{}) {
			t.Fatalf("area %v, unknown %v; want %v, %v", got, last.Unknown, area, unknown)
		}
	})
}

// checkBetween checks that the counters run from one reading to the next without
// going back, and reach it.
func checkBetween(t *rapid.T, last, next purser.Reading) {
	passed := next.At.Sub(last.At).Microseconds()
	first := time.Duration(rapid.Int64Range(0, passed).Draw(t, "first")) * time.Microsecond
	second := time.Duration(rapid.Int64Range(first.Microseconds(), passed).Draw(t, "second")) * time.Microsecond
	states := []purser.Reading{last, last.Until(last.At.Add(first), next), last.Until(last.At.Add(second), next), next}
	for i := range states[1:] {
		before, after := states[i], states[i+1]
		if toBig(before.Areas[1]).Cmp(toBig(after.Areas[1])) > 0 || before.Unknown > after.Unknown || before.At.After(after.At) {
			t.Fatalf("the counters run back from %+v to %+v", before, after)
		}
	}
	if last.Until(next.At, next) != next {
		t.Fatalf("the counters do not reach %+v", next)
	}
}

func toBig(a purser.Area) *big.Int {
	n := new(big.Int).SetUint64(a.Hi)
	return n.Add(n.Lsh(n, 64), new(big.Int).SetUint64(a.Lo))
}

func TestByteHours(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 1, 0, 20, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		from, to purser.Bytes
		passed   time.Duration
		part     time.Duration
		want     purser.Bytes // in part
	}{
		"a constant amount":        {1000, 1000, 5 * time.Hour, 3 * time.Hour, 3000},
		"growth":                   {0, 1000, 10 * time.Hour, 10 * time.Hour, 5000},
		"half of growth":           {0, 1000, 10 * time.Hour, 5 * time.Hour, 1250},
		"half of shrinking":        {1000, 0, 10 * time.Hour, 5 * time.Hour, 3750},
		"less than a byte-hour":    {1, 1, time.Hour, 30 * time.Minute, 0},
		"the largest amount":       {math.MaxInt64, math.MaxInt64, 10 * time.Hour, time.Hour, math.MaxInt64},
		"more than can be counted": {math.MaxInt64, math.MaxInt64, 10 * time.Hour, 2 * time.Hour, math.MaxInt64},
		"across a gap":             {1000, 1000, 11 * time.Hour, 11 * time.Hour, 0},
		"a clock that goes back":   {1000, 1000, -time.Hour, time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := purser.FirstReading(start, purser.Usage{SharedStorage: test.from}, start, 0)
			next := first.Next(start.Add(test.passed), purser.Usage{SharedStorage: test.to}, 10*time.Hour)
			got := first.Until(start.Add(test.part), next).ByteHoursSince(first)
			if got != (purser.Usage{SharedStorage: test.want}) {
				t.Errorf("got %+v, want %d of shared storage", got, test.want)
			}
		})
	}
}
