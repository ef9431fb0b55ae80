package httpapi

import (
	"bytes"
	"encoding/csv"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// toHistoryCSV writes the items of a history as RFC 4180 has it. All cells are
// ours and begin with a letter or a digit: a spreadsheet takes none of them for
// a formula.
func toHistoryCSV(h purser.History) (*oas.StorageUtilizationHistoryOKTextCsv, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	w.UseCRLF = true
	rows := [][]string{{
		"at", "datasetUsage", "modelUsage", "notebookWorkspaceUsage", "sharedStorageUsage", "totalUsage",
		"datasetByteHours", "modelByteHours", "notebookWorkspaceByteHours", "sharedStorageByteHours", "totalByteHours", "complete",
	}}
	for _, item := range h.Items {
		row := []string{item.At.UTC().Format(time.RFC3339)}
		for _, u := range []purser.Usage{item.Usage, item.ByteHours} {
			row = append(row, u.Dataset.String(), u.Model.String(), u.NotebookWorkspace.String(), u.SharedStorage.String(), u.Total().String())
		}
		rows = append(rows, append(row, strconv.FormatBool(item.Complete)))
	}
	err := w.WriteAll(rows)
	return &oas.StorageUtilizationHistoryOKTextCsv{Data: &out}, err
}

// prefersCSV reports whether an Accept header would rather have CSV than JSON
// (RFC 9110, section 12.5.1). JSON is what everybody gets who does not care.
func prefersCSV(accept []string) bool {
	if len(accept) == 0 {
		return false
	}
	list := strings.Join(accept, ",")
	return weight(list, "text/csv") > weight(list, "application/json")
}

// weight is what the most specific media range that matches media says of it.
func weight(accept, media string) float64 {
	kind, _, _ := strings.Cut(media, "/")
	found, specific := 0.0, -1
	for item := range strings.SplitSeq(accept, ",") {
		name, parameters, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		rank := 0
		switch name {
		case media:
			rank = 2
		case kind + "/*":
			rank = 1
		case "*/*":
		default:
			continue
		}
		if rank < specific {
			continue
		}
		found, specific = 1, rank
		if q, err := strconv.ParseFloat(parameters["q"], 64); err == nil {
			found = q
		}
	}
	return found
}
