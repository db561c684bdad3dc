package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/external-lb/external-lb/test/bench/report"
)

// life: Services are created, changed and deleted, all at once.
func (b *bench) life(ctx context.Context) error {
	sizes := b.engine.life.of(b.options)
	return b.inLab(ctx, most(sizes), b.plain(), func(ctx context.Context) error {
		for _, s := range sizes {
			for i := range b.options.runs {
				if err := b.lifeOf(ctx, s.services); err != nil {
					return fmt.Errorf("run %d with %d Services: %w", i+1, s.services, err)
				}
			}
		}
		return nil
	})
}

// phase of a Service's life.
type phase struct {
	what string
	do   func(ctx context.Context, first, n int) (*times, error)
	seen *times
}

func (b *bench) lifeOf(ctx context.Context, n int) error {
	if err := b.restart(ctx); err != nil {
		return err
	}
	w, err := b.watch(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	created := phase{"created", b.create, &w.published}
	changed := phase{"changed", b.change, &w.changed}
	deleted := phase{"deleted", b.remove, &w.gone}
	first, err := b.phase(ctx, created, n)
	if err != nil {
		return err
	}
	second := map[report.Metric]float64{}
	if !b.isMetalLB() { // which says nothing of a changed port
		if second, err = b.phase(ctx, changed, n); err != nil {
			return err
		}
	}
	third, err := b.phase(ctx, deleted, n)
	if err != nil {
		return err
	}
	short := add(first, third)
	if short[report.ControllerPeak], _, err = resident(b.controller().PID()); err != nil {
		return err
	}
	b.samples.Add("created and deleted", n, 1, short)
	if len(second) > 0 {
		b.samples.Add("created, changed and deleted", n, 1, add(add(first, second), third))
	}
	return nil
}

// phase measures one, and returns what it cost.
func (b *bench) phase(ctx context.Context, p phase, n int) (map[report.Metric]float64, error) {
	before, err := b.settled(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	asked, err := p.do(ctx, 0, n)
	if err != nil {
		return nil, err
	}
	if err := b.until(ctx, n, "all are "+p.what, func() (bool, error) { return p.seen.hasAll(serviceName, n), nil }); err != nil {
		return nil, fmt.Errorf("%w: %d of %d", err, p.seen.count(), n)
	}
	total := since(began)
	after, err := b.settled(ctx)
	if err != nil {
		return nil, err
	}
	costs := b.costs(cost(before, after, n))
	figures := p.seen.since(asked)
	figures[report.Total] = total
	maps.Copy(figures, costs)
	if p.what != "deleted" && !b.isMetalLB() {
		if err := b.beside(ctx, figures, figures[report.P50]); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(os.Stderr, "%d %s in %.2f s: p50 %.2f s, %.2f ms of CPU each\n",
		n, p.what, total, figures[report.P50], costs[report.ControllerCPU])
	b.samples.Add(p.what, n, 1, figures)
	return costs, nil
}

// costs without what there is none of.
func (b *bench) costs(all map[report.Metric]float64) map[report.Metric]float64 {
	if b.isMetalLB() {
		delete(all, report.Reloads)
		delete(all, report.AgentCPU)
	}
	return all
}

// beside a time is its floor.
func (b *bench) beside(ctx context.Context, figures map[report.Metric]float64, time float64) (err error) {
	if _, figures[report.Floor], err = b.floor(ctx); err == nil {
		figures[report.Ratio] = time / figures[report.Floor]
	}
	return err
}

func add(a, b map[report.Metric]float64) map[report.Metric]float64 {
	out := maps.Clone(a)
	for metric, v := range b {
		out[metric] += v
	}
	return out
}
