package controllers

import (
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/plan"
)

// serving are the hosts that are not taken out for maintenance, in order.
func serving(b *v1alpha1.Balancer, states []deliver.State) []deliver.State {
	drained := map[string]bool{}
	for _, h := range b.Spec.Hosts {
		drained[h.Name] = h.Drain
	}
	return slices.DeleteFunc(slices.Clone(states), func(s deliver.State) bool { return drained[s.Host] })
}

// needed is how many of the serving hosts must prove what is desired.
func needed(b *v1alpha1.Balancer, serving int) int {
	return max(1, min(int(b.Spec.Publish.MinHosts), serving))
}

// activeProved reports whether the host that has the addresses is among those
// that proved something. Without VRRP, all have them.
func activeProved(b *v1alpha1.Balancer, states []deliver.State, proved func(deliver.State) bool) bool {
	return b.Spec.VirtualAddresses.Mode != v1alpha1.VRRP ||
		slices.ContainsFunc(states, func(s deliver.State) bool { return s.Active && proved(s) })
}

// coming reports whether a host that has not proved a fragment yet is about to:
// where clients may reach any host, none of them should refuse what is published.
// Hosts that cannot be reached, or fail, are not waited for.
func coming(s deliver.State, path string) bool {
	return s.State != v1alpha1.HostUnreachable && s.State != v1alpha1.HostFailed &&
		!slices.ContainsFunc(s.Refused, func(r host.Refusal) bool { return r.Path == path })
}

// mayHave lists the hosts on which an address may still be that nothing there
// needs any more.
func mayHave(a netip.Addr, desired *fileset.Set, states []deliver.State) (where []deliver.State) {
	path := plan.AddressPath(a)
	if desired != nil {
		if _, wanted := desired.Get(path); wanted {
			return nil
		}
	}
	return slices.DeleteFunc(slices.Clone(states), func(s deliver.State) bool { return !s.MayServe(path) })
}
