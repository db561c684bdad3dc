package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
)

// programmable are the addresses on which a Balancer may program a Service, since its
// finalizer and they are written down: those that it has; of a family whose new address could not be written down yet, the one
// that it is leaving.
func programmable(svc *corev1.Service, balancer string, assigned ipam.Assignment) (on []netip.Addr) {
	held := record.Addresses(svc)
	shown, lost := record.Shown(svc)
	if lost {
		held = shown // they were on record, and are again as soon as that can be written
	} else if !slices.Contains(record.Holders(svc), balancer) {
		return nil
	}
	for _, a := range assigned.Addresses {
		candidates := append([]netip.Addr{a}, assigned.Leaving...)
		i := slices.IndexFunc(candidates, func(o netip.Addr) bool {
			return o.Is4() == a.Is4() && (slices.Contains(held, o) || lost && lb.Given(o))
		})
		if i >= 0 {
			on = append(on, candidates[i])
		}
	}
	return on
}

// Record is what must be on record for a carried Service before it is programmed:
// what it has now, and until every host has let go of it, what it had.
func (a *Assignments) Record(svc *corev1.Service) record.Record {
	assigned, me := a.ByService[svc.UID], a.balancer
	r := record.Of(svc)
	r.Holders = a.holders(svc)
	r.Carrier = record.Carrier(r.Holders, svc)
	if a.role(svc) == staying {
		return r
	}
	r.Addresses, r.Listeners = slices.Concat(assigned.Addresses, assigned.Leaving), assigned.Listeners
	if !slices.Contains(r.Holders, me) {
		r.Holders = append(r.Holders, me)
	}
	if r.Carrier == "" {
		r.Carrier = me
	}
	if len(r.Holders) > 1 { // another one's hosts may have what ours have left
		for _, old := range record.Addresses(svc) {
			if !slices.Contains(r.Addresses, old) {
				r.Addresses = append(r.Addresses, old)
			}
		}
	}
	return r
}

// holders on record that exist.
func (a *Assignments) holders(svc *corev1.Service) []string {
	return slices.DeleteFunc(record.Holders(svc), func(name string) bool { return !a.claims.exists(name) })
}

// Without is the record once a Balancer has withdrawn the Service: nil where
// nobody holds it any more.
func (a *Assignments) Without(svc *corev1.Service) *record.Record {
	left := slices.DeleteFunc(a.holders(svc), func(name string) bool { return name == a.balancer })
	if len(left) == 0 {
		return nil
	}
	r := record.Of(svc)
	r.Holders, r.Carrier = left, record.Carrier(left, svc)
	return &r
}
