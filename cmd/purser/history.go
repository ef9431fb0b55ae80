package main

import (
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/purserhq/purser"
)

// historyFlags say which past is wanted, if any.
type historyFlags struct {
	wanted         bool
	step, from, to string
}

func (h *historyFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&h.wanted, "history", false, "show the past instead of the present")
	flags.StringVar(&h.step, "step", string(purser.StepHour), "how far apart the figures are: hour or day")
	flags.StringVar(&h.from, "from", "", "`WHEN` to begin: a time before now (36h, 90d), a date, or an RFC 3339 time; by default 24 hours or 30 days before the end")
	flags.StringVar(&h.to, "to", "", "`WHEN` to end, likewise; by default now")
	_ = cmd.RegisterFlagCompletionFunc("step", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{string(purser.StepHour), string(purser.StepDay)}, cobra.ShellCompDirectiveNoFileComp
	})
}

// request is what the flags ask for; nil if not for the past.
func (h *historyFlags) request(cmd *cobra.Command, id purser.ProviderID, now time.Time) (*purser.HistoryRequest, error) {
	if !h.wanted {
		for _, name := range []string{"step", "from", "to"} {
			if cmd.Flags().Changed(name) {
				return nil, usagef("--%s is for the past; add --history", name)
			}
		}
		return nil, nil
	}
	request := &purser.HistoryRequest{Step: purser.Step(h.step), Provider: id}
	if request.Step != purser.StepHour && request.Step != purser.StepDay {
		return nil, usagef("--step: %q is neither hour nor day", h.step)
	}
	for _, end := range []struct {
		name, text string
		at         *time.Time
	}{{"from", h.from, &request.From}, {"to", h.to, &request.To}} {
		if end.text == "" {
			continue
		}
		at, ok := parseTime(end.text, now, -1)
		if !ok {
			return nil, usagef("--%s: %q is neither a time before now (36h, 90d) nor a date (2027-01-01) nor an RFC 3339 time", end.name, end.text)
		}
		*end.at = at
	}
	return request, nil
}

func (e *environment) printHistory(h purser.History, asked purser.HistoryRequest) error {
	if len(h.Items) == 0 && !e.json {
		e.say("No whole %s ends in that time.", asked.Step)
		return nil
	}
	pen := e.newPen()
	people := newTable("CATEGORY", "HISTORY", ">USED", ">BYTE-HOURS")
	if len(h.Items) > 0 {
		var hours purser.Usage
		for _, item := range h.Items {
			hours = hours.Plus(item.ByteHours)
		}
		last := h.Items[len(h.Items)-1]
		for _, line := range historyLines {
			people.row(line.title, pen.draw(h.Items, line.of), line.of(last.Usage).Human(), line.of(hours).Human()+"-h")
		}
	}
	if asked.Provider == "" {
		people.row("Days until full", daysText(h.DaysUntilFull), "", "")
	}
	if err := e.print(toHistoryJSON(h), people); err != nil || e.json {
		return err
	}
	e.say("%s", historyRemark(h, asked.Step, pen.gap))
	return nil
}

// historyLines are what a history has a line for.
var historyLines = []struct {
	title string
	of    func(purser.Usage) purser.Bytes
}{
	{categoryTitles[purser.CategoryDataset], func(u purser.Usage) purser.Bytes { return u.Dataset }},
	{categoryTitles[purser.CategoryModel], func(u purser.Usage) purser.Bytes { return u.Model }},
	{categoryTitles[purser.CategoryNotebookWorkspace], func(u purser.Usage) purser.Bytes { return u.NotebookWorkspace }},
	{categoryTitles[purser.CategorySharedStorage], func(u purser.Usage) purser.Bytes { return u.SharedStorage }},
	{"Total", purser.Usage.Total},
}

func daysText(days *int) string {
	if days == nil {
		return "n/a"
	}
	return strconv.Itoa(*days)
}

// historyRemark says what time is shown, and how much of it is not certain.
func historyRemark(h purser.History, step purser.Step, gap rune) string {
	first, last, missing := h.Items[0], h.Items[len(h.Items)-1], int64(0)
	for _, item := range h.Items {
		if !item.Complete {
			missing++
		}
	}
	remark := several(int64(len(h.Items)), string(step)) + " from " + showTime(first.At.Add(-step.Duration())) + " to " + showTime(last.At)
	if missing == 0 {
		return remark + ", all complete."
	}
	return remark + "; " + string(gap) + " marks what was not measured for too long, or not yet (" + several(missing, string(step)) + ")."
}

// pen draws lines of characters.
type pen struct {
	levels []rune // nothing, and then from little to much
	gap    rune
	width  int // how many characters a line has at most
}

// Around a line are its title and its amounts; what they leave of a terminal is
// the line's, but not too little to see anything.
const (
	besidesLine   = 48
	narrowestLine = 8
	usualWidth    = 80 // of what is no terminal
)

// newPen makes a pen that draws what stdout can show.
func (e *environment) newPen() pen {
	p := pen{levels: []rune("_.:-=+*#"), gap: '?', width: usualWidth - besidesLine}
	screen := terminal(e.stdout)
	if screen == nil {
		return p
	}
	if columns, _, err := term.GetSize(int(screen.Fd())); err == nil {
		p.width = max(narrowestLine, columns-besidesLine)
	}
	if e.getenv("TERM") != "dumb" {
		p.levels, p.gap = []rune("▁▂▃▄▅▆▇█"), '·'
	}
	return p
}

// draw makes a line of what is in each item, or in the last of several where
// there are too many. A gap in one of them is a gap of all: it must be seen.
func (p pen) draw(items []purser.HistoryItem, of func(purser.Usage) purser.Bytes) string {
	largest := purser.Bytes(0)
	for _, item := range items {
		largest = max(largest, of(item.Usage))
	}
	line := make([]rune, min(p.width, len(items)))
	for i := range line {
		part := items[i*len(items)/len(line) : (i+1)*len(items)/len(line)]
		line[i] = p.level(of(part[len(part)-1].Usage), largest)
		for _, item := range part {
			if !item.Complete {
				line[i] = p.gap
			}
		}
	}
	return string(line)
}

// level is the character for an amount: the lowest one for nothing at all, and
// for nothing else.
func (p pen) level(amount, largest purser.Bytes) rune {
	if amount == 0 {
		return p.levels[0]
	}
	steps := len(p.levels) - 1
	return p.levels[min(steps, int(math.Ceil(float64(amount)/float64(largest)*float64(steps))))]
}
