package main

import (
	"context"
	"fmt"
	"os"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/bench/report"
)

// few nodes for each Service are what the documentation advises where there are many of both.
const few = 3

// hosts: what a host needs, with all nodes behind each Service and with few.
func (b *bench) hosts(ctx context.Context) error {
	sizes := b.engine.hosts.of(b.options)
	return b.inLab(ctx, most(sizes), b.plain(), func(ctx context.Context) error {
		return b.atSizes(ctx, sizes, func(s size) error {
			if b.engine.change == nil {
				if err := b.hostOf(ctx, s, "all nodes"); err != nil {
					return err
				}
			}
			if err := b.perService(ctx, s, few); err != nil {
				return err
			}
			if err := b.hostOf(ctx, s, fmt.Sprintf("maxPerService: %d", few)); err != nil {
				return err
			}
			if b.engine.change != nil {
				return nil
			}
			return b.perService(ctx, s, 0)
		})
	})
}

// perService bounds how many nodes are behind each Service.
func (b *bench) perService(ctx context.Context, s size, nodes int32) error {
	var bal v1alpha1.Balancer
	if err := b.Kube.Get(ctx, client.ObjectKey{Name: balancer}, &bal); err != nil {
		return err
	}
	if bal.Spec.Nodes.MaxPerService == nodes {
		return nil
	}
	was := bal.DeepCopy()
	bal.Spec.Nodes.MaxPerService = nodes
	if err := b.Kube.Patch(ctx, &bal, client.MergeFrom(was)); err != nil {
		return err
	}
	return b.balancerIs(ctx, s.services, "the change of maxPerService is live", live)
}

// hostOf measures what all that is live costs the host.
func (b *bench) hostOf(ctx context.Context, s size, what string) error {
	for range b.options.runs {
		if err := b.rest(ctx, s.services); err != nil {
			return err
		}
		figures := map[report.Metric]float64{}
		var err error
		if figures[report.Check], figures[report.Floor], err = b.floor(ctx); err != nil {
			return err
		}
		if figures[report.Daemon], figures[report.DaemonPeak], err = b.daemonMemory(ctx); err != nil {
			return err
		}
		if _, figures[report.AgentPeak], err = b.agent(ctx); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, %s: %.2f s, %.0f MB\n", s, what, figures[report.Floor], figures[report.Daemon])
		b.samples.Add(what, s.services, s.nodes, figures)
	}
	return b.forgetPeaks(ctx)
}

// daemonMemory is what the daemon's processes have, and the most during a reload, in megabytes. What they share
// counts once, where the kernel says so.
func (b *bench) daemonMemory(ctx context.Context) (now, peak float64, err error) {
	return b.twoFigures(ctx, `
memory() {
  for pid in $(pgrep -x `+b.engine.daemon+`); do
    cat /proc/$pid/smaps_rollup 2>/dev/null || sed 's/VmRSS/Pss/' /proc/$pid/status 2>/dev/null
  done | awk '/^Pss:/ {kb += $2} END {print kb / 1024}'
}
memory
reload() {`+b.engine.floor+`
}
reload >/dev/null & reloading=$!
while kill -0 $reloading 2>/dev/null; do memory; done | sort -n | tail -n 1`)
}
