package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/store/storetest"
	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, openSQLite)
}

// A statement that the suite does not run is a promise that nobody checks.
func TestPostgres(t *testing.T) {
	t.Parallel()
	var recorder store.Recorder
	t.Run("promises", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) *store.Store {
			t.Helper()
			return closing(t)(store.OpenPostgresRecorded(t.Context(), pgtest.URL(t), &recorder))
		})
	})
	if never := recorder.NeverRan(); len(never) > 0 && !t.Failed() {
		t.Errorf("the suite has never run the statements %q", never)
	}
	// These are part of every batch of more than one change; see batch_test.go.
	batch := []string{"ReleaseSavepoint", "RollbackToSavepoint", "Savepoint"}
	if diff := cmp.Diff(batch, store.SQLiteOnly()); diff != "" {
		t.Errorf("statements that PostgreSQL does not have (-want +got):\n%s", diff)
	}
}

// Two servers share the work on one PostgreSQL.
func TestPostgresNodes(t *testing.T) {
	t.Parallel()
	storetest.RunNodes(t, func(t testing.TB) []*store.Store {
		t.Helper()
		url := pgtest.URL(t)
		return []*store.Store{openPostgres(t, url), openPostgres(t, url)}
	})
}

func openSQLite(t testing.TB) *store.Store {
	t.Helper()
	return closing(t)(store.OpenSQLite(t.Context(), t.TempDir()))
}

func openPostgres(t testing.TB, url string) *store.Store {
	t.Helper()
	return closing(t)(store.OpenPostgres(t.Context(), url))
}

// closing closes a store that was opened when the test has ended.
func closing(t testing.TB) func(*store.Store, error) *store.Store {
	t.Helper()
	return func(s *store.Store, err error) *store.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}

func BenchmarkSQLite(b *testing.B) { storetest.Bench(b, openSQLite) }

func BenchmarkPostgres(b *testing.B) {
	storetest.Bench(b, func(t testing.TB) *store.Store { return openPostgres(t, pgtest.URL(t)) })
}
