package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// translation makes one Service of the model.
type translation struct {
	engine lb.Engine
	in     Service
	nodes  []node // eligible, before the traffic policy
	none   *Problem
	slices []*discoveryv1.EndpointSlice
	layers layers
	limit  int // nodes per Service
	result *ServiceResult
}

// run returns nil where nothing of the Service can be carried.
func (t *translation) run() *lb.Service {
	t.result = &ServiceResult{PortErrors: map[PortKey]string{}}
	svc := t.in.Object
	id, err := lb.NewID(svc.Namespace, svc.Name, string(svc.UID))
	if err != nil {
		return t.fatal(v1alpha1.ReasonInvalidSpec, err.Error())
	}
	sources, problem := parseSources(svc)
	if problem != nil {
		return t.fatal(problem.Reason, problem.Message)
	}
	out := &lb.Service{ID: id}
	for _, port := range t.carriedPorts() {
		for _, a := range t.in.Addresses {
			l := lb.Listener{Address: a, Port: uint16(port.Port), Protocol: lb.Protocol(port.Protocol)}
			if !slices.Contains(t.in.Withheld, l) {
				out.Frontends = append(out.Frontends, t.frontend(l, port, sources))
			}
		}
	}
	t.judgeBackends(out)
	if len(out.Frontends) == 0 {
		return nil
	}
	slices.SortFunc(out.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
	return out
}

func (t *translation) fatal(reason, message string) *lb.Service {
	t.result.Problems = append([]Problem{{Reason: reason, Message: message, Fatal: true}}, t.result.Problems...)
	return nil
}

func (t *translation) problem(reason, message string) {
	t.result.Problems = append(t.result.Problems, Problem{Reason: reason, Message: message})
}

// carriedPorts are the ports that the engine can carry; the others get an error.
func (t *translation) carriedPorts() []corev1.ServicePort {
	var carried []corev1.ServicePort
	var cannot, lacking []string
	for _, port := range t.in.Object.Spec.Ports {
		key := PortKey{port.Protocol, port.Port}
		name := fmt.Sprintf("%d/%s", port.Port, port.Protocol)
		switch {
		case !t.engine.Carries(lb.Protocol(port.Protocol)):
			t.result.PortErrors[key] = v1alpha1.PortErrorProtocol
			cannot = append(cannot, name)
		case port.NodePort == 0:
			t.result.PortErrors[key] = v1alpha1.PortErrorNoNodePort
			lacking = append(lacking, name)
		default:
			carried = append(carried, port)
		}
	}
	if len(cannot) > 0 {
		t.problem(v1alpha1.ReasonMixedProtocol, fmt.Sprintf("%s cannot carry %s", t.engine, strings.Join(cannot, ", ")))
	}
	if len(lacking) > 0 {
		t.problem(v1alpha1.ReasonNoNodePort, fmt.Sprintf("no nodePort for %s: set spec.ports[].nodePort, or spec.allocateLoadBalancerNodePorts: true", strings.Join(lacking, ", ")))
	}
	if len(carried) == 0 && len(t.result.Problems) > 0 {
		t.result.Problems[0].Fatal = true
	}
	return carried
}

func (t *translation) frontend(l lb.Listener, port corev1.ServicePort, sources sources) lb.Frontend {
	svc := t.in.Object
	f := lb.Frontend{
		Listener: l,
		Allow:    sources.of(l.Address.Is4()),
		Settings: t.layers.resolve(t.engine, port.Name, l.Protocol),
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		f.Affinity = affinity(svc.Spec.SessionAffinityConfig)
	}
	if local(svc) {
		f.HealthCheckNodePort = uint16(svc.Spec.HealthCheckNodePort)
	}
	for _, n := range t.carriers(l.Address.Is4()) {
		f.Backends = append(f.Backends, lb.Backend{Node: n.name, Address: netip.AddrPortFrom(n.address(l.Address.Is4()), uint16(port.NodePort))})
	}
	slices.SortFunc(f.Backends, func(a, b lb.Backend) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Node, b.Node))
	})
	// Two Node objects with one address are one backend.
	f.Backends = slices.CompactFunc(f.Backends, func(a, b lb.Backend) bool { return a.Address == b.Address })
	return f
}

// carriers are the nodes that carry the Service for one family.
func (t *translation) carriers(ipv4 bool) []node {
	var out []node
	ready := map[string]bool{}
	if local(t.in.Object) {
		ready = readyNodes(t.slices, ipv4)
	}
	for _, n := range t.nodes {
		if n.address(ipv4).IsValid() && (!local(t.in.Object) || ready[n.name]) {
			out = append(out, n)
		}
	}
	return subset(out, string(t.in.Object.UID), t.limit)
}

// judgeBackends tells where there are none. A Local Service without endpoints
// is as its owner made it, so nobody is told.
func (t *translation) judgeBackends(out *lb.Service) {
	nodes := map[string]bool{}
	for _, f := range out.Frontends {
		for _, b := range f.Backends {
			nodes[b.Node] = true
		}
	}
	t.result.Backends = len(nodes)
	if len(nodes) > 0 || len(out.Frontends) == 0 {
		return
	}
	switch {
	case t.none != nil:
		t.problem(t.none.Reason, t.none.Message)
	case !local(t.in.Object):
		t.problem(v1alpha1.ReasonNoEligibleNodes, "no node has an address of the Service's family")
	}
}

func local(svc *corev1.Service) bool {
	return svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// readyNodes are those with an endpoint of a family that takes new connections.
func readyNodes(slices []*discoveryv1.EndpointSlice, ipv4 bool) map[string]bool {
	family := discoveryv1.AddressTypeIPv6
	if ipv4 {
		family = discoveryv1.AddressTypeIPv4
	}
	out := map[string]bool{}
	for _, s := range slices {
		if s.AddressType != family {
			continue
		}
		for _, e := range s.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready
			terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
			if e.NodeName != nil && ready && !terminating {
				out[*e.NodeName] = true
			}
		}
	}
	return out
}

// affinity is how long a client stays on its node; the API server's default is
// three hours.
func affinity(config *corev1.SessionAffinityConfig) time.Duration {
	seconds := int32(corev1.DefaultClientIPServiceAffinitySeconds)
	if config != nil && config.ClientIP != nil && config.ClientIP.TimeoutSeconds != nil && *config.ClientIP.TimeoutSeconds > 0 {
		seconds = *config.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}
