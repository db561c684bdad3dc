package translate

import (
	stdcmp "cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

const (
	tcp  = corev1.ProtocolTCP
	udp  = corev1.ProtocolUDP
	sctp = corev1.ProtocolSCTP
)

func TestS10_EachAddressHasTargetsOfItsFamily(t *testing.T) {
	got := MakeInput(on(service("web").Port(80), "2001:db8::1", "192.0.2.1")).Only(t)
	got.want(t,
		"192.0.2.1:80/TCP -> 30080 on all",
		"[2001:db8::1]:80/TCP -> 30080 on all")
	got.wantProblems(t)
}

func TestS10_MappedAddressesAreIPv4(t *testing.T) {
	MakeInput(on(service("web").Port(80), "::ffff:192.0.2.1")).
		Only(t).want(t, "192.0.2.1:80/TCP -> 30080 on all")
}

func TestS13_ProtocolsThatTheEngineCannotCarry(t *testing.T) {
	got := MakeInput(on(service("web").Port(80).PortOf(sctp, 81, 30081), "192.0.2.1")).Only(t)
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t, v1alpha1.ReasonMixedProtocol)
	want := map[PortKey]string{{sctp, 81}: v1alpha1.PortErrorProtocol}
	if diff := cmp.Diff(want, got.PortErrors); diff != "" {
		t.Errorf("port errors (-want +got):\n%s", diff)
	}
	if m := got.Problems[0].Message; !strings.Contains(m, "81/SCTP") || strings.Contains(m, "80/TCP") {
		t.Errorf("message: %s", m)
	}
	none := MakeInput(on(service("web").PortOf(sctp, 81, 30081), "192.0.2.1")).Only(t)
	none.want(t)
	none.wantProblems(t, "!"+v1alpha1.ReasonMixedProtocol)
}

func TestS16_TCPAndUDPOnOnePortAndNodePort(t *testing.T) {
	got := MakeInput(on(service("dns").PortOf(udp, 53, 30053).PortOf(tcp, 53, 30053), "192.0.2.1")).Only(t)
	got.want(t,
		"192.0.2.1:53/TCP -> 30053 on all",
		"192.0.2.1:53/UDP -> 30053 on all")
	idle := map[lb.Protocol]time.Duration{lb.TCP: 10 * time.Minute, lb.UDP: 10 * time.Second}
	for _, f := range got.Frontends {
		if want := idle[f.Listener.Protocol]; f.Settings.IdleTimeout != want {
			t.Errorf("%s: idle %s, want %s", f.Listener, f.Settings.IdleTimeout, want)
		}
	}
}

func TestS17_APortWithoutNodePort(t *testing.T) {
	svc := service("web").Port(80).PortOf(tcp, 443, 0)
	svc.Obj().Spec.AllocateLoadBalancerNodePorts = new(false) // says nothing: nodePorts do
	remembers := New()
	in := MakeInput(on(svc, "192.0.2.1"))
	out := remembers.Translate(in.Input)
	got := translated{out.Config.Services[0], out.Services["web-uid"]}
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t, v1alpha1.ReasonNoNodePort)
	if e := got.PortErrors[PortKey{tcp, 443}]; e != v1alpha1.PortErrorNoNodePort {
		t.Errorf("error %q of the port", e)
	}
	// As soon as there is one, it works.
	allocated := svc.Obj().DeepCopy()
	allocated.ResourceVersion, allocated.Spec.Ports[1].NodePort = "2", 30443
	in.Services[0].Object = allocated
	out = remembers.Translate(in.Input)
	got = translated{out.Config.Services[0], out.Services["web-uid"]}
	got.want(t,
		"192.0.2.1:80/TCP -> 30080 on all",
		"192.0.2.1:443/TCP -> 30443 on all")
	got.wantProblems(t)
}

func TestS17_NoPortHasANodePort(t *testing.T) {
	got := MakeInput(on(service("web").PortOf(tcp, 80, 0).PortOf(sctp, 81, 30081), "192.0.2.1")).Only(t)
	got.want(t)
	got.wantProblems(t, "!"+v1alpha1.ReasonMixedProtocol, v1alpha1.ReasonNoNodePort)
	if len(got.PortErrors) != 2 {
		t.Errorf("port errors: %v", got.PortErrors)
	}
}

