package main

import (
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	lgtable "charm.land/lipgloss/v2/table"
)

// printJSON writes value as the one document that --json promises.
func (e *environment) printJSON(value any) error {
	encoder := json.NewEncoder(e.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// print answers a command: with document if JSON is wanted, else with what
// people read.
func (e *environment) print(document any, people *table) error {
	if e.json {
		return e.printJSON(document)
	}
	return e.printTable(people)
}

// column is a column of a table; numbers are set to the right.
type column struct {
	title  string
	number bool
}

func columns(titles ...string) []column {
	list := make([]column, 0, len(titles))
	for _, title := range titles {
		name, number := strings.CutPrefix(title, ">")
		list = append(list, column{name, number})
	}
	return list
}

// table is what people get to read. Without titles it has no head.
type table struct {
	columns []column
	rows    [][]string
}

// newTable makes a table with the given titles; the columns of numbers are
// those whose titles begin with ">".
func newTable(titles ...string) *table { return &table{columns: columns(titles...)} }

// newList makes a table of names and values.
func newList() *table { return &table{columns: columns("", "")} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) headless() bool {
	for _, c := range t.columns {
		if c.title != "" {
			return false
		}
	}
	return true
}

// printTable writes a table without lines, so that it can be cut into columns
// by other programs too.
func (e *environment) printTable(t *table) error {
	view := lgtable.New().
		Border(lipgloss.HiddenBorder()).BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderHeader(false).BorderColumn(false).BorderRow(false).
		Wrap(false).
		StyleFunc(e.cellStyle(t))
	if !t.headless() {
		titles := make([]string, 0, len(t.columns))
		for _, c := range t.columns {
			titles = append(titles, c.title)
		}
		view.Headers(titles...)
	}
	for _, cells := range t.rows {
		clean := make([]string, 0, len(cells))
		for _, cell := range cells {
			clean = append(clean, plain(cell))
		}
		view.Row(clean...)
	}
	for line := range strings.Lines(view.Render() + "\n") {
		if _, err := io.WriteString(e.stdout, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

func (e *environment) cellStyle(t *table) lgtable.StyleFunc {
	bold := terminal(e.stdout) != nil && e.getenv("NO_COLOR") == "" && e.getenv("TERM") != "dumb"
	return func(row, col int) lipgloss.Style {
		style := lipgloss.NewStyle().PaddingRight(2)
		if t.columns[col].number {
			style = style.Align(lipgloss.Right)
		}
		if bold && row == lgtable.HeaderRow {
			style = style.Bold(true)
		}
		return style
	}
}

// plain makes foreign text fit for one line on a terminal: a name with escape
// sequences in it could otherwise repaint the screen.
func plain(s string) string {
	if !strings.ContainsFunc(s, unsafe) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unsafe(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// unsafe reports whether a terminal does something with r instead of showing it.
func unsafe(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// showTime gives a time as the API does, to the second.
func showTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// orDash stands for what is not there.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func showCount(n int64) string { return strconv.FormatInt(n, 10) }

// several counts things: 1 object, 2 objects.
func several(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return showCount(n) + " " + thing + "s"
}
