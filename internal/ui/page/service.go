package page

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/internal/record"
)

// Service is one that a Balancer serves or holds.
type Service struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Balancers []string  `json:"balancers"` // on whose hosts it may be, or is to be
	Addresses []Address `json:"addresses"`
	Ports     []Port    `json:"ports"`
	AllNodes  bool      `json:"allNodes,omitempty"` // every node of the Balancer gets its traffic
	Nodes     []string  `json:"nodes,omitempty"`    // else these
	Draining  []string  `json:"draining,omitempty"` // those of them that get no new connections
	Backends  *Moment   `json:"backends,omitempty"` // what hosts say of nodes, since they have had something to say
	Pods      bool      `json:"pods,omitempty"`     // no node: the hosts send to its pods
	Endpoints int       `json:"endpoints"`          // that are ready
	More      string    `json:"more,omitempty"`     // what is left out here
	Health    Health    `json:"health"`
	Problems  []string  `json:"problems,omitempty"`
	Story     []Moment  `json:"story,omitempty"`
}

// Address of a Service.
type Address struct {
	IP   string `json:"ip"`   // or a hostname that a cloud gave
	Told bool   `json:"told"` // it is published: it was proved
}

// Port of a Service.
type Port struct {
	Name     string `json:"name"` // 80/TCP
	NodePort int32  `json:"nodePort,omitempty"`
	Error    string `json:"error,omitempty"`
}

func (p *painter) service(svc *corev1.Service, of []string) Service {
	out := Service{
		Namespace: svc.Namespace, Name: svc.Name, Balancers: of,
		Addresses: addresses(svc), Ports: ports(svc),
		AllNodes: p.targets[svc.UID].all, Nodes: p.targets[svc.UID].names, Draining: p.targets[svc.UID].draining, Pods: p.targets[svc.UID].pods,
		Endpoints: p.endpoints(svc),
		Backends:  backends(svc.Status.Conditions),
		Problems:  problems(svc.Status.Conditions, svc.DeletionTimestamp),
		Story:     story(ofConditions(svc.Status.Conditions), ofEvents(p.events[svc.UID]), p.ofPolicies(svc)),
	}
	if out.AllNodes {
		out.Nodes, out.Draining = nil, nil
	}
	if len(out.Problems) == 0 && out.Endpoints == 0 && len(svc.Spec.Selector) > 0 {
		out.Problems = []string{"it has no endpoint that is ready: see its pods"}
	}
	out.Health = serviceHealth(out)
	out.bound()
	return out
}

func serviceHealth(s Service) Health {
	told := slices.ContainsFunc(s.Addresses, func(a Address) bool { return a.Told })
	switch {
	case len(s.Problems) > 0:
		return Bad
	case !told:
		return Middle
	}
	return Good
}

// addresses that users were told, and those that the Service only has on record yet.
func addresses(svc *corev1.Service) []Address {
	told := record.Shows(svc)
	out := []Address{}
	for _, a := range told {
		out = append(out, Address{a, true})
	}
	given := record.Given(svc) // it is shown as what it is
	for _, a := range record.Addresses(svc) {
		if one := record.Describe([]netip.Addr{a}); !slices.Contains(told, one) && !slices.Contains(given, a) {
			out = append(out, Address{one, false})
		}
	}
	return out
}

func ports(svc *corev1.Service) []Port {
	out := []Port{}
	for _, p := range svc.Spec.Ports {
		out = append(out, Port{fmt.Sprintf("%d/%s", p.Port, p.Protocol), p.NodePort, portError(svc, p)})
	}
	return out
}

func portError(svc *corev1.Service, p corev1.ServicePort) string {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		for _, status := range in.Ports {
			if status.Port == p.Port && status.Protocol == p.Protocol && status.Error != nil {
				return cut(*status.Error)
			}
		}
	}
	return ""
}

// endpoints that are ready, each pod once, whatever its families and ports.
func (p *painter) endpoints(svc *corev1.Service) int {
	ready := map[string]bool{}
	for _, slice := range p.slices[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] {
		for _, e := range slice.Endpoints {
			if ptr.Deref(e.Conditions.Ready, true) && len(e.Addresses) > 0 {
				ready[endpointName(e.TargetRef, e.Addresses[0])] = true
			}
		}
	}
	return len(ready)
}

func endpointName(ref *corev1.ObjectReference, address string) string {
	if ref != nil && ref.UID != "" {
		return string(ref.UID)
	}
	return address
}

// bound leaves out what is more than a page shows, and says so.
func (s *Service) bound() {
	s.Addresses = upTo(s.Addresses, "addresses", &s.More)
	s.Ports = upTo(s.Ports, "ports", &s.More)
	s.Nodes = upTo(s.Nodes, "nodes", &s.More)
	s.Draining = s.Draining[:min(len(s.Draining), maxListed)]
}

func upTo[T any](list []T, what string, more *string) []T {
	if len(list) <= maxListed {
		return list
	}
	if *more != "" {
		*more += ", "
	}
	*more += fmt.Sprintf("%d %s", len(list)-maxListed, what)
	return list[:maxListed]
}
