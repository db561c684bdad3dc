package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// failOvers: the active of two hosts is switched off, with slow and with fast advertisements.
func (b *bench) failOvers(ctx context.Context) error {
	for _, interval := range []v1alpha1.Duration{"1s", "100ms"} {
		for range b.options.runs {
			err := b.inLab(ctx, 0, failOverLab(interval), func(ctx context.Context) error { return b.failOver(ctx, interval) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// failOverLab has two hosts, between which keepalived moves the addresses.
func failOverLab(interval v1alpha1.Duration) lab.Options {
	return lab.Options{
		Cluster: cluster.Options{Nodes: 1, Hosts: 2, Addresses: "vrrp"}, Balancer: balancer,
		Change: func(b *v1alpha1.Balancer) {
			b.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{
				Mode: v1alpha1.VRRP,
				VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51, AdvertisementInterval: interval},
			}
		},
	}
}

// failOver measures for how long no client is answered. A client waits for 100 ms, then connects anew.
func (b *bench) failOver(ctx context.Context, interval v1alpha1.Duration) error {
	address, err := b.answering(ctx)
	if err != nil {
		return err
	}
	active, err := b.Host("lb1") // has the higher priority
	if err != nil {
		return err
	}
	clients := startLoad(func() error { return b.onceWithin(ctx, address) })
	if err := wait.Precisely(ctx, "clients are answered", func() (bool, error) { return clients.answers() > 20, nil }); err != nil {
		return err
	}
	if err := active.PowerOff(ctx); err != nil {
		return err
	}
	off := clients.answers()
	// Twenty more: what was on its way is not an answer of the standby.
	if err := wait.Precisely(ctx, "the standby answers", func() (bool, error) { return clients.answers() > off+20, nil }); err != nil {
		return err
	}
	clients.stop()
	figures := map[report.Metric]float64{report.Gap: longestGap(clients.times),
		report.Requests: float64(clients.requests()), report.Failed: float64(clients.failed)}
	fmt.Fprintf(os.Stderr, "advertisements of %s: %.2f s without an answer\n", interval, figures[report.Gap])
	b.samples.Add(fmt.Sprintf("advertisements of %s", interval), 1, 1, figures)
	return nil
}

func (b *bench) onceWithin(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	return b.once(ctx, address)
}

// longestGap between two of some times, in seconds.
func longestGap(times []time.Time) float64 {
	var longest time.Duration
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i].Sub(times[i-1]))
	}
	return longest.Seconds()
}
