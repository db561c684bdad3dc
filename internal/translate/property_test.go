package translate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// world is a cluster in which everything happens at random. As in an API server,
// an object that changes is another object with another version.
type world struct {
	inputBuilder
	version int
}

// worldPods are those of Services: none, few and more.
var worldPods = sync.OnceValue(func() []*Endpoints {
	return []*Endpoints{nil, crowd("default", "few", 3).Pods, crowd("default", "more", 9).Pods}
})

// worldCertificates are two, of which all worlds have some.
var worldCertificates = sync.OnceValue(func() Certificates {
	return MakeInput().Secrets(MakeSecret("a", 1), MakeSecret("b", 2)).Certificates
})

func newWorld(t *rapid.T) *world {
	w := &world{inputBuilder: *MakeInput()}
	w.Certificates = worldCertificates()
	for range rapid.IntRange(0, 6).Draw(t, "nodes") {
		w.drawNode(t)
	}
	for range rapid.IntRange(1, 6).Draw(t, "services") {
		w.drawService(t)
	}
	return w
}

func (w *world) next() string {
	w.version++
	return strconv.Itoa(w.version)
}

func (w *world) drawNode(t *rapid.T) {
	n := builder.Node(rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"}).Draw(t, "node"))
	addresses := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "garbage", "::ffff:10.0.0.4"})
	n.IP(rapid.SliceOfN(addresses, 1, 4).Draw(t, "addresses")...)
	switch rapid.SampledFrom([]string{"", "", "", "exclude", "taint", "select"}).Draw(t, "node is") {
	case "exclude":
		n.Label(exclude, rapid.SampledFrom([]string{"", "false"}).Draw(t, "value"))
	case "taint":
		n.Taint(toBeDeleted)
	case "select":
		n.Label("edge", "yes")
	}
	w.Input.Nodes = slices.DeleteFunc(slices.Clone(w.Input.Nodes), func(o *corev1.Node) bool { return o.Name == n.Obj().Name })
	w.Input.Nodes = append(w.Input.Nodes, n.Obj())
}

// drawService makes or changes a Service. Some are from files: without a version.
func (w *world) drawService(t *rapid.T) {
	b := service(rapid.SampledFrom([]string{"web", "dns", "old", "file"}).Draw(t, "service"))
	svc := b.Obj()
	if svc.Namespace = rapid.SampledFrom([]string{"default", "default", "other"}).Draw(t, "namespace"); svc.Namespace != "default" {
		svc.UID = types.UID(svc.Namespace + "-" + string(svc.UID))
	}
	svc.CreationTimestamp = metav1.Unix(rapid.Int64Range(0, 3).Draw(t, "created"), 0)
	if rapid.Bool().Draw(t, "published") {
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	}
	if svc.ResourceVersion = w.next(); svc.Name == "file" {
		svc.ResourceVersion = ""
	}
	for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom([]int32{53, 80, 443}), 1, 3, rapid.ID[int32]).Draw(t, "ports") {
		protocol := rapid.SampledFrom([]corev1.Protocol{tcp, tcp, udp, sctp}).Draw(t, "protocol")
		b.PortOf(protocol, p, rapid.SampledFrom([]int32{0, 30000 + p, 31000 + p}).Draw(t, "nodePort"))
	}
	if rapid.Bool().Draw(t, "local") {
		b.Local(32000)
	}
	if rapid.Bool().Draw(t, "sticky") {
		b.Sticky()
	}
	if rapid.Bool().Draw(t, "restricted") {
		b.Ranges(rapid.SliceOfN(rapid.SampledFrom([]string{"192.0.2.0/24", "::/0", " 10.0.0.0/8", "bad"}), 0, 3).Draw(t, "ranges")...)
	}
	w.Services = slices.DeleteFunc(slices.Clone(w.Services), func(o Service) bool { return o.Object.UID == svc.UID })
	w.Services = append(w.Services, assigned(t, svc))
}

