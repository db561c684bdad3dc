package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/record"
)

// role of a Service for one Balancer.
type role int

const (
	nobody    role = iota
	carried        // served
	arriving       // to be served as soon as it is proved; another carries it meanwhile
	staying        // carried until another has proved it
	leaving        // to be withdrawn
	waiting        // to be served once another has withdrawn it
	elsewhere      // on another's hosts, at an address in which this Balancer has a say
)

// carries reports whether the Balancer's hosts have the Service, or are to.
func (r role) carries() bool { return r == carried || r == arriving || r == staying }

// role of a Service for the snapshot's Balancer. A Service that keeps its
// addresses moves without a gap: both Balancers carry it until the new one has
// proved it. One that cannot keep them is withdrawn first.
func (s *Snapshot) role(svc *corev1.Service) role {
	me := s.Balancer.Name
	var target string
	if b := s.target(svc); b != nil {
		target = b.Name
	}
	holders := slices.DeleteFunc(record.Holders(svc), func(name string) bool { return !s.claims.exists(name) })
	carrier := record.Carrier(holders, svc)
	keeps := func() bool {
		return target != "" && s.claims.owner(svc) == target && s.claims.couldHave(carrier, svc)
	}
	switch {
	case target == me && (carrier == "" || carrier == me):
		return carried
	case target == me && keeps():
		return arriving
	case carrier == me && keeps():
		return staying
	case slices.Contains(holders, me):
		return leaving
	case target == me:
		return waiting
	case slices.ContainsFunc(record.Occupied(svc), s.inPools):
		return elsewhere
	default:
		return nobody
	}
}

// couldHave reports whether a Service can have come from a Balancer by a move: that
// has its class. One that was given another class is withdrawn first.
func (c Claims) couldHave(balancer string, svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.Spec.LoadBalancerClass == nil {
		return true
	}
	b := c.all[balancer]
	return b != nil && Class(b) == *svc.Spec.LoadBalancerClass
}

// target is the Balancer that should serve a Service, nil if none should.
func (s *Snapshot) target(svc *corev1.Service) *v1alpha1.Balancer {
	if svc.DeletionTimestamp != nil {
		return nil
	}
	return s.claims.Of(svc)
}

// inPools reports whether an address is of the snapshot's pools.
func (s *Snapshot) inPools(a netip.Addr) bool {
	contains := func(p *ipam.Pool) bool { return p.Contains(a) }
	return slices.ContainsFunc(s.own, contains) || slices.ContainsFunc(s.foreign, contains)
}

// WithAddressesOf are the Balancers of whose pools a held Service has addresses.
func WithAddressesOf(svc *corev1.Service, pools []*ipam.Pool) (names []string) {
	for _, a := range record.Occupied(svc) {
		for _, p := range pools {
			if p.Contains(a) {
				names = append(names, p.Balancer)
			}
		}
	}
	return names
}

// has are the addresses that a Service has: of each family the first on record, for
// those behind it are being left, or what was published.
func has(svc *corev1.Service) (out []netip.Addr) {
	addresses := record.Occupied(svc)
	if shown, ours := record.Shown(svc); ours {
		addresses = shown
	}
	for _, family := range svc.Spec.IPFamilies {
		i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Is4() == (family == corev1.IPv4Protocol) })
		if i >= 0 {
			out = append(out, addresses[i])
		}
	}
	return out
}

// owner is the Balancer whose pools have every address of a Service, "" if no
// single one has.
func (c Claims) owner(svc *corev1.Service) string {
	var owner string
	for _, a := range has(svc) {
		p := c.poolOf(a)
		if p == nil || owner != "" && owner != p.Balancer {
			return ""
		}
		owner = p.Balancer
	}
	return owner
}

// poolOf is the pool that has an address, nil if none has.
func (c Claims) poolOf(a netip.Addr) *ipam.Pool { return poolOf(a, c.pools) }

func poolOf(a netip.Addr, pools []*ipam.Pool) *ipam.Pool {
	if i := slices.IndexFunc(pools, func(p *ipam.Pool) bool { return p.Contains(a) }); i >= 0 {
		return pools[i]
	}
	return nil
}

// requested is what a Service without an address says of the pools of a Balancer that it may use.
func (c Claims) requested(b *v1alpha1.Balancer, svc *corev1.Service) *ipam.Request {
	asked, _ := requested(b, svc) // what cannot be read is told by whoever serves it
	return &ipam.Request{
		Requested: asked.addresses, Pool: asked.pool,
		Labels: svc.Labels, NamespaceLabels: c.namespaces[svc.Namespace],
	}
}
