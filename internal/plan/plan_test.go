package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

func isDefault(b *v1alpha1.Balancer) { b.Spec.Default = true }

// service is one of the class of edge, with one port.
func service(name string, change ...func(*corev1.Service)) *corev1.Service {
	ofIPv4 := func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol} }
	return builder.Service("default", name).Class("external-lb.dev/edge").Port(80).With(ofIPv4).With(change...).Obj()
}

func held(by, addresses string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		*svc = *record.Record{Holders: []string{by}, Carrier: by, Addresses: builder.Addresses(addresses)}.Write(svc)
	}
}

func TestS01_WhoServesWhat(t *testing.T) {
	older := builder.Balancer("older").Age(9).With(isDefault).Obj()
	younger := builder.Balancer("younger").Age(1).With(isDefault).Obj()
	sameClass := builder.Balancer("partner").Obj()
	sameClass.Spec.LoadBalancerClass = "external-lb.dev/older"
	leaving := builder.Balancer("leaving").Age(99).With(isDefault).Deleting().Obj()
	claims := NewClaims([]*v1alpha1.Balancer{younger, sameClass, leaving, older}, nil, nil)
	ofClass := func(class string) *corev1.Service {
		return service("s", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class })
	}
	for name, c := range map[string]struct {
		svc  *corev1.Service
		want *v1alpha1.Balancer
	}{
		"by class":                        {ofClass("external-lb.dev/younger"), younger},
		"one class, two claims, no pools": {ofClass("external-lb.dev/older"), older},
		"no class":                        {service("s", func(s *corev1.Service) { s.Spec.LoadBalancerClass = nil }), older},
		"foreign class":                   {ofClass("example.com/x"), nil},
		"class of one that goes":          {ofClass("external-lb.dev/leaving"), nil},
		"exposed NodePort": {service("s", func(s *corev1.Service) {
			s.Spec.Type, s.Annotations = corev1.ServiceTypeNodePort, map[string]string{v1alpha1.BalancerAnnotation: "younger"}
		}), younger},
		"NodePort":  {service("s", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }), nil},
		"ClusterIP": {service("s", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }), nil},
	} {
		if got := claims.Of(c.svc); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// snapshot of one Balancer, edge, with one pool and one node; there is another, other.
func snapshot(t *testing.T, services ...*corev1.Service) *Snapshot {
	t.Helper()
	edge := builder.Balancer("edge").Age(1).Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2"}).Obj()
	pools := ParsePools([]v1alpha1.AddressPool{*builder.AddressPool("pool", "192.0.2.0/29").Obj()})
	if len(pools.Problems) > 0 {
		t.Fatal(pools.Problems)
	}
	return NewSnapshot(edge, Objects{
		Balancers: []*v1alpha1.Balancer{edge, builder.Balancer("other").Age(9).Obj()}, Pools: pools, Services: services,
		Nodes: []*corev1.Node{builder.Node("n1").IP("10.0.0.1").Obj()},
	})
}

// planned is what a Planner makes that has seen nothing.
func planned(t *testing.T, s *Snapshot) *Plan {
	t.Helper()
	p, err := NewPlanner(v1alpha1.EngineNginx).Plan(s, Assign(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listeners of a Service in a plan, none if it is not in it.
func listeners(t *testing.T, p *Plan, svc *corev1.Service) (out []lb.Listener) {
	t.Helper()
	key, _ := Key(svc)
	item, ok := p.Set.Get(key)
	if !ok {
		return nil
	}
	part, err := lb.DecodeGiven(item)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range part.(*lb.Service).Frontends {
		out = append(out, f.Listener)
	}
	return out
}

func TestS03_NothingIsProgrammedBeforeItIsOnRecord(t *testing.T) {
	fresh, recorded := service("fresh"), service("recorded", held("edge", "192.0.2.5"))
	s := snapshot(t, fresh, recorded)
	p, a := planned(t, s), Assign(s)
	for _, svc := range []*corev1.Service{fresh, recorded} {
		programmed := listeners(t, p, svc) != nil
		if want := svc == recorded; programmed != want {
			t.Errorf("%s is programmed: %t, want %t", svc.Name, programmed, want)
		}
		if len(a.ByService[svc.UID].Addresses) == 0 {
			t.Errorf("%s has no address", svc.Name)
		}
	}
}

func TestRoles(t *testing.T) {
	elsewhere := service("elsewhere", held("other", "198.51.100.1"))
	gone := service("gone", held("edge", "192.0.2.3"), func(s *corev1.Service) { s.DeletionTimestamp = ptr.To(metav1.Now()) })
	orphan := service("orphan", held("vanished", "192.0.2.4"))
	deleted := service("deleted", func(s *corev1.Service) { s.DeletionTimestamp = ptr.To(metav1.Now()) })
	a := Assign(snapshot(t, elsewhere, gone, orphan, deleted, service("new")))
	names := func(services []*corev1.Service) string {
		var out []string
		for _, s := range services {
			out = append(out, s.Name)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for what, c := range map[string][2]string{
		"carried": {names(a.Carried), "new orphan"},
		"leaving": {names(a.Leaving), "gone"},
		"waiting": {names(a.Waiting), "elsewhere"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", what, c[0], c[1])
		}
	}
	if got := a.ByService["new-uid"].Addresses; slices.Contains(got, netip.MustParseAddr("192.0.2.3")) {
		t.Error("the address of a Service that is leaving was given away")
	}
}

// Another provider's status is no fact of ours.
func TestForeignStatusIsNoClaim(t *testing.T) {
	svc := service("web", func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.99"}}
	})
	a := Assign(snapshot(t, svc))
	got := a.ByService[svc.UID].Addresses
	if len(got) != 1 || !netip.MustParsePrefix("192.0.2.0/29").Contains(got[0]) {
		t.Errorf("assigned %v", got)
	}
}

// Shape tells what the owner changed from what the cluster did.
func TestShapeIgnoresNodes(t *testing.T) {
	plan := func(svc *corev1.Service, nodes int) *Service {
		s := snapshot(t, svc)
		for i := range nodes {
			n := s.Nodes[0].DeepCopy()
			n.Name, n.Status.Addresses[0].Address = fmt.Sprintf("extra-%d", i), fmt.Sprintf("10.0.1.%d", i+1)
			s.Nodes = append(s.Nodes, n)
		}
		return planned(t, s).Services[0]
	}
	one := plan(service("web", held("edge", "192.0.2.1")), 0)
	more := plan(service("web", held("edge", "192.0.2.1")), 3)
	other := plan(service("web", held("edge", "192.0.2.1"), func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }), 0)
	if one.Shape == "" || one.Shape != more.Shape || one.Shape == other.Shape {
		t.Errorf("shapes %x, with more nodes %x, with another port %x", one.Shape, more.Shape, other.Shape)
	}
}

// A flavor is what the owner changed, too: it is told when the cloud has it.
func TestShapeHasTheFlavor(t *testing.T) {
	plan := func(flavor string) string {
		s := snapshot(t, service("web", held("edge", "192.0.2.1"), func(svc *corev1.Service) {
			metav1.SetMetaDataAnnotation(&svc.ObjectMeta, v1alpha1.FlavorAnnotation, flavor)
		}))
		s.Balancer.Spec.Engine, s.Balancer.Spec.Provider = v1alpha1.EngineProvider, &v1alpha1.Provider{}
		return planned(t, s).Services[0].Shape
	}
	if small, big := plan("small"), plan("big"); small == "" || small == big {
		t.Errorf("shapes %x and %x", small, big)
	}
}

// A node that comes or goes is one item, and touches no Service that does not name it.
func TestANodeIsOneItem(t *testing.T) {
	s := snapshot(t, service("web", held("edge", "192.0.2.1")), service("other", held("edge", "192.0.2.2")))
	planner := NewPlanner(v1alpha1.EngineNginx)
	plan := func() *Plan {
		t.Helper()
		p, err := planner.Plan(s, Assign(s))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := plan()
	if again := plan(); again.Set != before.Set || again.Sets["lb1"] != before.Sets["lb1"] {
		t.Error("what says the same is made anew")
	}
	n := s.Nodes[0].DeepCopy()
	n.Name, n.Status.Addresses[0].Address = "n2", "10.0.0.2"
	s.Nodes = append(s.Nodes, n)
	change := lb.Diff(before.Set.Manifest(), plan().Set)
	if len(change.Put) != 1 || change.Put[0].Key != lb.NodeKey("n2") || len(change.Delete) > 0 {
		t.Errorf("put %d items, delete %v", len(change.Put), change.Delete)
	}
}

// With VRRP each host has its own item, and all have the addresses.
func TestEachHostHasItsSet(t *testing.T) {
	s := snapshot(t, service("web", held("edge", "192.0.2.1")))
	if p := planned(t, s); p.Sets["lb1"] != p.Set || p.Sets["lb2"] != p.Set || len(p.Services[0].Addressed) > 0 {
		t.Errorf("without VRRP: %v", p.Sets)
	}
	hosts := s.Balancer.Spec.Hosts
	withVRRP(s.Balancer)
	s.Balancer.Spec.Hosts = hosts
	p := planned(t, s)
	one, _ := p.Sets["lb1"].Sum(lb.VRRPKey)
	two, ok := p.Sets["lb2"].Sum(lb.VRRPKey)
	if !ok || one == two || p.Sets["lb1"].Len() != p.Set.Len()+1 {
		t.Errorf("hosts have %d and %d items, all of them %d", p.Sets["lb1"].Len(), p.Sets["lb2"].Len(), p.Set.Len())
	}
	address := lb.AddressKey(netip.MustParseAddr("192.0.2.1"))
	if _, ok := p.Set.Get(address); !ok || !slices.Equal(p.Services[0].Addressed, []lb.Key{address}) {
		t.Errorf("the address is in the Set: %t; the Service needs %v", ok, p.Services[0].Addressed)
	}
}

// A manifest that no API server has checked takes nothing of its neighbour's.
func TestPortsOutOfRangeTakeNothing(t *testing.T) {
	bad := service("bad", held("edge", "192.0.2.1"), func(s *corev1.Service) { s.Spec.Ports[0].Port = 65616 }) // 80 in 16 bits
	good := service("good", held("edge", "192.0.2.1"))
	fresh := service("fresh", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 95616 })
	for i, svc := range []*corev1.Service{fresh, bad, good} { // from the oldest
		svc.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
	}
	m := newMove(t, bad, good, fresh)
	p := m.looks("edge", true)
	m.carries(p, good, "192.0.2.1")
	for _, view := range p.Services {
		wrong := view.Object != good
		if wrong != (view.Fatal() != nil) || wrong && (len(view.Problems) != 1 || view.Problems[0].Reason != v1alpha1.ReasonInvalidSpec) {
			t.Errorf("%s: %+v", view.Object.Name, view.Problems)
		}
	}
}

// Who asks MetalLB to share addresses is told where nobody shares them.
func TestForeignAnnotations_SharingIsNotIgnoredInSilence(t *testing.T) {
	const key = "metallb.universe.tf/allow-shared-ip"
	for name, c := range map[string]struct {
		understood, shared bool
		annotation         string
		told               bool
	}{
		"not shared":        {true, false, key, true},
		"the newer name":    {true, false, "metallb.io/allow-shared-ip", true},
		"shared":            {true, true, key, false},
		"by default":        {false, false, key, false},
		"another one of it": {true, false, "metallb.io/ip-allocated-from-pool", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, service("web", func(svc *corev1.Service) { svc.Annotations = map[string]string{c.annotation: "a"} }))
			s.own[0].SharePorts = c.shared
			if c.understood {
				s.Balancer.Spec.ForeignAnnotations = []v1alpha1.AnnotationProvider{v1alpha1.AnnotationsMetalLB}
			}
			problems := planned(t, s).Services[0].Problems
			told := len(problems) > 0 && problems[0].Reason == v1alpha1.ReasonInvalidAnnotation && !problems[0].Fatal &&
				strings.Contains(problems[0].Message, c.annotation) && strings.Contains(problems[0].Message, "pool does not")
			if told != c.told || len(problems) > 0 && !c.told {
				t.Errorf("%+v", problems)
			}
		})
	}
}

// What another provider's annotations ask for counts where the Balancer says so, and nowhere else.
func TestForeignAnnotations_AreOptIn(t *testing.T) {
	asks := func(pairs ...string) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			svc.Annotations = map[string]string{}
			for i := 0; i < len(pairs); i += 2 {
				svc.Annotations[pairs[i]] = pairs[i+1]
			}
		}
	}
	const addresses, pool = "metallb.io/loadBalancerIPs", "metallb.universe.tf/address-pool"
	for name, c := range map[string]struct {
		understood bool
		change     func(*corev1.Service)
		want       string // the address, or what the problem names
	}{
		"an address":                {true, asks(addresses, "192.0.2.5"), "192.0.2.5"},
		"an address, by default":    {false, asks(addresses, "192.0.2.5"), "192.0.2.0"},
		"a pool that there is not":  {true, asks(pool, "gold"), pool},
		"by default":                {false, asks(pool, "gold"), "192.0.2.0"},
		"a conflict":                {true, asks(addresses, "192.0.2.5", v1alpha1.AddressesAnnotation, "192.0.2.6"), addresses},
		"a conflict, by default":    {false, asks(addresses, "192.0.2.5", v1alpha1.AddressesAnnotation, "192.0.2.6"), "192.0.2.6"},
		"a conflict of pools":       {true, asks(pool, "gold", v1alpha1.AddressPoolAnnotation, "pool"), pool},
		"ours, which says the same": {true, asks(pool, "pool", v1alpha1.AddressPoolAnnotation, "pool"), "192.0.2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service("web", c.change)
			s := snapshot(t, svc)
			if c.understood {
				s.Balancer.Spec.ForeignAnnotations = []v1alpha1.AnnotationProvider{v1alpha1.AnnotationsMetalLB}
			}
			a := Assign(s)
			got := a.ByService[svc.UID]
			text := fmt.Sprint(got.Addresses)
			if got.Problem != nil {
				text += got.Problem.Message
			}
			if problem := a.entries[svc.UID].invalid; problem != nil {
				text += problem.Message
			}
			if !strings.Contains(text, c.want) {
				t.Errorf("%s, want %s", text, c.want)
			}
		})
	}
}
