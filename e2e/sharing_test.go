package e2e

import (
	"testing"
	"time"
)

// TestAnIdleServerHelps has one of two servers that have nothing else to do take
// up a scan, which takes it alone some ten seconds or more, and proves that the
// other works on it too before it is half done, and for a good part of the time;
// PURSER_SHARE_CYCLES says how often.
func TestAnIdleServerHelps(t *testing.T) {
	t.Parallel()
	d := startDuo(t, uint64(time.Now().UnixNano()))
	n := cycles(t, "PURSER_SHARE_CYCLES", 2)
	helped := 0
	var both, all time.Duration
	for range n {
		eventually(t, time.Minute, "nothing is left to do", func() bool {
			return working(t, d.servers[0])+working(t, d.servers[1]) == 0
		})
		time.Sleep(time.Duration(d.random.IntN(3000)) * time.Millisecond) // the moment is what is random
		first, together, took := d.timeTogether(t)
		t.Logf("%s for %d objects; both worked after %s, and for %.0f%% of the time",
			took.Round(time.Millisecond), d.holds.count(), first.Round(time.Millisecond), 100*together.Seconds()/took.Seconds())
		if both, all = both+together, all+took; first > 0 && 2*first < took {
			helped++
		}
		d.refill(t)
	}
	mean := (all / time.Duration(n)).Round(time.Millisecond)
	t.Logf("the other helped before half of the time was over in %d of %d scans; both worked for %.0f%% of the time; a scan took %s in the mean",
		helped, n, 100*both.Seconds()/all.Seconds(), mean)
	if 2*helped < n || 5*both < all {
		t.Error("who has nothing to do does not help enough")
	}
}

// timeTogether scans the bucket, and returns after what time both servers worked
// on it for the first time, for how long they did, and how long the scan took.
func (d *duo) timeTogether(t *testing.T) (first, together, took time.Duration) {
	t.Helper()
	s := d.servers[0]
	id := s.must(t, "POST", "/scans", `{"providerId":"`+d.provider+`"}`)["id"].(string)
	began := time.Now()
	for last := began; ; time.Sleep(20 * time.Millisecond) {
		both := working(t, d.servers[0]) > 0 && working(t, d.servers[1]) > 0
		now := time.Now()
		if both {
			together += now.Sub(last)
		}
		if both && first == 0 {
			first = now.Sub(began)
		}
		last = now
		if state, _ := d.scan(t, s, id); state == "done" {
			d.expect(t, s, id)
			return first, together, now.Sub(began)
		}
		if now.Sub(began) > time.Minute {
			t.Fatal("the scan does not end")
		}
	}
}
