package purser_test

import (
	"math"
	"testing"
	"time"

	"github.com/purserhq/purser"
)

func TestCost(t *testing.T) {
	t.Parallel()
	for requests, want := range map[int64]string{
		0: "0.00", 1: "0.000005", 2: "0.00001", 30: "0.00015", 1000: "0.005", 2000: "0.01", 200_000: "1.00", 1_500_000: "7.50", 123_456_789: "617.283945",
		math.MaxInt64 / 5: "9223372036854.775805", math.MaxInt64/5 + 1: "9223372036854.775807", math.MaxInt64: "9223372036854.775807",
	} {
		cost := purser.EstimateCost(requests)
		if got := cost.String(); got != want {
			t.Errorf("%d requests cost %s, want %s", requests, got, want)
		}
		if back, err := purser.ParseCost(want); back != cost || err != nil {
			t.Errorf("%s is read as %d, %v; want %d", want, back, err, cost)
		}
	}
	for _, text := range []string{"", ".", "-1", "+1", "1e3", "0x1", "0.0000001", "1.-1", "0.+1", "1,5", " 1", "9223372036854.775808"} {
		if cost, err := purser.ParseCost(text); err == nil {
			t.Errorf("%q is read as %d", text, cost)
		}
	}
}

func TestBudgetOfADay(t *testing.T) {
	t.Parallel()
	day := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	kept := purser.RequestBudget{Spent: 7, Day: day}
	if got := kept.On(day, 10); got != (purser.RequestBudget{PerDay: 10, Spent: 7, Day: day}) {
		t.Errorf("on its own day: %+v", got)
	}
	next := kept.RenewsAt()
	if got := kept.On(next, 10); got != (purser.RequestBudget{PerDay: 10, Day: next}) || !next.Equal(day.AddDate(0, 0, 1)) {
		t.Errorf("on the next day, %s: %+v", next, got)
	}
}
