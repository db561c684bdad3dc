package main

import (
	"context"
	"fmt"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// failOverLab has two hosts, between which keepalived moves the addresses.
func failOverLab(interval string) lab.Options {
	return lab.Options{
		Cluster: cluster.Options{Nodes: 1, Hosts: 2, Addresses: "vrrp"},
		Change: func(b *v1alpha1.Balancer) {
			b.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{
				Mode: v1alpha1.VRRP,
				VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51, AdvertisementInterval: v1alpha1.Duration(interval)},
			}
		},
	}
}

// failOver switches the active host off under load, and measures for how long no
// client is answered. A client waits for 100 ms, then connects anew.
func (b *bench) failOver(interval string) func(context.Context) (Result, error) {
	return func(ctx context.Context) (Result, error) {
		r := Result{Name: "without answers when the active host is switched off, adverts of " + interval}
		address, err := b.answering(ctx)
		if err != nil {
			return r, err
		}
		active, err := b.Host("lb1") // has the higher priority
		if err != nil {
			return r, err
		}
		load := startLoad(func() error { return b.onceWithin(ctx, address) })
		if err := wait.Precisely(ctx, "clients are answered", func() (bool, error) { return load.answers() > 20, nil }); err != nil {
			return r, err
		}
		if err := active.PowerOff(ctx); err != nil {
			return r, err
		}
		off := load.answers()
		// Twenty more: what was on its way is not an answer of the standby.
		if err := wait.Precisely(ctx, "the standby answers", func() (bool, error) { return load.answers() > off+20, nil }); err != nil {
			return r, err
		}
		load.stop()
		r.Requests, r.Failed = load.requests(), load.failed
		r.Total = longestGap(load.times)
		r.Name += fmt.Sprintf(": %d requests, %d failed", r.Requests, r.Failed)
		return r, nil
	}
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
