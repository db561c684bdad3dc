package plan

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
)

// Assignments say which Services a Balancer carries, and on which addresses.
type Assignments struct {
	// Carried are the Services that this Balancer serves from now on, Leaving
	// those whose withdrawal is to be confirmed, Waiting those that another
	// Balancer has not let go yet.
	Carried, Leaving, Waiting []*corev1.Service
	ByService                 map[types.UID]ipam.Assignment
	Usage                     map[string]ipam.Usage // by pool
	invalid                   map[types.UID]*translate.Problem
}

// Assign settles who is carried and on which addresses.
func Assign(s *Snapshot) *Assignments {
	a := &Assignments{invalid: map[types.UID]*translate.Problem{}}
	var requests []ipam.Request
	for _, svc := range s.Services {
		switch s.role(svc) {
		case carried:
			a.Carried = append(a.Carried, svc)
		case leaving:
			a.Leaving = append(a.Leaving, svc)
		case waiting:
			a.Waiting = append(a.Waiting, svc)
			continue
		case nobody:
			continue
		}
		wanted, problem := translate.WantedAddresses(svc)
		if problem != nil {
			a.invalid[svc.UID] = problem
		}
		requests = append(requests, s.request(svc, wanted, problem != nil))
	}
	a.ByService, a.Usage = ipam.Assign(s.Pools, requests)
	return a
}

type role int

const (
	nobody role = iota
	carried
	leaving
	waiting
)

// role of a Service for the snapshot's Balancer.
func (s *Snapshot) role(svc *corev1.Service) role {
	me := s.Balancer.Name
	mine := s.Claims.Of(svc) == s.Balancer && svc.DeletionTimestamp == nil
	holder := HeldBy(svc)
	switch {
	case mine && holder != "" && holder != me && s.KnownBalancers[holder]:
		return waiting
	case mine:
		return carried
	case holder == me:
		return leaving
	default:
		return nobody
	}
}

// request is what a Service asks of the pools. With a wish that cannot be read
// (frozen) it keeps what it has and gets nothing new.
func (s *Snapshot) request(svc *corev1.Service, wanted []netip.Addr, frozen bool) ipam.Request {
	r := ipam.Request{
		UID:             svc.UID,
		Name:            svc.Namespace + "/" + svc.Name,
		Created:         svc.CreationTimestamp.Time,
		Families:        svc.Spec.IPFamilies,
		RequireAll:      svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
		Wanted:          wanted,
		Pool:            svc.Annotations[v1alpha1.AddressPoolAnnotation],
		Labels:          svc.Labels,
		NamespaceLabels: s.Namespaces[svc.Namespace],
		Recorded:        HeldAddresses(svc),
		Withdrawing:     frozen || s.role(svc) == leaving,
	}
	published := Published(svc)
	// Only what we published is a fact. Everything else is a wish at best: an
	// annotation is the user's to write, a status may be another provider's.
	if Held(svc) && svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		r.Published = published
	} else {
		r.Recorded = append(r.Recorded, published...)
	}
	for _, p := range svc.Spec.Ports {
		r.Ports = append(r.Ports, ipam.Port{Protocol: lb.Protocol(p.Protocol), Port: uint16(p.Port)})
	}
	return r
}

// OnRecord reports whether a Service's finalizer and addresses are written down,
// so that it may be programmed.
func OnRecord(svc *corev1.Service, balancer string, addresses []netip.Addr) bool {
	held := HeldAddresses(svc)
	return HeldBy(svc) == balancer && !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !slices.Contains(held, a) })
}

// Record is what must be on record for a Service before it is programmed: what
// it has now, and until every host has let go of it, what it had.
func (a *Assignments) Record(svc *corev1.Service) []netip.Addr {
	assigned := a.ByService[svc.UID]
	return slices.Concat(assigned.Addresses, assigned.Leaving)
}
