package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newUtilizationCommand(e *environment) *cobra.Command {
	var provider string
	var folders bool
	var past historyFlags
	cmd := &cobra.Command{
		Use: "utilization [PROVIDER]", Aliases: []string{"usage"}, Short: "Show what is stored, by category", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeProvider,
		Long: `Show what the team stores, by category, and what is left of its plan; or
what one provider's bucket holds, in detail. The figures are those of the
newest complete scans; asking measures nothing.

With --folders, show the biggest folders of the provider's bucket at each depth;
the remaining line of each depth is what is in smaller ones or in none.

With --history, show how that came about: a line for each category, to a scale
of its own, what is used at its end, and the byte-hours from end to end. Where
something was not measured for too long, or not yet, the line has a dot (or a
question mark where there is no terminal), and no byte-hours are counted. Hours
go back 90 days, days 5 years. The days until the plan is full are reckoned
from the last 30 days, and n/a while there are too few, or no growth.`,
		Example: `  purser utilization splgct3arqdh77c --folders
  purser utilization --history
  purser utilization splgct3arqdh77c --history --step day --from 90d
  purser utilization --history --from 2027-01-01 --to 2027-02-01 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := oneProvider(provider, args)
			if err != nil {
				return err
			}
			if folders && id == "" {
				return usagef("--folders is about one provider: name it")
			}
			request, err := past.request(cmd, id, time.Now())
			if err != nil {
				return err
			}
			return e.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
				return e.showUtilization(ctx, c, id, folders, request)
			})(cmd, args)
		},
	}
	past.register(cmd)
	cmd.Flags().BoolVar(&folders, "folders", false, "show the biggest folders of a provider's bucket")
	cmd.MarkFlagsMutuallyExclusive("folders", "history")
	cmd.Flags().StringVar(&provider, "provider", "", "the provider's `ID`, as an argument would give it")
	_ = cmd.RegisterFlagCompletionFunc("provider", e.completeProvider)
	return e.clientFlags(cmd)
}

// oneProvider is the provider that a command line names in either way; empty for
// none.
func oneProvider(flag string, args []string) (purser.ProviderID, error) {
	switch {
	case len(args) == 0:
		return purser.ProviderID(flag), nil
	case flag != "" && flag != args[0]:
		return "", usagef("name one provider, as an argument or with --provider")
	}
	return purser.ProviderID(args[0]), nil
}

// showUtilization shows the present or, if there is a request for it, the past.
func (e *environment) showUtilization(ctx context.Context, c *client.Client, id purser.ProviderID, folders bool, past *purser.HistoryRequest) error {
	switch {
	case past != nil:
		history, err := c.History(ctx, *past)
		if err != nil {
			return err
		}
		return e.printHistory(history, *past)
	case id != "":
		usage, err := c.ProviderUsage(ctx, id)
		if err != nil {
			return err
		}
		return e.printSourceUsage(usage, folders)
	}
	u, err := c.Utilization(ctx)
	if err != nil {
		return err
	}
	return e.printUtilization(u)
}

func (e *environment) printUtilization(u purser.Utilization) error {
	people := newTable("CATEGORY", ">USED")
	people.row("Datasets", u.Dataset.Human())
	people.row("Models", u.Model.Human())
	people.row("Notebook workspaces", u.NotebookWorkspace.Human())
	people.row("Shared storage", u.SharedStorage.Human())
	people.row("Total", u.Total().Human())
	people.row("In the plan", u.TotalFreeStorage.Human())
	people.row("Left of the plan", u.RemainingFreeStorage().Human())
	if err := e.print(toUtilizationJSON(u), people); err != nil {
		return err
	}
	if !e.json {
		e.say("%s", usageRemark(u))
	}
	return nil
}

// usageRemark says how far the figures can be trusted.
func usageRemark(u purser.Utilization) string {
	measured := "measured at " + showTime(u.MeasuredAt) + " or later"
	if u.MeasuredAt.IsZero() {
		measured = "nothing was measured yet"
	}
	switch u.State {
	case purser.UsagePending:
		return "Pending: some places were not measured yet; " + measured + ". See purser scan list."
	case purser.UsageStale:
		return "Stale: the newest scan of some place failed or is overdue; " + measured + ". See purser scan list."
	}
	return "Complete: " + measured + "."
}

// categoryTitles are the words for people.
var categoryTitles = map[purser.Category]string{
	purser.CategoryDataset:           "Datasets",
	purser.CategoryModel:             "Models",
	purser.CategoryNotebookWorkspace: "Notebook workspaces",
	purser.CategorySharedStorage:     "Shared storage",
	purser.CategoryUnmatched:         "No rule matches",
}

func categoryTable(u purser.SourceUsage) *table {
	people := newTable("CATEGORY", ">OBJECTS", ">CURRENT", ">NONCURRENT", ">UNFINISHED", ">TOTAL")
	for _, category := range append(append([]purser.Category{}, purser.Categories...), purser.CategoryUnmatched) {
		t := u.Tallies[category]
		people.row(categoryTitles[category], showCount(t.Objects), t.Current.Human(), t.Noncurrent.Human(), t.Unfinished.Human(), t.Bytes().Human())
	}
	return people
}

func folderTable(u purser.SourceUsage) *table {
	people := newTable(">SIZE", ">OBJECTS", "FOLDER")
	row := func(a purser.Amount, name string) { people.row(a.Bytes.Human(), showCount(a.Objects), name) }
	for i, level := range u.Folders {
		for _, f := range level.Biggest {
			row(f.Amount, plain(f.Path))
		}
		row(level.Rest, fmt.Sprintf("(other at depth %d)", i+1))
	}
	return people
}

func (e *environment) printSourceUsage(u purser.SourceUsage, folders bool) error {
	people := categoryTable(u)
	if folders {
		people = folderTable(u)
	}
	if err := e.print(toSourceUsageJSON(u, time.Now()), people); err != nil || e.json {
		return err
	}
	switch {
	case u.MeasuredAt.IsZero():
		e.say("This bucket was not measured yet; see purser scan list.")
	case !u.Complete:
		e.say("Measured at %s; the newest scan could not read everything, see purser scan list.", showTime(u.MeasuredAt))
	default:
		e.say("Measured at %s by method %s with %s, about USD %s.",
			showTime(u.MeasuredAt), u.Method, several(u.Requests, "request"), u.EstimatedCost)
	}
	e.say("All scans of this bucket today: %s.", showBudget(u.Budget))
	return nil
}
