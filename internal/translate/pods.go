package translate

import (
	"cmp"
	"maps"
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
	cut       bool // there are more than are read
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
//
// Slices have a thousand endpoints, each at twenty thousand ports: only ports of the
// Service count, and of each no more pods are read than hosts would be sent.
func ReadEndpoints(ports []corev1.ServicePort, all []*discoveryv1.EndpointSlice, pod func(name string) *Pod) *Endpoints {
	r := reading{most: maxPods(len(ports)), ports: map[portName]bool{}, pods: map[answering]map[netip.Addr]endpoint{}, pod: pod}
	for _, p := range ports {
		r.ports[portName{p.Name, p.Protocol}] = true
	}
	// One that comes may have the address of one that goes, in another slice: it goes first.
	all = inOrder(all)
	for _, leaving := range [...]bool{false, true} {
		for _, s := range all {
			r.add(s, leaving)
		}
	}
	for _, pods := range r.pods {
		r.out.all = slices.AppendSeq(r.out.all, maps.Values(pods))
	}
	slices.SortFunc(r.out.all, endpoint.compare)
	return &r.out
}

// maxPods is how many pods are sent to at most for a port, of a Service with so many.
func maxPods(ports int) int { return max(1, lb.MaxEndpoints/max(1, ports)) }

// compare orders by port, family and address, of which there is one for each port.
func (e endpoint) compare(o endpoint) int {
	return cmp.Or(cmp.Compare(e.port, o.port), cmp.Compare(e.protocol, o.protocol), e.at.Addr().Compare(o.at.Addr()))
}

// order of families: IPv4 is first, as netip has it.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// portName is what a port of a Service and of its slices have in common.
type portName struct {
	name     string
	protocol corev1.Protocol
}

// answering for a port, in one family.
type answering struct {
	portName
	family discoveryv1.AddressType
}

// reading of one Service's endpoints.
type reading struct {
	out   Endpoints
	most  int // for each port and family
	ports map[portName]bool
	pods  map[answering]map[netip.Addr]endpoint
	pod   func(string) *Pod
}

// add the pods of a slice that leave, or those that do not.
func (r *reading) add(s *discoveryv1.EndpointSlice, leaving bool) {
	var pods []netip.Addr
	for i := range s.Endpoints {
		if a, ok := r.takes(s, &s.Endpoints[i], leaving); ok {
			pods = append(pods, a)
		}
	}
	for _, p := range s.Ports {
		name := portName{deref(p.Name), cmp.Or(deref(p.Protocol), corev1.ProtocolTCP)}
		if port := deref(p.Port); len(pods) > 0 && isPort(port) && r.ports[name] {
			r.at(answering{name, s.AddressType}, uint16(port), pods, leaving)
		}
	}
}

// at a port of a slice, some pods answer for one of the Service's.
func (r *reading) at(which answering, port uint16, pods []netip.Addr, leaving bool) {
	known := r.pods[which]
	if known == nil {
		known = map[netip.Addr]endpoint{}
		r.pods[which] = known
	}
	for _, a := range pods {
		before, there := known[a]
		switch {
		case !there && len(known) >= r.most:
			r.out.cut = true
			return
		case !there || before.leaving == leaving && port < before.at.Port():
			known[a] = endpoint{which.name, which.protocol, netip.AddrPortFrom(a, port), leaving}
		}
	}
}

// takes reports where an endpoint takes connections that is a pod, and leaves or does not. One of another family
// than its slice would be there twice, where a slice of its own family has it, too.
func (r *reading) takes(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, leaving bool) (a netip.Addr, is bool) {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serves := e.Conditions.Serving == nil && ready || deref(e.Conditions.Serving)
	terminates := deref(e.Conditions.Terminating)
	if len(e.Addresses) == 0 || terminates != leaving || terminates && !serves || !terminates && !ready {
		return a, false
	}
	a, ok := unicast(e.Addresses[0])
	if family := s.AddressType == discoveryv1.AddressTypeIPv4; !ok || a.Is4() != family || !isPod(s.Namespace, e.TargetRef, a, r.pod) {
		r.out.strangers = true
		return a, false
	}
	return a, true
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
	return es == o || es != nil && o != nil && es.strangers == o.strangers && es.cut == o.cut && slices.Equal(es.all, o.all)
}

// of a port are those that answer: the ones that are ready, or where none is, those that
// still serve, as kube-proxy has it. drains: the engine must be told which of the others
// keep the connections that they have.
func (es *Endpoints) of(port *corev1.ServicePort, ipv4, drains bool) (answer, drain []lb.Endpoint) {
	if es == nil {
		return nil, nil
	}
	first, _ := slices.BinarySearchFunc(es.all, port, func(e endpoint, port *corev1.ServicePort) int {
		return cmp.Or(cmp.Compare(e.port, port.Name), cmp.Compare(e.protocol, port.Protocol), order(e.at.Addr().Is4(), ipv4))
	})
	for _, e := range es.all[first:] {
		if !e.of(port, ipv4) {
			break
		}
		if e.leaving {
			drain = append(drain, lb.Endpoint{Address: e.at, Draining: true})
		} else {
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
