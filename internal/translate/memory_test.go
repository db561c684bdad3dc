package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func TestWhatIsRemembered(t *testing.T) {
	changedService := func(version string, change func(*corev1.Service)) func(*Input) {
		return func(in *Input) {
			svc := in.Services[0].Object.DeepCopy()
			svc.ResourceVersion = version
			if change != nil {
				change(svc)
			}
			in.Services[0].Object = svc
		}
	}
	changedPolicy := func(change func(*v1alpha1.UpstreamPolicy)) func(*Input) {
		return func(in *Input) {
			p := in.Policies[0].DeepCopy()
			p.ResourceVersion = "2"
			change(p)
			in.Policies[0] = p
		}
	}
	changedSlice := func(version string, nodes ...string) func(*Input) {
		return func(in *Input) {
			s := slice("a", "IPv4").Ready(nodes...)
			s.Obj().ResourceVersion = version
			in.Slices = MakeInput().Slices("web", s).Input.Slices
		}
	}
	for name, tc := range map[string]struct {
		change func(*Input)
		same   bool // the lb.Service
		result bool // the ServiceResult, too: it was not even translated
	}{
		"nothing":                    {func(*Input) {}, true, true},
		"our own status of it":       {changedService("2", nil), true, false},
		"its nodePort":               {changedService("2", func(s *corev1.Service) { s.Spec.Ports[0].NodePort++ }), false, false},
		"an old manifest, no memory": {changedService("", func(s *corev1.Service) { s.Spec.Ports[0].NodePort++ }), false, false},
		"its address":                {func(in *Input) { in.Services[0].Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.2")} }, false, false},
		"a listener that is taken": {func(in *Input) {
			in.Services[0].Withheld = []lb.Listener{{Address: in.Services[0].Addresses[0], Port: 80, Protocol: lb.TCP}}
		}, false, false},
		"a ready endpoint":                   {changedSlice("2", "n1"), false, false},
		"one more on a node":                 {changedSlice("2", "n1", "n1", "n2", "n4"), false, false},
		"one on a node that is none of ours": {changedSlice("2", "n1", "n2", "n4", "n4"), true, false},
		"an old slice, no memory":            {changedSlice("", "n1"), false, false},
		"slices in another order":            {func(in *Input) { in.Slices = reversed(in.Slices) }, true, true},
		"nodes per Service":                  {func(in *Input) { in.Balancer = in.Balancer.DeepCopy(); in.Balancer.Spec.Nodes.MaxPerService = 1 }, false, false},
		"a policy's status":                  {changedPolicy(func(*v1alpha1.UpstreamPolicy) {}), true, true},
		"a policy's spec":                    {changedPolicy(func(p *v1alpha1.UpstreamPolicy) { p.Generation++; p.Spec.Retries = new(int32(9)) }), false, false},
		"the Balancer's hosts":               {func(in *Input) { in.Balancer = in.Balancer.DeepCopy(); in.Balancer.Generation++ }, true, true},
		"the Balancer's defaults": {func(in *Input) {
			in.Balancer = in.Balancer.DeepCopy()
			in.Balancer.Spec.Defaults.MaxConnections = new(int32(1))
		}, false, false},
		"a node that cannot carry it": {func(in *Input) { in.Nodes = append(in.Nodes, builder.Node("n6").IP("fd00::6").Obj()) }, true, false},
		"a node that can":             {func(in *Input) { in.Nodes = append(in.Nodes, builder.Node("n4").IP("10.0.0.4").Obj()) }, false, false},
		"a node that is not ready":    {func(in *Input) { in.Nodes[0] = builder.Node("n1").IP("10.0.0.1", "fd00::1").NotReady().Obj() }, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			remembers := New()
			in := MakeInput(on(service("web").Local(32000).Port(80), "192.0.2.1")).
				Slices("web", slice("a", "IPv4").Ready("n1", "n2", "n4"), slice("b", "IPv4")).
				Policies(policy("p").For("web").Retries(1)).Input
			before := remembers.Translate(in)
			in.Services, in.Nodes = slices.Clone(in.Services), slices.Clone(in.Nodes)
			tc.change(&in)
			after := remembers.Translate(in)
			if same := slices.Equal(before.Config.Services, after.Config.Services); same != tc.same {
				t.Errorf("the same Service: %v, want %v", same, tc.same)
			}
			if same := before.Services["web-uid"] == after.Services["web-uid"]; same != tc.result {
				t.Errorf("the same result: %v, want %v", same, tc.result)
			}
		})
	}
}

func reversed(all map[types.NamespacedName][]*discoveryv1.EndpointSlice) map[types.NamespacedName][]*discoveryv1.EndpointSlice {
	out := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for key, s := range all {
		out[key] = slices.Clone(s)
		slices.Reverse(out[key])
	}
	return out
}

// Objects that come from files have no versions by which to see a change.
func TestObjectsWithoutVersionsAreReadAgain(t *testing.T) {
	for name, without := range map[string]func(*Input){
		"Service": func(in *Input) { in.Services[0].Object.ResourceVersion = "" },
		"slice":   func(in *Input) { in.Slices[nameOf(in)][0].ResourceVersion = "" },
		"policy":  func(in *Input) { in.Policies[0].ResourceVersion = "" },
	} {
		t.Run(name, func(t *testing.T) {
			in := MakeInput(on(service("web").Local(32000).Port(80), "192.0.2.1")).
				Slices("web", slice("a", "IPv4").Ready("n1")).
				Policies(policy("p").For("web").Retries(1)).Input
			without(&in)
			remembers := New()
			remembers.Translate(in)
			in.Services[0].Object.Spec.Ports[0].NodePort++
			in.Slices[nameOf(&in)][0].Endpoints[0].NodeName = new("n2")
			in.Policies[0].Spec.Retries = new(int32(5))
			if diff := cmp.Diff(New().Translate(in), remembers.Translate(in), compare); diff != "" {
				t.Errorf("(-new +remembers):\n%s", diff)
			}
		})
	}
}

func nameOf(in *Input) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: in.Services[0].Object.Name}
}

