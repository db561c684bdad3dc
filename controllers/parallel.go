package controllers

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// indexes of a list.
func indexes[T any](list []T) []int {
	out := make([]int, len(list))
	for i := range out {
		out[i] = i
	}
	return out
}

// each does something for every item, several at a time, and goes on after
// errors: one object that cannot be written must not stop the others. What takes care
// of itself is no error.
func each[T any](ctx context.Context, items []T, do func(context.Context, T) error) error {
	errs := make([]error, len(items))
	var group errgroup.Group
	group.SetLimit(parallelWrites)
	for i, item := range items {
		group.Go(func() error {
			if err := do(ctx, item); !errors.Is(err, errLater) {
				errs[i] = err
			}
			return nil
		})
	}
	_ = group.Wait() // every function above returns nil
	return errors.Join(errs...)
}
