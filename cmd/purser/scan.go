package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newScanCommand(e *environment) *cobra.Command {
	return e.clientFlags(newGroup("scan", "Measure, and see how measuring goes",
		newListCommand(e, "List the team's scans", scanListing),
		newScanGetCommand(e),
		newScanStartCommand(e),
		newScanCancelCommand(e),
	))
}

var scanTitles = []string{"ID", "SOURCE", "STATE", ">OBJECTS", ">BYTES", ">REQUESTS", ">USD", "STARTED", "FINISHED", "ERROR"}

func scanCells(s purser.Scan) []string {
	code := "-"
	if s.Error != nil {
		code = s.Error.Code
	}
	return []string{
		string(s.ID), s.Source, string(s.State), showCount(s.Objects), s.Bytes.Human(), showCount(s.Requests),
		showCost(s), showTime(s.StartedAt), showTime(s.FinishedAt), code,
	}
}

// showCost gives what a scan has cost, in US dollars.
func showCost(s purser.Scan) string {
	if s.ProviderID == "" {
		return "-"
	}
	return s.EstimatedCost.String()
}

// showBudget says how much of today's budget is spent.
func showBudget(b purser.RequestBudget) string {
	if b.PerDay == 0 {
		return several(b.Spent, "request") + ", without a limit"
	}
	return fmt.Sprintf("%d of %s, renewed at %s", b.Spent, several(b.PerDay, "request"), showTime(b.RenewsAt()))
}

func scanListing(c *client.Client) listing[purser.Scan] {
	return listing[purser.Scan]{
		page:     c.ListScans,
		all:      c.EachScan,
		titles:   scanTitles,
		cells:    scanCells,
		document: func(s purser.Scan) any { return toScanJSON(s) },
		none:     "Nothing was measured yet; start with: purser scan start",
	}
}

func (e *environment) printScan(s purser.Scan) error {
	people := newList()
	people.row("Id", string(s.ID))
	people.row("Source", s.Source)
	people.row("Provider", orDash(string(s.ProviderID)))
	people.row("State", string(s.State))
	people.row("Objects", showCount(s.Objects))
	people.row("Bytes", s.Bytes.Human())
	people.row("Requests", showCount(s.Requests))
	if s.ProviderID != "" {
		people.row("Estimated cost", "USD "+s.EstimatedCost.String())
	}
	if s.Budget != nil {
		people.row("Budget today", showBudget(*s.Budget))
	}
	people.row("Started", showTime(s.StartedAt))
	people.row("Finished", showTime(s.FinishedAt))
	if s.Error != nil {
		people.row("Remark", s.Error.Message+" ("+s.Error.Code+")")
		people.row("What to do", s.Error.Hint)
	}
	return e.print(toScanJSON(s), people)
}

func newScanGetCommand(e *environment) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show a scan and its progress", Args: one("scan id"),
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			scan, err := c.GetScan(ctx, purser.ScanID(args[0]))
			if err != nil {
				return err
			}
			return e.followScan(ctx, c, scan, !watch)
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "wait until it has ended and show how it goes")
	return cmd
}

func newProviderScanCommand(e *environment) *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use: "scan ID", Short: "Measure a provider's bucket now", Args: one("scan id"), ValidArgsFunction: e.completeProvider,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			scan, err := c.StartScan(ctx, purser.ProviderID(args[0]))
			if err != nil {
				return err
			}
			return e.followScan(ctx, c, scan, detach)
		}),
	}
	detachFlag(cmd, &detach)
	return cmd
}

func newScanStartCommand(e *environment) *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use: "start", Short: "Measure all of the team's places now", Args: cobra.NoArgs,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			scans, err := c.StartScans(ctx)
			if err != nil {
				return err
			}
			return e.followScans(ctx, c, scans, detach)
		}),
	}
	detachFlag(cmd, &detach)
	return cmd
}

func detachFlag(cmd *cobra.Command, detach *bool) {
	cmd.Flags().BoolVarP(detach, "detach", "d", false, "do not wait for the end")
}

func newScanCancelCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "cancel ID", Short: "Cancel a scan", Args: one("scan id"),
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			scan, err := c.CancelScan(ctx, purser.ScanID(args[0]))
			if err != nil {
				return err
			}
			return e.printScan(scan)
		}),
	}
}
