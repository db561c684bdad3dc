package translate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

var compare = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
}

var epoch = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

type serviceBuilder struct{ corev1.Service }

// MakeService begins a Service of type LoadBalancer in the namespace default.
func MakeService(name string) *serviceBuilder {
	b := &serviceBuilder{}
	b.Namespace, b.Name, b.UID, b.ResourceVersion = "default", name, types.UID(name+"-uid"), "1"
	b.Annotations = map[string]string{}
	b.Spec.Type = corev1.ServiceTypeLoadBalancer
	return b
}

// Port adds a TCP port named p<port>, with the nodePort 30000 above it.
func (b *serviceBuilder) Port(port int32) *serviceBuilder {
	return b.PortOf(corev1.ProtocolTCP, port, 30000+port)
}

func (b *serviceBuilder) PortOf(p corev1.Protocol, port, nodePort int32) *serviceBuilder {
	b.Spec.Ports = append(b.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", port), Protocol: p, Port: port, NodePort: nodePort})
	return b
}

func (b *serviceBuilder) Local() *serviceBuilder {
	b.Spec.ExternalTrafficPolicy, b.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	return b
}

func (b *serviceBuilder) Ranges(ranges ...string) *serviceBuilder {
	b.Spec.LoadBalancerSourceRanges = ranges
	return b
}

func (b *serviceBuilder) Annotate(key, value string) *serviceBuilder {
	b.Annotations[key] = value
	return b
}

func (b *serviceBuilder) Sticky(seconds ...int32) *serviceBuilder {
	b.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	if len(seconds) > 0 {
		b.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds[0]}}
	}
	return b
}

func (b *serviceBuilder) Obj() *corev1.Service { return &b.Service }

// On says which addresses are assigned.
func (b *serviceBuilder) On(addresses ...string) Service {
	s := Service{Object: b.Obj()}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	return s
}

type nodeBuilder struct{ corev1.Node }

// MakeNode begins a node without addresses.
func MakeNode(name string) *nodeBuilder {
	b := &nodeBuilder{}
	b.Name, b.Labels = name, map[string]string{}
	return b
}

func (b *nodeBuilder) IP(addresses ...string) *nodeBuilder {
	return b.Address(corev1.NodeInternalIP, addresses...)
}

func (b *nodeBuilder) Address(kind corev1.NodeAddressType, addresses ...string) *nodeBuilder {
	for _, a := range addresses {
		b.Status.Addresses = append(b.Status.Addresses, corev1.NodeAddress{Type: kind, Address: a})
	}
	return b
}

func (b *nodeBuilder) Label(key, value string) *nodeBuilder {
	b.Labels[key] = value
	return b
}

