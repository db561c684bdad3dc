package plan

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
)

// Record is what is written down on a Service before it is programmed, until
// its withdrawal is confirmed.
type Record struct {
	// Holders are the Balancers on whose hosts it may be live, in the order in
	// which they came. Where the hosts bring the addresses themselves, the first
	// one's have them.
	Holders []string
	// Carrier is the holder that proved it last and tells its status.
	Carrier string
	// Addresses that it has and, behind them, those that it is leaving.
	Addresses []netip.Addr
}

// Holders are the Balancers on record for a Service, none if it is not held or
// somebody removed the record.
func Holders(svc *corev1.Service) []string {
	if !Held(svc) {
		return nil
	}
	var out []string
	for name := range strings.SplitSeq(svc.Annotations[v1alpha1.HeldByAnnotation], ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Carrier is the one of a Service's holders that tells its status, "" if there
// is none.
func Carrier(holders []string, svc *corev1.Service) string {
	if name := svc.Annotations[v1alpha1.CarriedByAnnotation]; slices.Contains(holders, name) {
		return name
	}
	if len(holders) == 0 {
		return ""
	}
	return holders[0]
}

// programmable are the addresses on which a Balancer may program a Service, since its
// finalizer and they are written down: those that it has; of a family whose new address could not be written down yet, the one
// that it is leaving.
func programmable(svc *corev1.Service, balancer string, assigned ipam.Assignment) (on []netip.Addr) {
	if !slices.Contains(Holders(svc), balancer) {
		return nil
	}
	held := HeldAddresses(svc)
	for _, a := range assigned.Addresses {
		candidates := append([]netip.Addr{a}, assigned.Leaving...)
		i := slices.IndexFunc(candidates, func(o netip.Addr) bool { return o.Is4() == a.Is4() && slices.Contains(held, o) })
		if i >= 0 {
			on = append(on, candidates[i])
		}
	}
	return on
}

// Record is what must be on record for a carried Service before it is programmed:
// what it has now, and until every host has let go of it, what it had.
func (a *Assignments) Record(svc *corev1.Service) Record {
	assigned, me := a.ByService[svc.UID], a.balancer
	r := Record{Holders: a.holders(svc), Addresses: slices.Concat(assigned.Addresses, assigned.Leaving)}
	r.Carrier = Carrier(r.Holders, svc)
	if a.roles[svc.UID] == staying {
		r.Addresses = HeldAddresses(svc)
		return r
	}
	if !slices.Contains(r.Holders, me) {
		r.Holders = append(r.Holders, me)
	}
	if r.Carrier == "" {
		r.Carrier = me
	}
	if len(r.Holders) > 1 { // another one's hosts may have what ours have left
		for _, old := range HeldAddresses(svc) {
			if !slices.Contains(r.Addresses, old) {
				r.Addresses = append(r.Addresses, old)
			}
		}
	}
	return r
}

// holders on record that exist.
func (a *Assignments) holders(svc *corev1.Service) []string {
	return slices.DeleteFunc(Holders(svc), func(name string) bool { return !a.known[name] })
}

// Without is the record once a Balancer has withdrawn the Service: nil where
// nobody holds it any more.
func (a *Assignments) Without(svc *corev1.Service) *Record {
	left := slices.DeleteFunc(a.holders(svc), func(name string) bool { return name == a.balancer })
	if len(left) == 0 {
		return nil
	}
	return &Record{Holders: left, Carrier: Carrier(left, svc), Addresses: HeldAddresses(svc)}
}
