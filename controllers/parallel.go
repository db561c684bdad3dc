package controllers

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
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
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(items), parallelWrites) { // few, since each grows a deep stack
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(items)); i = next.Add(1) - 1 {
				if err := do(ctx, items[i]); !errors.Is(err, errLater) {
					errs[i] = err
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}
