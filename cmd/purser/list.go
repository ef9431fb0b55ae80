package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"github.com/purserhq/purser/client"
)

// listing is all that list commands differ in.
type listing[T any] struct {
	// page reads one page, all reads everything.
	page func(context.Context, client.ListOptions) (client.Page[T], error)
	all  func(context.Context, client.ListOptions) iter.Seq2[T, error]
	// titles and cells make a table, document makes JSON.
	titles   []string
	cells    func(T) []string
	document func(T) any
	// none is said to people when the list is empty.
	none string
}

// newListCommand makes a command that lists things: all of them, or the page
// that is asked for with --limit or --after.
func newListCommand[T any](e *environment, short string, list func(*client.Client) listing[T]) *cobra.Command {
	var options client.ListOptions
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.connect()
			if err != nil {
				return err
			}
			l := list(c)
			if options.Limit == 0 && options.After == "" {
				return l.printAll(cmd.Context(), e, options)
			}
			return l.printPage(cmd.Context(), e, options)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Limit, "limit", 0, "show one page of at most this many (1 to 120) instead of everything")
	flags.StringVar(&options.After, "after", "", "show the page that follows, by the `CURSOR` that came with the one before")
	flags.BoolVar(&options.Ascending, "asc", false, "oldest first")
	flags.Bool("desc", true, "newest first")
	cmd.MarkFlagsMutuallyExclusive("asc", "desc")
	return cmd
}

func (l listing[T]) printAll(ctx context.Context, e *environment, o client.ListOptions) error {
	items, documents := []T{}, []any{}
	for item, err := range l.all(ctx, o) {
		if err != nil {
			return err
		}
		items, documents = append(items, item), append(documents, l.document(item))
	}
	return l.print(e, items, documents)
}

// printPage shows one page as the API does, so that programs can go on to the
// next.
func (l listing[T]) printPage(ctx context.Context, e *environment, o client.ListOptions) error {
	page, err := l.page(ctx, o)
	if err != nil {
		return err
	}
	document := pageJSON{HasMore: page.Next != "", Items: []any{}, NextPage: orNull(page.Next)}
	for _, item := range page.Items {
		document.Items = append(document.Items, l.document(item))
	}
	if err := l.print(e, page.Items, document); err != nil {
		return err
	}
	if page.Next != "" && !e.json {
		e.say("There are more: --after %s", page.Next)
	}
	return nil
}

func (l listing[T]) print(e *environment, items []T, document any) error {
	if len(items) == 0 && !e.json {
		e.say("%s", l.none)
		return nil
	}
	people := newTable(l.titles...)
	for _, item := range items {
		people.row(l.cells(item)...)
	}
	return e.print(document, people)
}
