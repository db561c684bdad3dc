package translate

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

var compare = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}),
}

// The objects of tests here are in the namespace default.

func service(name string) *builder.ServiceBuilder { return builder.Service("default", name) }

func policy(name string) *builder.UpstreamPolicyBuilder {
	return builder.UpstreamPolicy("default", name)
}

func slice(name string, family discoveryv1.AddressType) *builder.EndpointSliceBuilder {
	return builder.EndpointSlice("default", name, family)
}

// on says which addresses are assigned.
func on(svc *builder.ServiceBuilder, addresses ...string) Service {
	s := Service{Object: svc.Obj()}
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	return s
}

// inputBuilder begins with two dual-stack nodes, n1 and n2.
type inputBuilder struct{ Input }

func MakeInput(services ...Service) *inputBuilder {
	b := &inputBuilder{Input{
		Balancer: builder.Balancer("edge").Obj(), Services: services,
		Slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
	}}
	return b.Nodes(
		builder.Node("n1").IP("10.0.0.1", "fd00::1"),
		builder.Node("n2").IP("10.0.0.2", "fd00::2"))
}

// Nodes are these and no others.
func (b *inputBuilder) Nodes(nodes ...*builder.NodeBuilder) *inputBuilder {
	b.Input.Nodes = nil
	for _, n := range nodes {
		b.Input.Nodes = append(b.Input.Nodes, n.Obj())
	}
	return b
}

func (b *inputBuilder) Slices(service string, slices ...*builder.EndpointSliceBuilder) *inputBuilder {
	key := types.NamespacedName{Namespace: "default", Name: service}
	for _, s := range slices {
		b.Input.Slices[key] = append(b.Input.Slices[key], s.Obj())
	}
	return b
}

func (b *inputBuilder) Policies(policies ...*builder.UpstreamPolicyBuilder) *inputBuilder {
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
