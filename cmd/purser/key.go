package main

import (
	"context"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newKeyCommand(e *environment) *cobra.Command {
	group := newGroup("key", "Manage API keys; for owners",
		newKeyListCommand(e),
		newKeyCreateCommand(e),
		newKeyRevokeCommand(e),
	)
	group.Aliases = []string{"api-key"}
	return e.clientFlags(group)
}

func newKeyListCommand(e *environment) *cobra.Command {
	var team string
	cmd := newListCommand(e, "List the team's API keys", func(c *client.Client) listing[purser.APIKey] {
		return keyListing(c, purser.TeamID(team))
	})
	teamFlag(cmd, &team)
	return cmd
}

func teamFlag(cmd *cobra.Command, team *string) {
	cmd.Flags().StringVar(team, "team", "", "`ID` of another team; for operators")
}

func keyListing(c *client.Client, team purser.TeamID) listing[purser.APIKey] {
	return listing[purser.APIKey]{
		page: func(ctx context.Context, o client.ListOptions) (client.Page[purser.APIKey], error) {
			return c.ListKeys(ctx, team, o)
		},
		all: func(ctx context.Context, o client.ListOptions) iter.Seq2[purser.APIKey, error] {
			return c.EachKey(ctx, team, o)
		},
		titles: []string{"ID", "NAME", "ROLE", "TEAM", "CREATED", "EXPIRES", "LAST USED"},
		cells: func(k purser.APIKey) []string {
			return []string{string(k.ID), k.Name, string(k.Role), string(k.TeamID), showTime(k.CreatedAt), showTime(k.ExpiresAt), showTime(k.LastUsedAt)}
		},
		document: func(k purser.APIKey) any { return toKeyJSON(k) },
		none:     "The team has no API keys.",
	}
}

func newKeyCreateCommand(e *environment) *cobra.Command {
	var name, role, team, expires string
	cmd := &cobra.Command{
		Use: "create --name NAME --role ROLE", Short: "Create an API key", Args: cobra.NoArgs,
		Long: `Create an API key and write it, and nothing else, to stdout. It is not shown
again.

A viewer reads; an editor also creates, changes, deletes and scans; an owner
also manages the team's keys; an operator also manages teams.`,
		Example: `  purser key create --name "training jobs" --role editor --expires 90d > training.key`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			at, err := parseExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			key, secret, err := c.CreateKey(ctx, purser.KeyDraft{Name: name, Role: purser.Role(role), TeamID: purser.TeamID(team), ExpiresAt: at})
			if err != nil {
				return err
			}
			return e.printNewKey(key, secret)
		}),
	}
	flags := cmd.Flags()
	flags.StringVarP(&name, "name", "n", "", "what people call it")
	flags.StringVar(&role, "role", "", "what its holder may do: viewer, editor, owner or operator")
	flags.StringVar(&expires, "expires", "", "`WHEN` it stops working: a time from now (12h, 90d), a date, or an RFC 3339 time; never if empty")
	teamFlag(cmd, &team)
	for _, required := range []string{"name", "role"} {
		_ = cmd.MarkFlagRequired(required) // fails for unknown flags only
	}
	_ = cmd.RegisterFlagCompletionFunc("role", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"viewer", "editor", "owner", "operator"}, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// printNewKey shows a key for the only time.
func (e *environment) printNewKey(key purser.APIKey, secret purser.Secret) error {
	if e.json {
		document := toKeyJSON(key)
		document.Key = secret.Expose()
		return e.printJSON(document)
	}
	e.say("Created %s (%s). This is the only time the key is shown:", key.ID, key.Role)
	_, err := e.stdout.Write([]byte(secret.Expose() + "\n"))
	return err
}

// parseExpiry reads when a key ends; the zero time for never.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, ok := parseTime(text, now, +1); ok {
		return at, nil
	}
	return time.Time{}, usagef("--expires: %q is neither a time from now (12h, 90d) nor a date (2027-01-01) nor an RFC 3339 time", text)
}

// parseTime reads a time: so many hours or days from now, in the direction of
// sign, or a date, or an RFC 3339 time.
func parseTime(text string, now time.Time, sign int) (time.Time, bool) {
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, sign*int(n)), true
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(time.Duration(sign) * d), true
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

func newKeyRevokeCommand(e *environment) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "revoke ID", Aliases: []string{"delete", "rm"}, Short: "Make an API key worthless", Args: one("key id"),
		Long: `Make an API key worthless, everywhere within one second.`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			if err := e.confirm(ctx, yes, "Revoke the API key "+args[0]+"?"); err != nil {
				return err
			}
			if err := c.RevokeKey(ctx, purser.KeyID(args[0])); err != nil {
				return err
			}
			return e.printDeleted(args[0], "Revoked")
		}),
	}
	yesFlag(cmd, &yes)
	return cmd
}
