package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/client"
)

func newTeamCommand(e *environment) *cobra.Command {
	return e.clientFlags(newGroup("team", "Manage teams; for operators",
		newListCommand(e, "List all teams", teamListing),
		newTeamGetCommand(e),
		newTeamCreateCommand(e),
		newTeamUpdateCommand(e),
	))
}

func teamListing(c *client.Client) listing[purser.Team] {
	return listing[purser.Team]{
		page:   c.ListTeams,
		all:    c.EachTeam,
		titles: []string{"ID", "NAME", "NAMESPACE", ">FREE STORAGE", "CREATED"},
		cells: func(t purser.Team) []string {
			return []string{string(t.ID), t.Name, t.Namespace, t.TotalFreeStorage.Human(), showTime(t.CreatedAt)}
		},
		document: func(t purser.Team) any { return toTeamJSON(t) },
		none:     "There are no teams.",
	}
}

func (e *environment) printTeam(t purser.Team) error {
	people := newList()
	people.row("Id", string(t.ID))
	people.row("Name", t.Name)
	people.row("Namespace", t.Namespace)
	people.row("Free storage", t.TotalFreeStorage.Human())
	people.row("Created", showTime(t.CreatedAt))
	return e.print(toTeamJSON(t), people)
}

func newTeamGetCommand(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a team", Args: one("team id"),
		RunE: e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
			team, err := c.GetTeam(ctx, purser.TeamID(args[0]))
			if err != nil {
				return err
			}
			return e.printTeam(team)
		}),
	}
}

func newTeamCreateCommand(e *environment) *cobra.Command {
	var (
		draft purser.TeamDraft
		free  string
	)
	cmd := &cobra.Command{
		Use: "create --name NAME --namespace NAMESPACE", Short: "Create a team", Args: cobra.NoArgs,
		Example: `  purser team create --name Vision --namespace vision --free-storage 1TiB`,
		RunE: e.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
			var err error
			if draft.TotalFreeStorage, err = parseFreeStorage(free); err != nil {
				return err
			}
			team, err := c.CreateTeam(ctx, draft)
			if err != nil {
				return err
			}
			return e.printTeam(team)
		}),
	}
	teamFlags(cmd, &draft, &free)
	for _, name := range []string{"name", "namespace"} {
		_ = cmd.MarkFlagRequired(name) // fails for unknown flags only
	}
	return cmd
}

func newTeamUpdateCommand(e *environment) *cobra.Command {
	var (
		draft purser.TeamDraft
		free  string
	)
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a team", Args: one("team id"),
		Long: `Change what the flags say and leave the rest as it is.`,
	}
	teamFlags(cmd, &draft, &free)
	cmd.RunE = e.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		if cmd.Flags().NFlag() == 0 {
			return usageError{"nothing to change; say what is to be different"}
		}
		amount, err := parseFreeStorage(free)
		if err != nil {
			return err
		}
		id := purser.TeamID(args[0])
		before, err := c.GetTeam(ctx, id)
		if err != nil {
			return err
		}
		changed := purser.TeamDraft{
			Name:             first(draft.Name, before.Name),
			Namespace:        first(draft.Namespace, before.Namespace),
			TotalFreeStorage: &before.TotalFreeStorage,
		}
		if free != "" {
			changed.TotalFreeStorage = amount
		}
		team, err := c.UpdateTeam(ctx, id, changed)
		if err != nil {
			return err
		}
		return e.printTeam(team)
	})
	return cmd
}

func teamFlags(cmd *cobra.Command, draft *purser.TeamDraft, free *string) {
	cmd.Flags().StringVarP(&draft.Name, "name", "n", "", "what people call it")
	cmd.Flags().StringVar(&draft.Namespace, "namespace", "", "short unique name of lower-case letters, digits and hyphens")
	cmd.Flags().StringVar(free, "free-storage", "", "`AMOUNT` that comes with the plan, such as 5GiB; default means the server's default")
}

// parseFreeStorage reads an amount; nil, the server's default, for none.
func parseFreeStorage(text string) (*purser.Bytes, error) {
	if text == "" || text == "default" {
		return nil, nil
	}
	amount, err := purser.ParseBytes(text)
	if err != nil {
		return nil, usageError{"--free-storage: " + err.Error()}
	}
	return &amount, nil
}