// Why there are no nodes is part of what is remembered.
func TestWhyThereAreNoNodesIsNotRemembered(t *testing.T) {
	remembers, in := New(), MakeInput(web()).Nodes()
	remembers.Translate(in.Input)
	out := remembers.Translate(in.Nodes(builder.Node("n1").IP("10.0.0.1").Label(exclude, "")).Input)
	if got := out.Services["web-uid"].Problems[0].Message; got != out.NodesProblem.Message {
		t.Errorf("told %q, and the Balancer %q", got, out.NodesProblem.Message)
	}
}

// large has Services on two ports; of 100, ten are Local and ten have a policy.
func large(services, nodes int) Input {
	in := MakeInput().Nodes()
	for i := range nodes {
		in.Input.Nodes = append(in.Input.Nodes, builder.Node(fmt.Sprintf("node-%d", i)).IP(fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)).Obj())
	}
	for i := range services {
		name := fmt.Sprintf("service-%d", i)
		b := service(name).Port(80).Port(443)
		switch i % 10 {
		case 0:
			b.Local(32000)
			in.Slices(name, slice(name, "IPv4").Ready("node-1", "node-2", "node-3"))
		case 1:
			in.Policies(policy(name).For(name).Retries(3))
		}
		in.Services = append(in.Services, on(b, fmt.Sprintf("192.168.%d.%d", i/250, i%250)))
	}
	return in.Input
}

func BenchmarkTranslate(b *testing.B) {
	for _, size := range [][2]int{{1000, 10}, {1000, 100}, {5000, 100}} {
		in := large(size[0], size[1])
		for _, bench := range []struct {
			name   string
			change func(int)
		}{
			{"nothing", func(int) {}},
			{"oneService", func(i int) {
				svc := *in.Services[i%len(in.Services)].Object
				svc.ResourceVersion = fmt.Sprint(i + 2)
				svc.Spec.Ports = []corev1.ServicePort{{Protocol: "TCP", Port: 80, NodePort: int32(30000 + i%1000)}}
				in.Services[i%len(in.Services)].Object = &svc
			}},
			{"oneNode", func(i int) { in.Nodes[0] = builder.Node("node-0").IP(fmt.Sprintf("10.1.0.%d", i%250+1)).Obj() }},
		} {
			b.Run(fmt.Sprintf("%dx%d/%s", size[0], size[1], bench.name), func(b *testing.B) {
				remembers := New()
				remembers.Translate(in)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					bench.change(i)
					remembers.Translate(in)
				}
			})
		}
		b.Run(fmt.Sprintf("%dx%d/cold", size[0], size[1]), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				New().Translate(in)
			}
		})
	}
}