// assigned has its addresses from the pools, whatever the version of the object.
func assigned(t *rapid.T, svc *corev1.Service) Service {
	s := Service{Object: svc, Pods: worldPods()[rapid.IntRange(0, 2).Draw(t, "pods")]}
	addresses := rapid.SampledFrom([][]string{{"192.0.2.1"}, {"192.0.2.2"}, {"2001:db8::1"}, {"192.0.2.1", "2001:db8::1"}, {}})
	for _, a := range addresses.Draw(t, "assigned") {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	if rapid.IntRange(0, 3).Draw(t, "conflict") == 0 {
		s.Withheld = []lb.Listener{{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: lb.TCP}}
	}
	return s
}

func (w *world) drawSlice(t *rapid.T) {
	of := rapid.SampledFrom([]string{"web", "dns", "old"}).Draw(t, "slices of")
	name := of + rapid.SampledFrom([]string{"-a", "-b"}).Draw(t, "slice")
	families := []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	s := slice(name, rapid.SampledFrom(families).Draw(t, "family"))
	s.Obj().ResourceVersion = w.next()
	for _, n := range rapid.SliceOfN(rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"}), 0, 3).Draw(t, "on") {
		s.Endpoint(n, new(rapid.Bool().Draw(t, "ready")), nil, new(rapid.Bool().Draw(t, "terminating")))
	}
	key := types.NamespacedName{Namespace: "default", Name: of}
	others := slices.DeleteFunc(slices.Clone(w.Input.Slices[key]), func(o *discoveryv1.EndpointSlice) bool { return o.Name == name })
	w.Input.Slices[key] = append(others, s.Obj())
}

func (w *world) drawPolicy(t *rapid.T) {
	b := policy(rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "policy")).Age(rapid.IntRange(0, 1).Draw(t, "age"))
	p := b.Obj()
	w.next()
	p.Generation, p.ResourceVersion = int64(w.version), strconv.Itoa(w.version)
	for _, s := range rapid.SliceOfN(rapid.SampledFrom([]string{"web", "dns", "file"}), 1, 2).Draw(t, "targets") {
		b.For(s, rapid.SampledFrom([]string{"", "p80"}).Draw(t, "section"))
	}
	switch rapid.SampledFrom([]string{"algorithm", "idle", "retries", "tls", "interval"}).Draw(t, "sets") {
	case "algorithm":
		b.Algorithm(rapid.SampledFrom([]v1alpha1.Algorithm{v1alpha1.Random, v1alpha1.SourceHash, "Bad"}).Draw(t, "algorithm"))
	case "idle":
		b.Idle(rapid.SampledFrom([]v1alpha1.Duration{"1m", "2m", "bad"}).Draw(t, "idle"))
	case "retries":
		b.Retries(rapid.Int32Range(0, 3).Draw(t, "retries"))
	case "tls":
		b.TLS(rapid.SampledFrom([]string{"a", "b", "none"}).Draw(t, "secret"))
	case "interval":
		b.Set(func(s *v1alpha1.UpstreamSettings) { s.HealthCheck = &v1alpha1.HealthCheck{Interval: "100ms"} })
	}
	w.Input.Policies = slices.DeleteFunc(slices.Clone(w.Input.Policies), func(o *v1alpha1.UpstreamPolicy) bool { return o.Name == p.Name })
	w.Input.Policies = append(w.Input.Policies, p)
}

func (w *world) drawBalancer(t *rapid.T) {
	b := builder.Balancer("edge").Obj()
	w.Balancer = b // from a file: its generation says nothing
	b.Spec.Engine = rapid.SampledFrom([]v1alpha1.Engine{b.Spec.Engine, v1alpha1.EngineHAProxy, v1alpha1.EngineLVS}).Draw(t, "engine")
	b.Spec.Nodes.Backends = rapid.SampledFrom([]v1alpha1.Backends{"", "", v1alpha1.BackendsPods}).Draw(t, "backends")
	b.Spec.Nodes.MaxPerService = rapid.Int32Range(0, 2).Draw(t, "max")
	b.Spec.Nodes.IgnoreExcludeLabel = rapid.Bool().Draw(t, "ignore")
	b.Spec.Nodes.Selector = rapid.SampledFrom([]v1alpha1.LabelSelector{
		{}, {}, {MatchLabels: map[string]v1alpha1.LabelValue{"edge": "yes"}},
		{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "edge", Operator: "Near"}}},
	}).Draw(t, "selector")
	b.Status.NodeSelector = rapid.SampledFrom([]*string{nil, new(""), new("edge=yes")}).Draw(t, "selector in force")
	b.Spec.Defaults.Algorithm = rapid.SampledFrom([]v1alpha1.Algorithm{"", v1alpha1.LeastConnections}).Draw(t, "default")
	if rapid.Bool().Draw(t, "limited") {
		b.Spec.Defaults.MaxConnections = new(rapid.Int32Range(1, 2).Draw(t, "connections"))
	}
}

func (w *world) step(t *rapid.T) {
	steps := rapid.SampledFrom([]string{
		"nothing", "service", "service", "assignment", "service gone", "node", "node gone", "slice", "slice", "policy", "balancer",
	})
	switch steps.Draw(t, "step") {
	case "service":
		w.drawService(t)
	case "assignment":
		i := rapid.IntRange(0, len(w.Services)-1).Draw(t, "of")
		w.Services = slices.Clone(w.Services)
		w.Services[i] = assigned(t, w.Services[i].Object)
	case "service gone":
		w.Services = w.Services[:max(1, len(w.Services)-1)]
	case "node":
		w.drawNode(t)
	case "node gone":
		w.Input.Nodes = w.Input.Nodes[:max(0, len(w.Input.Nodes)-1)]
	case "slice":
		w.drawSlice(t)
	case "policy":
		w.drawPolicy(t)
	case "balancer":
		w.drawBalancer(t)
	}
}