func TestS18_NoNodePortIsRemembered(t *testing.T) {
	remembers, svc := New(), service("web").Port(80)
	in := MakeInput(on(svc, "192.0.2.1"))
	remembers.Translate(in.Input)
	moved := svc.Obj().DeepCopy()
	moved.ResourceVersion, moved.Spec.Ports[0].NodePort = "2", 31000
	in.Services[0].Object = moved
	got := remembers.Translate(in.Input).Config.Services[0]
	translated{Service: got}.want(t, "192.0.2.1:80/TCP -> 31000 on all")
}

// Where no endpoint counts, the owner is told why, and keeps the listener.
func TestS19_NoEndpointCounts(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	web := func(s *builder.EndpointSliceBuilder) *inputBuilder {
		return MakeInput(on(service("web").Port(80).Port(443).Local(32000), "192.0.2.1")).Slices("web", s)
	}
	for says, in := range map[string]*inputBuilder{
		"none of its endpoints is ready":                            web(slice("a", v4).Endpoint("n1", new(false), nil, nil)),
		"its EndpointSlices name no nodes":                          web(slice("a", v4).Ready("", "")),
		"on nodes that may not be backends, such as n8: see spec.n": web(slice("a", v4).Ready("n9", "", "n8")),
	} {
		got := in.Only(t)
		got.want(t, "192.0.2.1:80/TCP -> 30080 on none", "192.0.2.1:443/TCP -> 30443 on none")
		got.wantProblems(t, v1alpha1.ReasonNoEndpoints)
		if m := got.Problems[0].Message; !strings.Contains(m, says) || !strings.HasPrefix(m, "nothing answers at 192.0.2.1: ") {
			t.Errorf("%q, want %q", m, says)
		}
	}
	in := web(slice("a", v4)).Nodes()
	translated{Service: nil, ServiceResult: New().Translate(in.Input).Services["web-uid"]}.wantProblems(t, v1alpha1.ReasonNoEligibleNodes)
}

func TestS19_S21_S22_LocalNodes(t *testing.T) {
	yes, no := new(true), new(false)
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	type all []*builder.EndpointSliceBuilder
	n1, n2 := builder.Node("n1").IP("10.0.0.1", "fd00::1"), builder.Node("n2").IP("10.0.0.2", "fd00::2")
	for name, tc := range map[string]struct {
		slices all
		want4  string
		want6  string
	}{
		"none":                    {},
		"ready on one":            {all{slice("a", v4).Ready("n2")}, " n2", ""},
		"ready on both":           {all{slice("a", v4).Ready("n2", "n1")}, " n1 n2", ""},
		"several on one":          {all{slice("a", v4).Ready("n2", "n1", "n1"), slice("b", v4).Ready("n1")}, " n1*3 n2", ""},
		"one in two slices":       {all{slice("a", v4).Ready("n1"), slice("a", v4).Ready("n1")}, " n1", ""},
		"many on one":             {all{slice("a", v4).Ready(slices.Repeat([]string{"n1"}, 300)...)}, " n1*256", ""},
		"two slices":              {all{slice("b", v4).Ready("n2"), slice("a", v4).Ready("n1")}, " n1 n2", ""},
		"S22 of the other family": {all{slice("a", v4).Ready("n1"), slice("b", v6).Ready("n2")}, " n1", " n2"},
		"two nodes, one address":  {all{slice("a", v4).Ready("n3")}, " n3", ""},
		"a name is no address":    {all{slice("a", discoveryv1.AddressTypeFQDN).Ready("n1")}, "", ""},
		"ready not said":          {all{slice("a", v4).Endpoint("n1", nil, nil, nil)}, " n1", ""},
		"not ready":               {all{slice("a", v4).Endpoint("n1", no, no, no)}, "", ""},
		"S21 terminating":         {all{slice("a", v4).Endpoint("n1", no, yes, yes)}, "", ""},
		"S21 terminating, yet published as ready": {all{slice("a", v4).Endpoint("n1", yes, yes, yes)}, "", ""},
		"S21 another one is ready":                {all{slice("a", v4).Endpoint("n1", no, yes, yes).Ready("n1")}, " n1", ""},
		"on no node":                              {all{slice("a", v4).Endpoint("", yes, yes, no)}, "", ""},
		"on a node that is none of ours":          {all{slice("a", v4).Ready("n9")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := MakeInput(on(service("web").Port(80).Local(32000), "192.0.2.1", "2001:db8::1")).Slices("web", tc.slices...).
				Nodes(n1, n2, builder.Node("n3").IP("10.0.0.2")).Only(t)
			got.want(t, "192.0.2.1:80/TCP -> 30080 on"+stdcmp.Or(tc.want4, " none"), "[2001:db8::1]:80/TCP -> 30080 on"+stdcmp.Or(tc.want6, " none"))
			var silent []string
			for _, want := range []string{tc.want4, tc.want6} {
				if want == "" {
					silent = append(silent, v1alpha1.ReasonNoEndpoints)
				}
			}
			got.wantProblems(t, silent...)
			if p := got.HealthCheckNodePort; p != 32000 {
				t.Errorf("health check on node port %d", p)
			}
		})
	}
}

