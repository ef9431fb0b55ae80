package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newUtilizationCommand(e *environment) *cobra.Command {
	return e.clientFlags(&cobra.Command{
		Use: "utilization [PROVIDER]", Aliases: []string{"usage"}, Short: "Show what is stored, by category", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: e.completeProvider,
		Long: `Show what the team stores, by category, and what is left of its plan; or
what one provider's bucket holds, in detail. The figures are those of the
newest complete scans; asking measures nothing.`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 1 {
				usage, err := c.ProviderUsage(ctx, purser.ProviderID(args[0]))
				if err != nil {
					return err
				}
				return e.printSourceUsage(usage)
			}
			u, err := c.Utilization(ctx)
			if err != nil {
				return err
			}
			return e.printUtilization(u)
		}),
	})
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

func (e *environment) printSourceUsage(u purser.SourceUsage) error {
	people := newTable("CATEGORY", ">OBJECTS", ">CURRENT", ">NONCURRENT", ">UNFINISHED", ">TOTAL")
	for _, category := range append(append([]purser.Category{}, purser.Categories...), purser.CategoryUnmatched) {
		t := u.Tallies[category]
		people.row(categoryTitles[category], showCount(t.Objects), t.Current.Human(), t.Noncurrent.Human(), t.Unfinished.Human(), t.Bytes().Human())
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
		e.say("Measured at %s by method %s with %s.", showTime(u.MeasuredAt), u.Method, several(u.Requests, "request"))
	}
	return nil
}
