package translate

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// inKernel lets the kernel carry datagrams beside HAProxy.
func inKernel(b *v1alpha1.BalancerSpec) {
	b.Engine, b.Datagrams = v1alpha1.EngineHAProxy, v1alpha1.DatagramsLVS
}

// With datagrams in the kernel, a Service with TCP and UDP on one port is carried as a whole.
func TestDatagrams_OnePortWithTwoProtocols(t *testing.T) {
	quic := func() *builder.ServiceBuilder {
		return service("quic").PortOf(corev1.ProtocolTCP, 443, 30443).PortOf(corev1.ProtocolUDP, 443, 30444).PortOf(corev1.ProtocolSCTP, 36412, 30412)
	}
	alone := MakeInput(on(quic(), "192.0.2.1")).Spec(func(b *v1alpha1.BalancerSpec) { b.Engine = v1alpha1.EngineHAProxy }).Only(t)
	if len(alone.Frontends) != 1 || len(alone.PortErrors) != 2 {
		t.Errorf("without it: %v, %v", alone.lines(), alone.PortErrors)
	}
	both := MakeInput(on(quic(), "192.0.2.1")).Spec(inKernel).Only(t)
	if len(both.Frontends) != 3 || len(both.PortErrors) != 0 || len(both.Problems) != 0 {
		t.Errorf("with it: %v, %v, %v", both.lines(), both.PortErrors, both.Problems)
	}
}

// Settings of a port are those that its carrier can do, and the status says which are not.
func TestDatagrams_SettingsAreTheCarriers(t *testing.T) {
	p := policy("p").For("quic").Set(func(s *v1alpha1.UpstreamSettings) {
		s.Algorithm, s.Retries = v1alpha1.Random, new(int32(1))
	})
	svc := service("quic").PortOf(corev1.ProtocolTCP, 443, 30443).PortOf(corev1.ProtocolUDP, 443, 30444)
	out := MakeInput(on(svc, "192.0.2.1")).Policies(p).Spec(inKernel).Only(t)
	algorithms := map[lb.Protocol]lb.Algorithm{}
	for _, f := range out.Frontends {
		algorithms[f.Listener.Protocol] = f.Settings.Algorithm
	}
	if algorithms[lb.TCP] != lb.Random || algorithms[lb.UDP] != lb.RoundRobin {
		t.Errorf("algorithms are %v", algorithms)
	}
	in := MakeInput(on(svc, "192.0.2.1")).Spec(inKernel)
	in.Balancer.Spec.Defaults.Algorithm = v1alpha1.Random
	if said := strings.Join(New().Translate(in.Input).Unsupported, "; "); !strings.Contains(said, "IPVS has no such scheduler") {
		t.Errorf("the Balancer says of its defaults: %q", said)
	}
}

// Who reads it is told which ports it is about, and the reasons of both.
func TestDatagrams_ReasonsNameThePorts(t *testing.T) {
	in := MakeInput(on(service("quic").PortOf(corev1.ProtocolTCP, 443, 30443).PortOf(corev1.ProtocolUDP, 443, 30444), "192.0.2.1")).Spec(inKernel)
	in.Balancer.Spec.Defaults = v1alpha1.UpstreamSettings{Algorithm: v1alpha1.NeverQueue, Retries: new(int32(1)), MaxConnectionsPerNode: new(int32(9))}
	in.Balancer.Spec.Defaults.ProxyProtocol = &v1alpha1.ProxyProtocol{Accept: new(true)}
	want := []string{"algorithm=NeverQueue: only LVS has it (TCP ports)", "(UDP and SCTP ports)", "(UDP and SCTP ports)"}
	got := New().Translate(in.Input).Unsupported
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if !strings.HasSuffix(got[i], want[i]) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}

// Only where the kernel carries a port of a Service, the hosts are told which nodes drain.
func TestDatagrams_NodesThatDrain(t *testing.T) {
	for _, c := range []struct {
		protocol corev1.Protocol
		spec     func(*v1alpha1.BalancerSpec)
		drains   bool
	}{
		{corev1.ProtocolUDP, inKernel, true},
		{corev1.ProtocolTCP, inKernel, false},
		{corev1.ProtocolUDP, func(*v1alpha1.BalancerSpec) {}, false},
	} {
		svc := service("dns").PortOf(c.protocol, 53, 30053).Local(0)
		ends := slice("dns-1", discoveryv1.AddressTypeIPv4).Endpoint("n1", new(false), new(true), new(true)).Ready("n2")
		out := MakeInput(on(svc, "192.0.2.1")).Spec(c.spec).Slices("dns", ends).Only(t)
		drains := slices.ContainsFunc(out.IPv4.Targets.Nodes, func(t lb.Target) bool { return t.Draining })
		if drains != c.drains {
			t.Errorf("%s: nodes %+v", c.protocol, out.IPv4.Targets.Nodes)
		}
	}
}
