package store_test

import (
	"database/sql"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/store"
	"github.com/purserhq/purser/internal/store/storetest/pgtest"
)

// eachUpgrade opens databases of which the last migration was that of a version,
// with what the statements insert.
func eachUpgrade(t *testing.T, version int64, inserts []string, test func(t *testing.T, s *store.Store)) {
	t.Parallel()
	dir, url := t.TempDir(), pgtest.URL(t)
	for _, c := range []struct {
		driver, address string
		dialect         store.Dialect
		open            func() (*store.Store, error)
	}{
		{"sqlite", filepath.Join(dir, "purser.db"), store.SQLite, func() (*store.Store, error) { return store.OpenSQLite(t.Context(), dir) }},
		{"pgx", url, store.Postgres, func() (*store.Store, error) { return store.OpenPostgres(t.Context(), url) }},
	} {
		t.Run(c.driver, func(t *testing.T) {
			db, err := sql.Open(c.driver, c.address)
			must(t, err)
			defer func() { _ = db.Close() }()
			must(t, store.MigrateTo(t.Context(), db, c.dialect, version))
			for _, insert := range inserts {
				_, err := db.ExecContext(t.Context(), insert)
				must(t, err)
			}
			must(t, db.Close())
			test(t, closing(t)(c.open()))
		})
	}
}

// TestUpgradeToHistory: sources that are there get a history from then on.
func TestUpgradeToHistory(t *testing.T) {
	eachUpgrade(t, 1, []string{
		`INSERT INTO teams VALUES ('team', 'n', 'n', 0, 0)`,
		`INSERT INTO sources (team_id, id, tree_category, tree_path, due_at, dataset_bytes, model_bytes, notebook_workspace_bytes,
			shared_storage_bytes, tallies, method, complete, requests)
			VALUES ('team', 'source', 'model', '/srv', 1000000000000000, 0, 0, 0, 0, '{}', '', FALSE, 0)`,
	}, func(t *testing.T, s *store.Store) {
		var got []store.Series
		due := time.UnixMicro(1e15).UTC()
		q := store.HistoryQuery{Team: "team", Step: purser.StepDay, From: due, To: due.Add(time.Hour)}
		must(t, s.EachHistory(t.Context(), q, func(h store.SeriesHistory) error {
			got = append(got, h.Series)
			return nil
		}))
		if want := []store.Series{{SourceID: "source", Number: 1, BeganAt: due}}; !slices.Equal(got, want) {
			t.Errorf("series %+v, want %+v", got, want)
		}
	})
}

// TestUpgradeToHealth: of a bucket that is there nothing is known yet.
func TestUpgradeToHealth(t *testing.T) {
	eachUpgrade(t, 4, []string{
		`INSERT INTO teams VALUES ('team', 'n', 'n', 0, 0)`,
		`INSERT INTO providers VALUES ('team', 'provider', 'n', FALSE, FALSE, NULL, 'b', 'AK', NULL, FALSE, NULL, '', 1, '', '[]', 1, 0, 0)`,
		`INSERT INTO sources (team_id, id, provider_id, due_at, dataset_bytes, model_bytes, notebook_workspace_bytes, shared_storage_bytes,
			tallies, method, complete, requests, measured_at)
			VALUES ('team', 'source', 'provider', 0, 0, 0, 0, 0, '{}', 'list', TRUE, 0, 3000000)`,
	}, func(t *testing.T, s *store.Store) {
		got, err := s.GetHealth(t.Context(), "team", "provider")
		if diff := cmp.Diff(purser.Health{State: purser.HealthUnknown, Method: "list"}, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	})
}
