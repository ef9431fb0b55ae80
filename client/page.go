package client

import (
	"context"
	"iter"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/oas"
)

// ListOptions says which part of a list is wanted. The zero value is the first
// page of the newest.
type ListOptions struct {
	// After is the Next of the page before.
	After string
	// Limit is the size of a page, at most purser.MaxPageSize. 0 lets the server
	// choose; where all pages are read it means the largest.
	Limit int
	// Ascending lists the oldest first.
	Ascending bool
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T
	// Next leads to the page that follows; empty on the last one.
	Next string
}

func (o ListOptions) after() oas.OptString {
	return oas.OptString{Value: o.After, Set: o.After != ""}
}

func (o ListOptions) limit() oas.OptInt {
	return oas.OptInt{Value: o.Limit, Set: o.Limit != 0}
}

func (o ListOptions) order() oas.OptOrder {
	return oas.OptOrder{Value: oas.OrderAsc, Set: o.Ascending}
}

// toPage makes a page from the parts that every list answer has.
func toPage[W, D any](items []W, next oas.NilNextPage, convert func(W) (D, error)) (Page[D], error) {
	page := Page[D]{Items: make([]D, 0, len(items))}
	for _, item := range items {
		converted, err := convert(item)
		if err != nil {
			return Page[D]{}, err
		}
		page.Items = append(page.Items, converted)
	}
	if !next.Null {
		page.Next = string(next.Value)
	}
	return page, nil
}

// each reads page after page. It ends after the first error, which comes with
// the zero T.
func each[T any](ctx context.Context, o ListOptions, list func(context.Context, ListOptions) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		next := o
		if next.Limit == 0 {
			next.Limit = purser.MaxPageSize
		}
		for {
			page, err := list(ctx, next)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			if page.Next == next.After { // or the loop would never end
				yield(none, &Error{Message: "The server's list leads from a page to itself."})
				return
			}
			next.After = page.Next
		}
	}
}
