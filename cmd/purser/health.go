package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newProviderHealthCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "health ID", Short: "Show whether a provider's bucket can be read", Args: one("provider id"), ValidArgsFunction: e.completeProvider,
		Long: `Show what the newest attempt to measure a provider's bucket has found: ok,
degraded (a part of it may not be read), failing, or unknown before the first
attempt. Asking tries nothing; purser provider scan does.`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			health, err := c.ProviderHealth(ctx, purser.ProviderID(args[0]))
			if err != nil {
				return err
			}
			return e.printHealth(health)
		}),
	}
}

func (e *environment) printHealth(h purser.Health) error {
	people := newList()
	people.row("State", string(h.State))
	people.row("Since", showTime(h.Since))
	people.row("Last checked", showTime(h.CheckedAt))
	if h.Error != nil {
		people.row("Error", h.Error.Message+" ("+h.Error.Code+")")
		people.row("What to do", h.Error.Hint)
	}
	d := h.Detected
	people.row("Signing region", orDash(d.Region))
	people.row("Method", orDash(h.Method))
	people.row("Addressing", orDash(string(d.Addressing)))
	version, versioned := "", ""
	if d.ListVersion != 0 {
		version = strconv.Itoa(d.ListVersion)
	}
	if d.Versioned != nil {
		versioned = yesNo(*d.Versioned)
	}
	people.row("List version", orDash(version))
	people.row("Keeps versions", orDash(versioned))
	people.row("Budget today", showBudget(h.Budget))
	return e.print(toHealthJSON(h), people)
}
