package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// translation makes one Service of the model.
type translation struct {
	carriers   engine.Carriers
	in         Service
	nodes      *nodes
	slices     []*discoveryv1.EndpointSlice
	precedence precedence
	limit      int  // nodes per Service; 0: none
	direct     bool // to the Service's port on the nodes
	pods       bool // to these, in the place of nodes
	cap        int  // pods for each port; 0: as many as hosts are sent of a Service
	share      int  // of checks in a minute; 0: as many as it asks for
	cloud      bool // carries it, and no hosts do
	brings     bool // hosts bring its addresses

	certificates Certificates
	printed      map[string]int // bytes of each
	offered      offered        // that the Service names

	result        *ServiceResult
	backed        backed
	need          *need
	asksElsewhere bool // a policy has pods asked at a port of nodes
}

// byNode reports whether a Service names the nodes that carry it.
func (t *translation) byNode() bool { return local(t.in.Object) && !t.pods }

// run returns no lb.Service where nothing of the Service can be carried. What nodes
// there are is not in the result: see withNodes.
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
	if problem := CheckPorts(svc); problem != nil {
		return t.fatal(problem.Reason, problem.Message)
	}
	flavor, wrong := t.flavor()
	if wrong != nil && wrong.Fatal {
		return t.fatal(wrong.Reason, wrong.Message)
	}
	if t.offered, problem = requestedCertificates(svc); problem != nil {
		return t.fatal(problem.Reason, problem.Message)
	}
	ports, secured := t.carriedPorts()
	at := t.listeners(ports)
	if len(at) == 0 {
		return nil, t.result
	}
	if wrong != nil {
		t.problem(wrong.Reason, "%s", wrong.Message)
	}
	if len(at) > lb.MaxFrontends { // before anything is made of each
		return t.fatal(v1alpha1.ReasonInvalidSpec, fmt.Sprintf("it listens at %d ports, on all of its addresses together: hosts take %d of a Service. Spread them over several Services",
			len(at), lb.MaxFrontends))
	}
	out := &lb.Service{
		ID: id, Frontends: t.frontends(at, ports, secured),
		Affinity: affinity(svc), HealthCheckNodePort: healthCheckNodePort(svc), Direct: t.direct, Pods: t.pods, Flavor: flavor,
	}
	if t.pods {
		t.toPods(svc.Spec.Ports, out.Frontends)
	}
	slices.SortFunc(out.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
	drains := slices.ContainsFunc(out.Frontends, func(f lb.Frontend) bool { return !t.carriers.For(f.Listener.Protocol).KeepsConnections })
	for _, f := range out.Frontends {
		ipv4 := f.Listener.Address.Is4()
		if t.pods {
			out.Family(ipv4).Clients = sources.of(ipv4)
			continue
		}
		if family := out.Family(ipv4); !family.Targets.All && family.Targets.Nodes == nil {
			*family = lb.Family{Targets: t.targets(ipv4, drains), Clients: sources.of(ipv4)}
			t.tellNowhere(f.Listener.Address, family.Targets)
		}
	}
	if t.pods {
		t.tellPodless(out)
	}
	t.need = t.needOf(out)
	t.spread(out.Frontends)
	if err := fits(out); err != nil {
		return t.fatal(v1alpha1.ReasonInvalidSpec, err.Error())
	}
	return out, t.result
}

// fits reports whether hosts take as much as a Service says. Only what is large can
// be too large.
func fits(s *lb.Service) error {
	const large = 250
	size := max(len(s.Frontends), s.Endpoints())
	for _, f := range []lb.Family{s.IPv4, s.IPv6} {
		size = max(size, len(f.Targets.Nodes), len(f.Clients.Sources))
	}
	if size < large {
		return nil
	}
	set, err := new(lb.Encoder).Encode(&lb.Config{Services: []*lb.Service{s}})
	if err != nil {
		return err
	}
	for item := range set.All() {
		_, err = lb.DecodeGiven(item)
	}
	return err
}

func (t *translation) fatal(reason, message string) (*lb.Service, *ServiceResult) {
	t.result.Problems = []Problem{{Reason: reason, Message: message, Fatal: true}}
	t.backed, t.need = backed{}, nil
	return nil, t.result
}

