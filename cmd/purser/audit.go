package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newAuditCommand(e *environment) *cobra.Command {
	return e.clientFlags(newGroup("audit", "See who changed, or was refused, what; for owners",
		newListCommand(e, "List the record of changes", auditListing),
	))
}

func auditListing(c *client.Client) listing[purser.AuditEvent] {
	return listing[purser.AuditEvent]{
		page:   c.ListAuditEvents,
		all:    c.EachAuditEvent,
		titles: []string{"AT", "TEAM", "ACTOR", "ACTION", "TARGET", "RESULT", "FROM", "FIELDS"},
		cells: func(ev purser.AuditEvent) []string {
			return []string{
				showTime(ev.At), string(ev.TeamID), ev.Actor, ev.Action, orDash(ev.Target), ev.Result,
				orDash(ev.SourceAddress), orDash(strings.Join(ev.Fields, ",")),
			}
		},
		document: func(ev purser.AuditEvent) any { return toEventJSON(ev) },
		none:     "Nothing was changed yet.",
	}
}
