package e2e

import (
	"encoding/csv"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const historyPath = "/storage-providers/utilization/history"

// hourItem is an item of a history as the wire has it.
type hourItem struct {
	At           time.Time
	TotalUsage   string
	DatasetUsage string
	ByteHours    map[string]string
	Complete     bool
}

// TestDocumentedHistory asks for a time in which there was nothing yet, in both
// forms. What is in a history when there was something is tested where the clock
// can be set, in internal/utilization.
func TestDocumentedHistory(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	one := s.must(t, "POST", "/storage-providers", valid)["id"].(string)
	var got struct {
		Items         []hourItem
		DaysUntilFull *int
	}
	now := time.Now().UTC().Truncate(time.Second)
	from, to := now.Add(-5*time.Hour).Format(time.RFC3339), now.Format(time.RFC3339)
	s.do(t, "GET", historyPath+"?step=hour&from="+from+"&to="+to, "").decode(t, &got)
	if len(got.Items) != 5 || got.DaysUntilFull != nil {
		t.Fatalf("%+v", got)
	}
	for i, item := range got.Items {
		want := hourItem{
			At: now.Truncate(time.Hour).Add(time.Duration(i-4) * time.Hour), TotalUsage: "0", DatasetUsage: "0", Complete: true,
			ByteHours: map[string]string{"dataset": "0", "model": "0", "notebookWorkspace": "0", "sharedStorage": "0", "total": "0"},
		}
		if diff := cmp.Diff(want, item); diff != "" {
			t.Errorf("item %d (-want +got):\n%s", i, diff)
		}
	}

	table := s.do(t, "GET", historyPath+"?step=day&to="+to, "", "Accept: text/csv")
	if table.Status != http.StatusOK || table.Header.Get("Content-Type") != "text/csv" {
		t.Fatalf("%d %s %s", table.Status, table.Header, table.Body)
	}
	rows, err := csv.NewReader(strings.NewReader(string(table.Body))).ReadAll()
	if err != nil || len(rows) != 31 || rows[0][0] != "at" || rows[30][0] != now.Truncate(24*time.Hour).Format(time.RFC3339) || len(rows[30]) != 12 {
		t.Errorf("%v %s", err, table.Body)
	}

	// A deleted provider is not unknown; one that was never measured left nothing.
	ofOne := historyPath + "?providerId=" + one
	if a := s.do(t, "GET", ofOne, ""); a.Status != http.StatusOK {
		t.Errorf("of the provider: %d %s", a.Status, a.Body)
	}
	s.must(t, "DELETE", "/storage-providers/"+one, "")
	if a := s.do(t, "GET", ofOne, ""); a.Status != http.StatusNotFound {
		t.Errorf("of one that left nothing: %d %s", a.Status, a.Body)
	}
}
