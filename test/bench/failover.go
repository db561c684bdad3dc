package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
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
		answered := b.answerTimes(ctx, address)
		began := time.Now()
		if err := active.PowerOff(ctx); err != nil {
			return r, err
		}
		if err := until(ctx, "the standby answers", func() (bool, error) { return b.onceWithin(ctx, address) == nil, nil }); err != nil {
			return r, err
		}
		times, failed := answered()
		r.Failed, r.Requests = failed, failed+len(times)
		r.Total = longestGap(times)
		if last := times[len(times)-1]; last.Before(began) {
			return r, fmt.Errorf("nobody was answered after the active host was switched off")
		}
		r.Name += fmt.Sprintf(": %d requests, %d failed", r.Requests, r.Failed)
		return r, nil
	}
}

// answerTimes asks all the time. What it returns ends that, and says when there
// were answers, in order, and how many requests had none.
func (b *bench) answerTimes(ctx context.Context, address string) (stop func() (times []time.Time, failed int)) {
	var mu sync.Mutex
	var times []time.Time
	failed := 0
	ended := make(chan struct{})
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				err := b.onceWithin(ctx, address)
				mu.Lock()
				if err == nil {
					times = append(times, time.Now())
				} else {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	return func() ([]time.Time, int) {
		close(ended)
		all.Wait()
		slices.SortFunc(times, time.Time.Compare)
		return times, failed
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