func (t *translation) problem(reason, format string, args ...any) {
	t.result.Problems = append(t.result.Problems, Problem{Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// CheckPorts says which port or nodePort of a Service is none, nil if they all are
// good. The API server refuses such, but manifests can come from files.
func CheckPorts(svc *corev1.Service) *Problem {
	if wrong := wrongPort(svc.Spec.Ports); wrong != "" {
		return &Problem{Reason: v1alpha1.ReasonInvalidSpec, Message: wrong, Fatal: true}
	}
	return nil
}

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

// targets are the nodes that answer for one family: by rule, or of a Local Service
// by name, since it matters where its endpoints are. drains: some engine must be told
// which nodes only keep the connections that they have.
func (t *translation) targets(ipv4, drains bool) lb.Targets {
	if !local(t.in.Object) {
		return lb.Targets{All: true, Limit: t.limit}
	}
	ready, leaving, _ := countEndpoints(t.slices, ipv4)
	serving, leaves, draining := []lb.Target{}, []lb.Target(nil), []lb.Target(nil)
	for _, n := range t.nodes.all {
		target := lb.Target{Node: n.Name, Weight: uint16(min(ready[n.Name], lb.MaxWeight))}
		switch {
		case !n.Address(ipv4).IsValid():
		case ready[n.Name] > 0 && n.Draining:
			leaves = append(leaves, target)
		case ready[n.Name] > 0:
			serving = append(serving, target)
		case leaving[n.Name] > 0 && drains:
			draining = append(draining, lb.Target{Node: n.Name, Weight: 1, Draining: true})
		}
	}
	serving = append(t.choose(serving), append(t.choose(leaves), draining...)...)
	slices.SortFunc(serving, func(a, b lb.Target) int { return strings.Compare(a.Node, b.Node) })
	return lb.Targets{Nodes: serving}
}

// choose as many nodes as a Service may have, and as many of those that wait for others.
func (t *translation) choose(all []lb.Target) []lb.Target {
	if t.limit == 0 {
		return all
	}
	backup := map[string]bool{}
	for _, n := range t.nodes.all {
		backup[n.Name] = n.Backup
	}
	return lb.ChooseBoth(all, func(n lb.Target) string { return n.Node }, func(n lb.Target) bool { return backup[n.Node] },
		string(t.in.Object.UID), t.limit)
}

// tellNowhere tells of an address of a Local Service at which nobody answers, since no
// endpoint counts. Where no node has an address of its family, withNodes tells.
func (t *translation) tellNowhere(a netip.Addr, targets lb.Targets) {
	answers := slices.ContainsFunc(targets.Nodes, func(t lb.Target) bool { return !t.Draining })
	if targets.All || answers || !t.nodes.of(a.Is4()) {
		return
	}
	why := "none of its endpoints is ready, and with externalTrafficPolicy: Local only nodes with a ready one carry it"
	ready, _, nodeless := countEndpoints(t.slices, a.Is4())
	switch {
	case len(ready) > 0:
		why = fmt.Sprintf("its endpoints are on nodes that may not be backends, such as %s: see spec.nodes of the Balancer",
			clip(slices.Min(slices.Collect(maps.Keys(ready)))))
	case nodeless:
		why = "its EndpointSlices name no nodes, and with externalTrafficPolicy: Local only nodes with a ready endpoint carry it: " +
			"set nodeName of the endpoints, or externalTrafficPolicy: Cluster"
	}
	t.problem(v1alpha1.ReasonNoEndpoints, "nothing answers at %s: %s", a, why)
}

// withNodes tells also of nodes that there are not.
func withNodes(result *ServiceResult, s *lb.Service, ns *nodes) *ServiceResult {
	if s == nil || s.Pods {
		return result
	}
	var lacking []Problem
	var silent []netip.Addr
	for _, f := range s.Frontends {
		if a := f.Listener.Address; ns.none == nil && !ns.of(a.Is4()) && !slices.Contains(silent, a) {
			silent = append(silent, a)
			lacking = append(lacking, Problem{Reason: v1alpha1.ReasonNoEligibleNodes, Message: fmt.Sprintf(
				"nothing answers at %s: no node that may be a backend has an %s address", a, family(a))})
		}
	}
	if ns.none != nil {
		lacking = []Problem{{Reason: v1alpha1.ReasonNoEligibleNodes, Message: ns.none.Message}}
	}
	if lacking == nil {
		return result
	}
	return &ServiceResult{PortErrors: result.PortErrors, Problems: slices.Concat(result.Problems, lacking)}
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
// nodeless: some name no node.
func countEndpoints(slices []*discoveryv1.EndpointSlice, ipv4 bool) (ready, leaving map[string]int, nodeless bool) {
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
			if len(e.Addresses) == 0 {
				continue
			}
			if deref(e.NodeName) == "" {
				nodeless = true
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
	return ready, leaving, nodeless
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