// Where the engine would end the connections of a node that leaves, it stays while
// an endpoint serves and terminates.
func TestS21_DrainingNodes(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	yes, no := new(true), new(false)
	leaving := slice("a", v4).Ready("n2").Endpoint("n1", no, yes, yes)
	for engine, want := range map[v1alpha1.Engine]string{
		v1alpha1.EngineNginx: "192.0.2.1:80/TCP -> 30080 on n2",
		v1alpha1.EngineLVS:   "192.0.2.1:80/TCP -> 30080 on n1 (draining) n2",
	} {
		got := MakeInput(on(service("web").Port(80).Local(32000), "192.0.2.1")).Slices("web", leaving).
			Spec(func(b *v1alpha1.BalancerSpec) { b.Engine, b.Nodes.MaxPerService = engine, 1 }).Only(t)
		got.want(t, want)
	}
	gone := slice("a", v4).Ready("n2").Endpoint("n1", no, no, yes)
	MakeInput(on(service("web").Port(80).Local(32000), "192.0.2.1")).Slices("web", gone).
		Spec(func(b *v1alpha1.BalancerSpec) { b.Engine = v1alpha1.EngineLVS }).Only(t).
		want(t, "192.0.2.1:80/TCP -> 30080 on n2")
}

// In a node's own network, an endpoint that comes has the address of one that goes.
func TestS21_AddressThatComesAndGoes(t *testing.T) {
	yes, no := new(true), new(false)
	for name, b := range map[string]*builder.EndpointSliceBuilder{
		"goes first":  slice("a", discoveryv1.AddressTypeIPv4).Endpoint("n1", no, yes, yes).Endpoint("n1", yes, yes, no),
		"comes first": slice("a", discoveryv1.AddressTypeIPv4).Endpoint("n1", yes, yes, no).Endpoint("n1", no, yes, yes),
	} {
		endpoints := b.Obj()
		for i := range endpoints.Endpoints {
			endpoints.Endpoints[i].Addresses = []string{"10.0.0.1"}
		}
		ready, leaving, _ := countEndpoints([]*discoveryv1.EndpointSlice{endpoints}, true)
		if ready["n1"] != 1 || leaving["n1"] != 1 {
			t.Errorf("%s: ready %v, leaving %v", name, ready, leaving)
		}
	}
}

// Also where clients come back to their node: what the weights mean there is for the
// host to say.
func TestS19_WeightsAreWhatTheyAre(t *testing.T) {
	endpoints := slice("a", discoveryv1.AddressTypeIPv4).Ready("n1", "n1", "n2")
	MakeInput(on(service("web").Port(80).Local(32000).Sticky(), "192.0.2.1")).Slices("web", endpoints).Only(t).
		want(t, "192.0.2.1:80/TCP -> 30080 on n1*2 n2")
}

