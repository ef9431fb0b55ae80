package httpapi

import (
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser"
)

func TestPrefersCSV(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		accept []string
		want   bool
	}{
		"nothing":               {nil, false},
		"CSV":                   {[]string{"text/csv"}, true},
		"CSV with parameters":   {[]string{"text/csv; charset=utf-8; header=present"}, true},
		"in capitals":           {[]string{"Text/CSV"}, true},
		"JSON":                  {[]string{"application/json"}, false},
		"both":                  {[]string{"text/csv, application/json"}, false},
		"CSV rather than JSON":  {[]string{"application/json;q=0.5, text/csv"}, true},
		"JSON rather than CSV":  {[]string{"text/csv;q=0.5, application/json"}, false},
		"in two lines":          {[]string{"application/json;q=0.5", "text/csv"}, true},
		"any text":              {[]string{"text/*"}, true},
		"anything":              {[]string{"*/*"}, false},
		"CSV before anything":   {[]string{"text/csv, */*;q=0.1"}, true},
		"anything but JSON":     {[]string{"*/*, application/json;q=0"}, true},
		"a browser":             {[]string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, false},
		"no CSV, whatever else": {[]string{"text/csv;q=0, text/plain"}, false},
		"what is no media type": {[]string{";;, text/csv/x, ,"}, false},
		"a weight that is none": {[]string{"text/csv;q=x"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := prefersCSV(test.accept); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestHistoryCSV(t *testing.T) {
	t.Parallel()
	answer, err := toHistoryCSV(purser.History{Items: []purser.HistoryItem{{
		At: time.Date(2027, 1, 31, 13, 0, 0, 0, time.FixedZone("", 3600)), Usage: purser.Usage{Dataset: 1, Model: 2, NotebookWorkspace: 3, SharedStorage: 4},
		ByteHours: purser.Usage{Dataset: 10, Model: 20, NotebookWorkspace: 30, SharedStorage: 40}, Complete: true,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(answer)
	if err != nil {
		t.Fatal(err)
	}
	want := "at,datasetUsage,modelUsage,notebookWorkspaceUsage,sharedStorageUsage,totalUsage," +
		"datasetByteHours,modelByteHours,notebookWorkspaceByteHours,sharedStorageByteHours,totalByteHours,complete\r\n" +
		"2027-01-31T12:00:00Z,1,2,3,4,10,10,20,30,40,100,true\r\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