func (b *nodeBuilder) Taint(key string) *nodeBuilder {
	b.Spec.Taints = append(b.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	return b
}

func (b *nodeBuilder) Deleting() *nodeBuilder {
	b.DeletionTimestamp = &epoch
	return b
}

func (b *nodeBuilder) NotReady() *nodeBuilder {
	b.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
	return b
}

func (b *nodeBuilder) Obj() *corev1.Node { return &b.Node }

type sliceBuilder struct{ discoveryv1.EndpointSlice }

// MakeSlice begins an EndpointSlice of one family.
func MakeSlice(name string, family discoveryv1.AddressType) *sliceBuilder {
	b := &sliceBuilder{}
	b.Namespace, b.Name, b.UID, b.ResourceVersion, b.AddressType = "default", name, types.UID(name), "1", family
	return b
}

// On adds an endpoint on a node; what is nil is not said.
func (b *sliceBuilder) On(node string, ready, serving, terminating *bool) *sliceBuilder {
	e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.%s.%d", b.Name, len(b.Endpoints))}, Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}}
	if node != "" {
		e.NodeName = &node
	}
	b.Endpoints = append(b.Endpoints, e)
	return b
}

func (b *sliceBuilder) Ready(nodes ...string) *sliceBuilder {
	for _, n := range nodes {
		b.On(n, new(true), new(true), new(false))
	}
	return b
}

func (b *sliceBuilder) Obj() *discoveryv1.EndpointSlice { return &b.EndpointSlice }

type policyBuilder struct{ v1alpha1.UpstreamPolicy }

// MakePolicy begins an UpstreamPolicy in the namespace default.
func MakePolicy(name string) *policyBuilder {
	b := &policyBuilder{}
	b.Namespace, b.Name, b.UID, b.ResourceVersion, b.Generation = "default", name, types.UID(name), "1", 1
	b.CreationTimestamp = epoch
	return b
}

// For adds a target: a Service, or one port of it.
func (b *policyBuilder) For(service string, section ...string) *policyBuilder {
	ref := v1alpha1.PolicyTargetReference{Kind: "Service", Name: service}
	if len(section) > 0 {
		ref.SectionName = section[0]
	}
	b.Spec.TargetRefs = append(b.Spec.TargetRefs, ref)
	return b
}

func (b *policyBuilder) Younger(minutes int) *policyBuilder {
	b.CreationTimestamp = metav1.NewTime(epoch.Add(time.Duration(minutes) * time.Minute))
	return b
}

func (b *policyBuilder) Set(change func(*v1alpha1.UpstreamSettings)) *policyBuilder {
	change(&b.Spec.UpstreamSettings)
	return b
}

func (b *policyBuilder) Algorithm(a v1alpha1.Algorithm) *policyBuilder {
	return b.Set(func(s *v1alpha1.UpstreamSettings) { s.Algorithm = a })
}

func (b *policyBuilder) Retries(n int32) *policyBuilder {
	return b.Set(func(s *v1alpha1.UpstreamSettings) { s.Retries = &n })
}

func (b *policyBuilder) Idle(d v1alpha1.Duration) *policyBuilder {
	return b.Set(func(s *v1alpha1.UpstreamSettings) { s.Timeouts = &v1alpha1.Timeouts{Idle: d} })
}

func (b *policyBuilder) Obj() *v1alpha1.UpstreamPolicy { return &b.UpstreamPolicy }

// MakeBalancer makes one with nginx and without settings.
func MakeBalancer() *v1alpha1.Balancer {
	b := &v1alpha1.Balancer{}
	b.Name, b.UID, b.Generation, b.Spec.Engine = "edge", "edge-uid", 1, v1alpha1.EngineNginx
	return b
}

// inputBuilder begins with two dual-stack nodes, n1 and n2.
type inputBuilder struct{ Input }

func MakeInput(services ...Service) *inputBuilder {
	b := &inputBuilder{Input{Balancer: MakeBalancer(), Services: services, Slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{}}}
	return b.Nodes(
		MakeNode("n1").IP("10.0.0.1", "fd00::1"),
		MakeNode("n2").IP("10.0.0.2", "fd00::2"))
}

// Nodes are these and no others.
func (b *inputBuilder) Nodes(nodes ...*nodeBuilder) *inputBuilder {
	b.Input.Nodes = nil
	for _, n := range nodes {
		b.Input.Nodes = append(b.Input.Nodes, n.Obj())
	}
	return b
}

func (b *inputBuilder) Slices(service string, slices ...*sliceBuilder) *inputBuilder {
	key := types.NamespacedName{Namespace: "default", Name: service}
	for _, s := range slices {
		b.Input.Slices[key] = append(b.Input.Slices[key], s.Obj())
	}
	return b
}

func (b *inputBuilder) Policies(policies ...*policyBuilder) *inputBuilder {
	for _, p := range policies {
		b.Input.Policies = append(b.Input.Policies, p.Obj())
	}
	return b
}

func (b *inputBuilder) Spec(change func(*v1alpha1.BalancerSpec)) *inputBuilder {
	change(&b.Balancer.Spec)
	return b
}

// translated is what became of one Service.
type translated struct {
	*lb.Service
	*ServiceResult
}

// Only translates an Input of one Service.
func (b *inputBuilder) Only(t *testing.T) translated {
	t.Helper()
	if len(b.Services) != 1 {
		t.Fatalf("%d Services, want 1", len(b.Services))
	}
	out := New().Translate(b.Input)
	one := translated{ServiceResult: out.Services[b.Services[0].Object.UID]}
	if len(out.Config.Services) > 0 {
		one.Service = out.Config.Services[0]
	}
	return one
}

// lines prints the Frontends with their nodes, and the nodePort where it is asked.
func (s translated) lines() []string {
	var out []string
	if s.Service == nil {
		return nil
	}
	for _, f := range s.Frontends {
		targets := s.Family(f.Listener.Address.Is4()).Targets
		line := fmt.Sprintf("%s -> %d on", f.Listener, f.NodePort)
		switch {
		case targets.All && targets.Limit > 0:
			line += fmt.Sprintf(" %d of all", targets.Limit)
		case targets.All:
			line += " all"
		case len(targets.Nodes) == 0:
			line += " none"
		}
		for _, n := range targets.Nodes {
			if line += " " + n.Node; n.Weight != 1 {
				line += fmt.Sprintf("*%d", n.Weight)
			}
			if n.Draining {
				line += " (draining)"
			}
		}
		out = append(out, line)
	}
	return out
}

// names of the nodes that may be backends.
func names(out Output) (names []string) {
	for _, n := range out.Config.Nodes {
		names = append(names, n.Name)
	}
	return names
}

func (s translated) want(t *testing.T, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, s.lines(), compare); diff != "" {
		t.Errorf("frontends (-want +got):\n%s", diff)
	}
}

// wantProblems compares reasons; a leading ! means fatal.
func (s translated) wantProblems(t *testing.T, reasons ...string) {
	t.Helper()
	var got []string
	for _, p := range s.Problems {
		reason := p.Reason
		if p.Fatal {
			reason = "!" + reason
		}
		got = append(got, reason)
	}
	if diff := cmp.Diff(reasons, got, compare); diff != "" {
		t.Errorf("problems (-want +got):\n%s\n%+v", diff, s.Problems)
	}
}
