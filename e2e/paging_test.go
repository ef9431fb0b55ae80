package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

// TestPaging pages through a thousand providers while others come and go: those
// that are there all the time are seen once each, in order.
func TestPaging(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) string{
		"SQLite": func(testing.TB) string { return "" }, "PostgreSQL": func(t testing.TB) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, options{database: open(t)})
			stable := createMany(t, s, 1000)

			stop, churned := make(chan struct{}), make(chan int)
			go func() { churned <- churn(t, s, stop) }()
			for _, order := range []string{"desc", "asc"} {
				for _, limit := range []int{7, 20, 120} {
					seen := walk(t, s, fmt.Sprintf("/storage-providers?order=%s&limit=%d", order, limit))
					checkOnce(t, seen, stable, order)
				}
			}
			close(stop)
			if n := <-churned; n < 10 {
				t.Errorf("only %d others came and went meanwhile", n)
			}
		})
	}
}

// createMany makes n providers, 32 at a time, so that many are created in the
// same microsecond or out of order. It returns their ids.
func createMany(t *testing.T, s *server, n int) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	ids := map[string]bool{}
	var workers sync.WaitGroup
	for w := range 32 {
		workers.Go(func() {
			for i := w; i < n; i += 32 {
				a, err := request(s.URL+"/v1/storage-providers", s.Key, "POST", valid)
				if err != nil || a.Status != http.StatusOK {
					t.Errorf("create: %v %d %s", err, a.Status, a.Body)
					return
				}
				mu.Lock()
				ids[a.object(t)["id"].(string)] = true
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return ids
}

// churn creates and deletes providers until stop, and returns how many.
func churn(t *testing.T, s *server, stop chan struct{}) int {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return n
		default:
		}
		a, err := request(s.URL+"/v1/storage-providers", s.Key, "POST", valid)
		if err != nil || a.Status != http.StatusOK {
			t.Errorf("create: %v %d %s", err, a.Status, a.Body)
			return n
		}
		id := a.object(t)["id"].(string)
		if a, err := request(s.URL+"/v1/storage-providers/"+id, s.Key, "DELETE", ""); err != nil || a.Status != http.StatusOK {
			t.Errorf("delete: %v %d %s", err, a.Status, a.Body)
			return n
		}
	}
}

// walk follows a list to its end and returns the ids in order.
func walk(t *testing.T, s *server, path string) (seen []string) {
	t.Helper()
	eachItem(t, s, path, func(item map[string]any) { seen = append(seen, item["id"].(string)) })
	return seen
}

// eachItem follows a list to its end. The path has a query already.
func eachItem(t *testing.T, s *server, path string, look func(map[string]any)) {
	t.Helper()
	for next := path; ; {
		page := s.must(t, "GET", next, "")
		for _, item := range page["items"].([]any) {
			look(item.(map[string]any))
		}
		cursor, more := page["nextPage"].(string)
		if more != page["hasMore"] {
			t.Fatalf("hasMore %v, nextPage %v", page["hasMore"], page["nextPage"])
		}
		if !more {
			return
		}
		next = path + "&after=" + cursor
	}
}

func checkOnce(t *testing.T, seen []string, stable map[string]bool, order string) {
	t.Helper()
	count := map[string]int{}
	for _, id := range seen {
		count[id]++
		if count[id] > 1 {
			t.Errorf("%s was seen %d times", id, count[id])
		}
	}
	for id := range stable {
		if count[id] != 1 {
			t.Errorf("order %s: %s, which was there all the time, was seen %d times", order, id, count[id])
		}
	}
}

// TestCursors proves that a cursor works for the list, order and team that it
// was made for, and for nothing else, and that its row need not exist any more.
func TestCursors(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	for range 5 {
		s.must(t, "POST", "/storage-providers", valid)
	}
	page := s.must(t, "GET", "/storage-providers?limit=2", "")
	cursor, last := page["nextPage"].(string), idsOf(page)[1]
	whole := idsOf(s.must(t, "GET", "/storage-providers", ""))

	s.must(t, "DELETE", "/storage-providers/"+last, "")
	if got := idsOf(s.must(t, "GET", "/storage-providers?after="+cursor, "")); !slices.Equal(got, whole[2:]) {
		t.Errorf("after its row was deleted: %v, want %v", got, whole[2:])
	}
	_, stranger := s.newTeam(t, "vision")
	for name, a := range map[string]answer{
		"another order": s.do(t, "GET", "/storage-providers?order=asc&after="+cursor, ""),
		"another list":  s.do(t, "GET", "/scans?after="+cursor, ""),
		"another team":  s.as(t, stranger, "GET", "/storage-providers?after="+cursor, ""),
	} {
		if a.Status != http.StatusBadRequest || !strings.Contains(string(a.Body), "?after") {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) // reproducible on purpose
	for range 500 {
		forged := []byte(cursor)
		i := random.IntN(len(forged))
		for forged[i] == cursor[i] {
			forged[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random.IntN(64)]
		}
		if a := s.do(t, "GET", "/storage-providers?after="+string(forged), ""); a.Status != http.StatusBadRequest {
			t.Fatalf("the forged cursor %s: %d", forged, a.Status)
		}
	}
}
