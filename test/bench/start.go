package main

import (
	"context"
	"time"

	"github.com/external-lb/external-lb/test/bench/report"
)

// start: the controller starts when no Service has its address, and when all but one have theirs.
func (b *bench) start(ctx context.Context) error {
	sizes := b.engine.start.of(b.options)
	return b.inLab(ctx, most(sizes), b.plain(), func(ctx context.Context) error {
		for _, s := range sizes {
			for range b.options.runs {
				if err := b.cold(ctx, s.services); err != nil {
					return err
				}
				if err := b.warm(ctx, s.services); err != nil {
					return err
				}
				if err := b.clear(ctx, s.services+1); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// cold: all Services wait when the controller starts.
func (b *bench) cold(ctx context.Context, n int) error {
	if err := b.Manager.Stop(); err != nil {
		return err
	}
	if _, err := b.create(ctx, 0, n); err != nil {
		return err
	}
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	return b.started(ctx, "started on new Services", n, func() (bool, error) { return w.published.hasAll(serviceName, n), nil })
}

// warm: one Service waits, and all others are assigned and live already.
func (b *bench) warm(ctx context.Context, n int) error {
	if err := b.Manager.Stop(); err != nil {
		return err
	}
	if _, err := b.create(ctx, n, 1); err != nil {
		return err
	}
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	return b.started(ctx, "started on one new Service", n, func() (bool, error) { return w.published.has(serviceName(n)), nil })
}

// started measures a start, until something is so.
func (b *bench) started(ctx context.Context, what string, n int, is func() (bool, error)) error {
	before, err := b.writtenOnly(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := b.StartManager(ctx); err != nil {
		return err
	}
	if err := b.until(ctx, n, what, is); err != nil {
		return err
	}
	total := since(began)
	after, err := b.settled(ctx)
	if err != nil {
		return err
	}
	figures := cost(before, after, n)
	figures[report.Total] = total
	if err := b.beside(ctx, figures, total); err != nil {
		return err
	}
	if figures[report.ControllerPeak], figures[report.ControllerAfter], err = resident(b.Manager.PID()); err != nil {
		return err
	}
	b.samples.Add(what, n, 1, figures)
	return nil
}

// writtenOnly is what was used while no controller runs: the next one begins at 0.
func (b *bench) writtenOnly(ctx context.Context) (u usage, err error) {
	if u.writes, u.events, err = b.written(ctx); err != nil {
		return u, err
	}
	u.agent, _, err = b.agent(ctx)
	return u, err
}

// clear deletes the Services, and waits until they are gone.
func (b *bench) clear(ctx context.Context, n int) error {
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	if _, err := b.remove(ctx, 0, n); err != nil {
		return err
	}
	return b.until(ctx, n, "all are gone", func() (bool, error) { return w.gone.hasAll(serviceName, n), nil })
}
