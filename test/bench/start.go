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
				if err := b.startOn(ctx, "started on new Services", 0, s.services, s.services); err != nil {
					return err
				}
				if err := b.startOn(ctx, "started on one new Service", s.services, 1, s.services); err != nil {
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

// startOn starts the controller when some Services wait, and all others are assigned and live already.
func (b *bench) startOn(ctx context.Context, what string, first, waiting, all int) error {
	if err := b.Manager.Stop(); err != nil {
		return err
	}
	if _, err := b.create(ctx, first, waiting); err != nil {
		return err
	}
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	name := func(i int) string { return serviceName(first + i) }
	return b.started(ctx, what, all, func() (bool, error) { return w.published.hasAll(name, waiting), nil })
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
