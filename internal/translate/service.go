package translate

import (
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
	nodes  *nodes // before the traffic policy
	slices []*discoveryv1.EndpointSlice
	layers layers
	limit  int  // nodes per Service
	direct bool // to the Service's port on the nodes

	certificates Certificates

	result *ServiceResult
}

// run returns no lb.Service where nothing of the Service can be carried.
func (t *translation) run() (*lb.Service, *ServiceResult) {
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
	if wrong := wrongPort(svc.Spec.Ports); wrong != "" {
		return t.fatal(v1alpha1.ReasonInvalidSpec, wrong)
	}
	out := &lb.Service{ID: id, Frontends: t.frontends(sources)}
	if len(out.Frontends) == 0 {
		return nil, t.result
	}
	slices.SortFunc(out.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
	t.judgeBackends(out)
	return out, t.result
}

func (t *translation) fatal(reason, message string) (*lb.Service, *ServiceResult) {
	t.result.Problems = []Problem{{Reason: reason, Message: message, Fatal: true}}
	return nil, t.result
}

func (t *translation) problem(reason, format string, args ...any) {
	t.result.Problems = append(t.result.Problems, Problem{Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// wrongPort says which port is none. The API server refuses them, but manifests
// can come from files.
func wrongPort(ports []corev1.ServicePort) string {
	seen := map[PortKey]bool{}
	for _, p := range ports {
		key := PortKey{p.Protocol, p.Port}
		switch {
		case p.Port < 1 || p.Port > 65535:
			return fmt.Sprintf("spec.ports: %d is not a port", p.Port)
		case p.NodePort < 0 || p.NodePort > 65535:
			return fmt.Sprintf("spec.ports: %d is not a nodePort", p.NodePort)
		case seen[key]:
			return fmt.Sprintf("spec.ports has %d twice", p.Port)
		}
		seen[key] = true
	}
	if len(ports) == 0 {
		return "spec.ports is empty"
	}
	return ""
}

// frontends are one for each port that can be carried, on each address that the
// Service has it on.
func (t *translation) frontends(sources sources) []lb.Frontend {
	svc := t.in.Object
	ports, certificates := t.carriedPorts()
	out := make([]lb.Frontend, 0, len(ports)*len(t.in.Addresses))
	for _, a := range t.in.Addresses {
		a = a.Unmap()
		carriers := t.carriers(a.Is4())
		for i, port := range ports {
			l := lb.Listener{Address: a, Port: uint16(port.Port), Protocol: lb.Protocol(port.Protocol)}
			if slices.Contains(t.in.Withheld, l) {
				continue
			}
			settings := t.layers.resolve(t.engine, port.Name, l.Protocol)
			settings.Certificate = certificates[i]
			f := lb.Frontend{
				Listener:            l,
				Backends:            backends(carriers, t.target(port)),
				Allow:               sources.of(a.Is4()),
				Affinity:            affinity(svc),
				HealthCheckNodePort: healthCheckNodePort(svc),
				Direct:              t.direct,
				NodePort:            uint16(port.NodePort),
				Settings:            settings,
			}
			if returns(&f) {
				equalize(f.Backends)
			}
			out = append(out, f)
		}
	}
	return out
}

// carriedPorts are the ports that the engine can carry, each with the certificate
// for its TLS, if it has any; the others get an error.
func (t *translation) carriedPorts() (carried []corev1.ServicePort, certificates []*lb.Certificate) {
	var cannot, lacking []string
	var open notTerminated
	for _, port := range t.in.Object.Spec.Ports {
		key := PortKey{port.Protocol, port.Port}
		name := fmt.Sprintf("%d/%s", port.Port, clip(string(port.Protocol)))
		secured := t.tlsOf(port)
		switch {
		case !t.engine.Carries(lb.Protocol(port.Protocol)):
			t.result.PortErrors[key] = v1alpha1.PortErrorProtocol
			cannot = append(cannot, name)
		case port.NodePort == 0 && !t.direct:
			t.result.PortErrors[key] = v1alpha1.PortErrorNoNodePort
			lacking = append(lacking, name)
		case secured.portError != "":
			t.result.PortErrors[key] = secured.portError
			open.add(name, secured.problem)
		default:
			carried, certificates = append(carried, port), append(certificates, secured.certificate)
		}
	}
	if len(cannot) > 0 {
		t.problem(v1alpha1.ReasonMixedProtocol, "%s cannot carry %s", t.engine, strings.Join(cannot, ", "))
	}
	if len(lacking) > 0 {
		t.problem(v1alpha1.ReasonNoNodePort, "no nodePort for %s: set spec.ports[].nodePort, or spec.allocateLoadBalancerNodePorts: true", strings.Join(lacking, ", "))
	}
	if len(open.ports) > 0 {
		t.problem(open.reason, "%s", &open)
	}
	if len(carried) == 0 {
		t.result.Problems[0].Fatal = true // there is at least one port, and so one problem
	}
	return carried, certificates
}

// carriers are the nodes that carry the Service for one family, sorted by
// address. Two Node objects with one address are one.
func (t *translation) carriers(ipv4 bool) []node {
	all := t.nodes.of(ipv4)
	isLocal := local(t.in.Object)
	var ready, leaving map[string]int
	if isLocal {
		ready, leaving = countEndpoints(t.slices, ipv4)
	}
	out, draining := make([]node, 0, len(all)), []node(nil)
	for _, n := range all {
		switch {
		case len(out) > 0 && out[len(out)-1].address == n.address:
		case !isLocal || ready[n.name] > 0:
			n.weight = uint16(min(max(ready[n.name], 1), lb.MaxWeight))
			out = append(out, n)
		case leaving[n.name] > 0 && !t.engine.KeepsConnections():
			n.weight, n.draining = 1, true
			draining = append(draining, n)
		}
	}
	out = append(subset(out, string(t.in.Object.UID), t.limit), draining...)
	slices.SortStableFunc(out, func(a, b node) int { return a.address.Compare(b.address) })
	return slices.CompactFunc(out, func(a, b node) bool { return a.address == b.address })
}

// target is the port of the nodes.
func (t *translation) target(port corev1.ServicePort) uint16 {
	if t.direct {
		return uint16(port.Port)
	}
	return uint16(port.NodePort)
}

func backends(carriers []node, port uint16) []lb.Backend {
	out := make([]lb.Backend, len(carriers))
	for i, n := range carriers {
		out[i] = lb.Backend{Node: n.name, Address: netip.AddrPortFrom(n.address, port), Weight: n.weight, Draining: n.draining}
	}
	return out
}

// returns reports whether clients come back to their node: then a weight that
// changes, as it does whenever an endpoint comes or goes, would move them.
func returns(f *lb.Frontend) bool {
	return f.Affinity > 0 || f.Settings.Algorithm == lb.SourceHash || f.Settings.Algorithm == lb.DestinationHash
}

func equalize(backends []lb.Backend) {
	for i := range backends {
		backends[i].Weight = 1
	}
}

// judgeBackends counts the nodes, and tells where there are none. A Local Service
// without endpoints is as its owner made it, so nobody is told.
func (t *translation) judgeBackends(out *lb.Service) {
	nodes := map[string]bool{}
	var silent []netip.Addr
	for _, f := range out.Frontends {
		for _, b := range f.Backends {
			if !b.Draining {
				nodes[b.Node] = true
			}
		}
		if len(t.nodes.of(f.Listener.Address.Is4())) == 0 && !slices.Contains(silent, f.Listener.Address) {
			silent = append(silent, f.Listener.Address)
		}
	}
	t.result.Backends = len(nodes)
	if t.nodes.none != nil {
		t.problem(v1alpha1.ReasonNoEligibleNodes, "%s", t.nodes.none.Message)
		return
	}
	for _, a := range silent {
		t.problem(v1alpha1.ReasonNoEligibleNodes, "nothing answers at %s: no node that may be a backend has an %s address", a, family(a))
	}
}

func family(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func local(svc *corev1.Service) bool {
	return svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// countEndpoints counts, for each node, the endpoints of a family that take new
// connections, and those that only keep what they have: they serve, and terminate.
func countEndpoints(slices []*discoveryv1.EndpointSlice, ipv4 bool) (ready, leaving map[string]int) {
	family := discoveryv1.AddressTypeIPv6
	if ipv4 {
		family = discoveryv1.AddressTypeIPv4
	}
	ready, leaving = map[string]int{}, map[string]int{}
	type endpoint struct {
		address string
		ready   bool
	}
	seen := map[endpoint]bool{}
	for _, s := range slices {
		if s.AddressType != family {
			continue
		}
		for _, e := range s.Endpoints {
			if e.NodeName == nil || len(e.Addresses) == 0 {
				continue
			}
			isReady := e.Conditions.Ready == nil || *e.Conditions.Ready
			// One with several ports, or about to change its slice, is in two of them; one
			// that comes may have the address of one that goes, in the node's network.
			key := endpoint{e.Addresses[0], isReady && !deref(e.Conditions.Terminating)}
			if seen[key] {
				continue
			}
			serves := e.Conditions.Serving == nil && isReady || deref(e.Conditions.Serving)
			switch terminates := deref(e.Conditions.Terminating); {
			case isReady && !terminates:
				ready[*e.NodeName]++
			case serves && terminates:
				leaving[*e.NodeName]++
			default:
				continue
			}
			seen[key] = true
		}
	}
	return ready, leaving
}

// affinity is how long a client stays on its node; the API server's default is
// three hours.
func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if config := deref(deref(svc.Spec.SessionAffinityConfig).ClientIP); deref(config.TimeoutSeconds) > 0 {
		seconds = *config.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

func healthCheckNodePort(svc *corev1.Service) uint16 {
	if port := svc.Spec.HealthCheckNodePort; local(svc) && port > 0 && port <= 65535 {
		return uint16(port)
	}
	return 0
}
