package translate

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/internal/lb"
)

// Pod is what is read of one.
type Pod struct {
	Addresses   []netip.Addr
	HostNetwork bool // it has the addresses of its node
	Finished    bool
}

// ReadPod reads an object.
func ReadPod(p *corev1.Pod) *Pod {
	out := &Pod{HostNetwork: p.Spec.HostNetwork, Finished: p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed}
	for _, ip := range p.Status.PodIPs {
		if a, ok := unicast(ip.IP); ok {
			out.Addresses = append(out.Addresses, a)
		}
	}
	return out
}

// Endpoints are those of one Service that are pods. They are not changed once made; nil has none.
type Endpoints struct {
	all []endpoint // by port, family and address
	// strangers: some take connections, and are no pods that may be sent to.
	strangers bool
}

// endpoint is a pod, at the port that answers for one of the Service's.
type endpoint struct {
	port     string // its name
	protocol corev1.Protocol
	at       netip.AddrPort
	leaving  bool // it serves what it has, and ends
}

func (e endpoint) of(port *corev1.ServicePort, ipv4 bool) bool {
	return e.port == port.Name && e.protocol == port.Protocol && e.at.Addr().Is4() == ipv4
}

// ReadEndpoints finds the pods behind the EndpointSlices of one Service. Whoever may write
// these must not point the hosts anywhere: what counts is a pod of the Service's namespace,
// which is there, not on the network of its node, and has that address in its status. pod
// finds one of the namespace by its name, nil if there is none.
func ReadEndpoints(all []*discoveryv1.EndpointSlice, pod func(name string) *Pod) *Endpoints {
	out := &Endpoints{}
	for _, s := range all {
		for i := range s.Endpoints {
			out.add(s, &s.Endpoints[i], pod)
		}
	}
	// One that comes may have the address of one that goes, in another slice: it goes first.
	slices.SortFunc(out.all, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol), a.at.Addr().Compare(b.at.Addr()),
			order(a.leaving, b.leaving), cmp.Compare(a.at.Port(), b.at.Port()))
	})
	out.all = slices.CompactFunc(out.all, func(a, b endpoint) bool {
		return a.port == b.port && a.protocol == b.protocol && a.at.Addr() == b.at.Addr()
	})
	return out
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// add one of a slice, at each of its ports.
func (es *Endpoints) add(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, pod func(string) *Pod) {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serves := e.Conditions.Serving == nil && ready || deref(e.Conditions.Serving)
	terminates := deref(e.Conditions.Terminating)
	if len(e.Addresses) == 0 || terminates && !serves || !terminates && !ready {
		return
	}
	a, ok := unicast(e.Addresses[0])
	if !ok || !isPod(s.Namespace, e.TargetRef, a, pod) {
		es.strangers = true
		return
	}
	for _, p := range s.Ports {
		if port := deref(p.Port); isPort(port) {
			protocol := cmp.Or(deref(p.Protocol), corev1.ProtocolTCP)
			es.all = append(es.all, endpoint{deref(p.Name), protocol, netip.AddrPortFrom(a, uint16(port)), terminates})
		}
	}
}

// isPod reports whether a reference is to a pod of a namespace with an address of its own.
func isPod(namespace string, ref *corev1.ObjectReference, a netip.Addr, pod func(string) *Pod) bool {
	if ref == nil || ref.Kind != "Pod" || ref.Namespace != "" && ref.Namespace != namespace {
		return false
	}
	p := pod(ref.Name)
	return p != nil && !p.HostNetwork && !p.Finished && slices.Contains(p.Addresses, a)
}

// Same reports whether two say the same.
func (es *Endpoints) Same(o *Endpoints) bool {
	return es == o || es != nil && o != nil && es.strangers == o.strangers && slices.Equal(es.all, o.all)
}

// of a port are those that answer: the ones that are ready, or where none is, those that
// still serve, as kube-proxy has it. drains: the engine must be told which of the others
// keep the connections that they have.
func (es *Endpoints) of(port *corev1.ServicePort, ipv4, drains bool) (answer, drain []lb.Endpoint) {
	if es == nil {
		return nil, nil
	}
	for _, e := range es.all {
		switch {
		case !e.of(port, ipv4):
		case e.leaving:
			drain = append(drain, lb.Endpoint{Address: e.at, Draining: true})
		default:
			answer = append(answer, lb.Endpoint{Address: e.at})
		}
	}
	switch {
	case len(answer) == 0:
		for _, e := range drain {
			answer = append(answer, lb.Endpoint{Address: e.Address})
		}
		return answer, nil
	case !drains:
		return answer, nil
	}
	return answer, drain
}