// A Translator that remembers gives what one gives that has seen nothing.
func TestMemoryIsTransparent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, most, checks := newWorld(t), mostOfAll, checksPerMinute
		if rapid.Bool().Draw(t, "tight") {
			most = size{rapid.IntRange(1, 8).Draw(t, "items"), rapid.IntRange(1, 10).Draw(t, "listeners"), rapid.IntRange(100, 2000).Draw(t, "bytes"), math.MaxInt}
		}
		if rapid.Bool().Draw(t, "few checks") {
			checks = rapid.IntRange(1, 500).Draw(t, "checks")
		}
		endpoints := rapid.SampledFrom([]int{lb.MaxAllEndpoints, 10, 20}).Draw(t, "endpoints")
		made := func() *Translator {
			t := within(most)
			t.mostChecks, t.mostEndpoints = checks, endpoints
			return t
		}
		remembers := made()
		var before *lb.Config
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			got := remembers.Translate(w.Input)
			if diff := cmp.Diff(made().Translate(w.Input), got, compare); diff != "" {
				t.Fatalf("(-new +remembers):\n%s", diff)
			}
			wantSamePointers(t, before, got.Config)
			before = got.Config
			w.step(t)
		}
	})
}

// within some bounds of all Services.
func within(most size) *Translator {
	t := New()
	t.most = most
	return t
}

// wantSamePointers checks that what says the same is the same.
func wantSamePointers(t *rapid.T, before, after *lb.Config) {
	if before == nil {
		return
	}
	for _, a := range after.Services {
		for _, b := range before.Services {
			if a != b && cmp.Equal(a, b, compare) {
				t.Fatalf("%s says what it said, and is another pointer", a.ID)
			}
		}
	}
}

// The order in which a cache lists objects means nothing, and they are only read.
func TestOrderIsTransparent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			w.step(t)
		}
		remembers := New()
		want := remembers.Translate(w.Input)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shuffled := w.Input
		shuffled.Services = shuffle(random, w.Services)
		shuffled.Nodes = shuffle(random, w.Input.Nodes)
		shuffled.Policies = shuffle(random, w.Input.Policies)
		shuffled.Slices = map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
		for k, v := range w.Input.Slices {
			shuffled.Slices[k] = shuffle(random, v)
		}
		untouched := fmt.Sprintf("%+v", shuffled)
		if diff := cmp.Diff(want, New().Translate(shuffled), compare); diff != "" {
			t.Fatalf("in another order (-want +got):\n%s", diff)
		}
		if !slices.Equal(want.Config.Services, remembers.Translate(shuffled).Config.Services) {
			t.Fatal("in another order, what is remembers is not found")
		}
		if now := fmt.Sprintf("%+v", shuffled); now != untouched {
			t.Fatalf("the input was %s and is %s", untouched, now)
		}
	})
}

func shuffle[T any](random *rand.Rand, s []T) []T {
	out := slices.Clone(s)
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// Whatever the input, the model keeps what it promises.
func TestModelKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			w.step(t)
		}
		out := New().Translate(w.Input)
		if !slices.IsSortedFunc(out.Config.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) }) {
			t.Fatal("Services are not sorted")
		}
		for _, s := range out.Config.Services {
			if !slices.IsSortedFunc(s.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) }) {
				t.Fatalf("%s: Frontends are not sorted", s.ID)
			}
			wantGoodService(t, out, int(w.Balancer.Spec.Nodes.MaxPerService), s)
		}
		if set, err := new(lb.Encoder).Encode(out.Config); err != nil {
			t.Fatal(err)
		} else {
			wantDecodable(t, set)
		}
	})
}

func wantDecodable(t *rapid.T, set *lb.Set) {
	for item := range set.All() {
		if _, err := lb.Decode(item); err != nil {
			t.Fatal(err)
		}
	}
}

func wantGoodService(t *rapid.T, out Output, limit int, s *lb.Service) {
	for _, ipv4 := range []bool{true, false} {
		f := s.Family(ipv4)
		leaves := func(n lb.Target) bool { return n.Draining } // these keep what they have
		if serving := slices.DeleteFunc(slices.Clone(f.Targets.Nodes), leaves); f.Targets.All && (len(f.Targets.Nodes) > 0 || f.Targets.Limit != limit) || limit > 0 && len(serving) > limit {
			t.Fatalf("%s: targets %+v, at most %d", s.ID, f.Targets, limit)
		}
		for i, n := range f.Targets.Nodes {
			at := slices.IndexFunc(out.Config.Nodes, func(o lb.Node) bool { return o.Name == n.Node && o.Address(ipv4).IsValid() })
			if at < 0 || i > 0 && f.Targets.Nodes[i-1].Node >= n.Node {
				t.Fatalf("%s: the node %s of %+v is not eligible, or not in its place", s.ID, n.Node, f.Targets)
			}
		}
		for _, p := range f.Clients.Sources {
			if f.Clients.Everybody || p != p.Masked() || p.Addr().Is4() != ipv4 {
				t.Fatalf("%s: admits %+v", s.ID, f.Clients)
			}
		}
	}
}