// What is too large for a host is told here, and costs nobody else anything.
func TestServicesThatAreTooLarge(t *testing.T) {
	var ranges []string
	for i := range 5000 {
		ranges = append(ranges, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))
	}
	for name, svc := range map[string]*builder.ServiceBuilder{
		"too many ranges": service("web").Port(80).Ranges(ranges...),
		"too many ports":  service("web"),
	} {
		t.Run(name, func(t *testing.T) {
			for i := range int32(600) {
				if name == "too many ports" {
					svc.PortOf(tcp, i+1, 30000+i)
				}
			}
			out := New().Translate(MakeInput(on(svc, "192.0.2.1"), on(service("neighbour").Port(80), "192.0.2.2")).Input)
			translated{nil, out.Services["web-uid"]}.wantProblems(t, "!"+v1alpha1.ReasonInvalidSpec)
			if len(out.Config.Services) != 1 {
				t.Errorf("carried: %v, want only the neighbour", out.Config.Services)
			}
		})
	}
	MakeInput(on(service("web").Port(80).Ranges(ranges[:4000]...), "192.0.2.1")).Only(t).wantProblems(t)
}

func TestS20_ClusterServicesUseEveryNode(t *testing.T) {
	svc := service("web").Port(80)
	svc.Obj().Spec.HealthCheckNodePort = 32000 // left from when it was Local
	got := MakeInput(on(svc, "192.0.2.1")).Slices("web", slice("a", discoveryv1.AddressTypeIPv4).Ready("n1")).Only(t)
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	if p := got.HealthCheckNodePort; p != 0 {
		t.Errorf("health check on node port %d, want none", p)
	}
}

func TestS29_SessionAffinity(t *testing.T) {
	for name, tc := range map[string]struct {
		svc  *builder.ServiceBuilder
		want time.Duration
	}{
		"none":          {service("web"), 0},
		"by default":    {service("web").Sticky(), 3 * time.Hour},
		"as configured": {service("web").Sticky(60), time.Minute},
		"nonsense":      {service("web").Sticky(-1), 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			got := MakeInput(on(tc.svc.Port(80), "192.0.2.1")).Only(t)
			if a := got.Affinity; a != tc.want {
				t.Errorf("affinity %s, want %s", a, tc.want)
			}
		})
	}
}

func TestS31_FieldsThatAreNotOurs(t *testing.T) {
	plain := MakeInput(on(service("web").Port(80), "192.0.2.1")).Only(t)
	svc := service("web").Port(80).With(func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{"203.0.113.9"}
		s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		s.Spec.TrafficDistribution = new("PreferSameZone")
	})
	got := MakeInput(on(svc, "192.0.2.1")).Only(t)
	if diff := cmp.Diff(plain.Service, got.Service, compare); diff != "" {
		t.Errorf("they change the configuration:\n%s", diff)
	}
}

func TestS34_WithheldListenersAreNotCarried(t *testing.T) {
	svc := on(service("web").Port(80).Port(443), "192.0.2.1")
	svc.Withheld = []lb.Listener{{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: lb.TCP}}
	MakeInput(svc).Only(t).want(t, "192.0.2.1:443/TCP -> 30443 on all")
}

func TestExposedNodePortServices(t *testing.T) {
	svc := service("web").Port(80).Annotate(v1alpha1.BalancerAnnotation, "edge")
	svc.Obj().Spec.Type = corev1.ServiceTypeNodePort
	MakeInput(on(svc, "192.0.2.1")).Only(t).want(t, "192.0.2.1:80/TCP -> 30080 on all")
}

// What the API server refuses can come from files.
func TestManifestsThatNoAPIServerChecked(t *testing.T) {
	for name, svc := range map[string]*builder.ServiceBuilder{
		"port too high":     service("web").PortOf(tcp, 65616, 30080), // 80 in 16 bits
		"port 0":            service("web").PortOf(tcp, 0, 30080),
		"nodePort too high": service("web").PortOf(tcp, 80, 95616),
		"nodePort below 0":  service("web").PortOf(tcp, 80, -1),
		"a port twice":      service("web").Port(80).Port(80),
		"no ports":          service("web"),
		"hostile name":      service("a { }").Port(80),
	} {
		t.Run(name, func(t *testing.T) {
			good := on(service("neighbour").Port(80), "192.0.2.2")
			out := New().Translate(MakeInput(on(svc, "192.0.2.1"), good).Input)
			translated{nil, out.Services[svc.Obj().UID]}.wantProblems(t, "!"+v1alpha1.ReasonInvalidSpec)
			if len(out.Config.Services) != 1 || out.Config.Services[0].ID.Name != "neighbour" {
				t.Errorf("carried: %v, want only the neighbour", out.Config.Services)
			}
		})
	}
}

