package plan

import (
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// Assignments say which Services a Balancer carries, and on which addresses.
type Assignments struct {
	// Carried are the Services that this Balancer programs from now on, Leaving
	// those whose withdrawal is to be confirmed, Waiting those that another
	// Balancer has not let go yet, Elsewhere those that another one carries on
	// addresses of this one's pools.
	Carried, Leaving, Waiting, Elsewhere []*corev1.Service
	ByService                            map[types.UID]ipam.Assignment
	Usage                                map[string]ipam.Usage // by pool

	balancer string
	claims   Claims
	roles    map[types.UID]role
	invalid  map[types.UID]*translate.Problem
}

// Assign settles who is carried and on which addresses.
func Assign(s *Snapshot) *Assignments {
	a := &Assignments{
		balancer: s.Balancer.Name,
		claims:   s.Claims,
		roles:    make(map[types.UID]role, len(s.Services)),
		invalid:  map[types.UID]*translate.Problem{},
	}
	var requests []ipam.Request
	for _, svc := range s.Services {
		role := s.role(svc)
		switch role {
		case carried, arriving, staying:
			a.Carried = append(a.Carried, svc)
		case leaving:
			a.Leaving = append(a.Leaving, svc)
		case waiting:
			a.Waiting = append(a.Waiting, svc)
		case elsewhere:
			a.Elsewhere = append(a.Elsewhere, svc)
		case nobody:
			continue
		}
		a.roles[svc.UID] = role
		asked, problem := requested(s.Balancer, svc)
		if problem == nil {
			problem = translate.CheckPorts(svc)
		}
		if problem != nil {
			a.invalid[svc.UID] = problem
		}
		request := s.request(svc, asked, problem != nil || frozen(role, svc))
		request.Apart = role == arriving || role == waiting || role == elsewhere
		requests = append(requests, request)
	}
	a.ByService, a.Usage = ipam.Assign(slices.Concat(s.Pools, s.foreign), requests)
	return a
}

// frozen reports whether a Service keeps what it has and gets nothing new:
// because another Balancer has a say in it, or none will. What moves, moves
// first and gets what it wants then; but where nobody was told of an address,
// another one will do.
func frozen(r role, svc *corev1.Service) bool {
	return r != carried && (r != arriving || len(record.Published(svc)) > 0)
}

// asked is what a Service asks for by name.
type asked struct {
	addresses        []netip.Addr
	pool, annotation string
}

// requested reads what a Service asks a Balancer for, in the ways that this understands.
func requested(b *v1alpha1.Balancer, svc *corev1.Service) (out asked, problem *translate.Problem) {
	out.addresses, problem = translate.RequestedAddresses(svc, b.Spec.ForeignAnnotations...)
	pool, annotation, poolProblem := translate.RequestedPool(svc, b.Spec.ForeignAnnotations...)
	out.pool, out.annotation = pool, annotation
	if problem == nil {
		problem = poolProblem
	}
	return out, problem
}

// request is what a Service asks of the pools. Frozen, it keeps what it has and
// gets nothing new.
func (s *Snapshot) request(svc *corev1.Service, asked asked, frozen bool) ipam.Request {
	r := ipam.Request{
		UID:             svc.UID,
		Name:            svc.Namespace + "/" + svc.Name,
		Created:         svc.CreationTimestamp.Time,
		Families:        svc.Spec.IPFamilies,
		RequireAll:      svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
		Requested:       asked.addresses,
		Pool:            asked.pool,
		PoolAnnotation:  asked.annotation,
		Labels:          svc.Labels,
		NamespaceLabels: s.Namespaces[svc.Namespace],
		Recorded:        record.Addresses(svc),
		Withdrawing:     frozen,
	}
	if record.Held(svc) {
		r.Published = append(record.Given(svc), record.Published(svc)...)
	} else {
		r.Shown, r.ShownByUs = record.Shown(svc)
	}
	for _, p := range svc.Spec.Ports {
		if p.Port > 0 && p.Port <= math.MaxUint16 { // others are told: see translate.CheckPorts
			r.Ports = append(r.Ports, ipam.Port{Protocol: lb.Protocol(p.Protocol), Port: uint16(p.Port)})
		}
	}
	return r
}