func TestServicesAreSorted(t *testing.T) {
	out := New().Translate(MakeInput(
		on(service("b").Port(80), "192.0.2.1"), on(service("a").Port(80), "192.0.2.2"), on(service("c").Port(80), "192.0.2.3")).Input)
	if !slices.IsSortedFunc(out.Config.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) }) {
		t.Error("Services are not sorted")
	}
}

// With VRRP, hosts bring what they listen on, and each has its priority.
func TestHostsBringTheirAddresses(t *testing.T) {
	in := MakeInput(
		on(service("a").Port(80).Port(443), "192.0.2.2", "2001:db8::1"), on(service("b").Port(81), "192.0.2.2"),
		on(service("c").Port(80), "192.0.2.1"), on(service("moving").Port(80), "192.0.2.9"))
	in.Elsewhere = map[netip.Addr]bool{netip.MustParseAddr("192.0.2.9"): true}
	if out := New().Translate(in.Input); out.VRRP != nil || out.Config.Addresses != nil {
		t.Errorf("without VRRP: %v, %v", out.VRRP, out.Config.Addresses)
	}
	in.Spec(func(s *v1alpha1.BalancerSpec) {
		s.Hosts = []v1alpha1.Host{{Name: "lb1"}, {Name: "lb2", Drain: true}}
		s.VirtualAddresses = v1alpha1.VirtualAddresses{Mode: v1alpha1.VRRP, VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51}}
	})
	out := New().Translate(in.Input)
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}
	if !slices.Equal(out.Config.Addresses, want) || len(out.Config.Services) != 4 {
		t.Errorf("addresses %v, want %v", out.Config.Addresses, want)
	}
	router := lb.VRRP{Interface: "eth0", RouterID: 51, Interval: time.Second, Priority: 250}
	drained := router
	drained.Priority = 75
	if diff := cmp.Diff(map[string]*lb.VRRP{"lb1": &router, "lb2": &drained}, out.VRRP); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// One policy for a Service with HTTP and HTTPS redirects the one to the other.
func TestWhereTLSIsTerminatedNothingIsRedirected(t *testing.T) {
	web := on(service("web").Port(80).Port(443), "192.0.2.1")
	redirect := policy("http").For("web").Set(func(s *v1alpha1.UpstreamSettings) {
		s.Mode, s.HTTP = v1alpha1.ModeHTTP, &v1alpha1.HTTPSettings{RedirectToHTTPS: new(true), MaxBodyBytes: new(int64(7))}
	})
	in := MakeInput(web).Secrets(MakeSecret("web-tls", 1)).Policies(redirect, policy("tls").For("web", "p443").TLS("web-tls"))
	for port, s := range settings(t, in) {
		if s.RedirectToHTTPS != (port == 80) || s.MaxBodyBytes != 7 {
			t.Errorf("port %d: %+v", port, s)
		}
	}
}

// appProtocol says what pods speak, and no more: the mode is the policy's.
func TestAppProtocolSaysWhatPodsSpeak(t *testing.T) {
	for protocol, want := range map[string]bool{"kubernetes.io/h2c": true, "grpc": true, "http": false, "kubernetes.io/ws": false} {
		svc := service("web").Port(80).With(func(s *corev1.Service) { s.Spec.Ports[0].AppProtocol = &protocol })
		for _, mode := range []v1alpha1.Mode{v1alpha1.ModeTCP, v1alpha1.ModeHTTP} {
			in := MakeInput(on(svc, "192.0.2.1")).Policies(policy("p").For("web").Set(func(s *v1alpha1.UpstreamSettings) { s.Mode = mode }))
			got := in.Only(t).Frontends[0].Settings
			if string(got.Mode) != string(mode) || got.H2C != (want && mode == v1alpha1.ModeHTTP) {
				t.Errorf("%s with mode %s: %+v", protocol, mode, got)
			}
		}
	}
}
