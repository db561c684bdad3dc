package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// history is a cluster in which everything changes at random, and three Balancers that
// look at it, each with a Planner that remembers. No object is changed once it was seen.
type history struct {
	*rapid.T
	version  int
	o        Objects
	pools    []v1alpha1.AddressPool
	services map[string]*corev1.Service
	planners map[string]*Planner
	looked   map[string]map[string]*corev1.Service // what each saw last
}

// What is worked out of what changed is what would be worked out of all.
func TestPlansFollowChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			for range rapid.IntRange(0, 3).Draw(rt, "changes") {
				h.change()
			}
			for _, b := range h.o.Balancers {
				if rapid.IntRange(0, 3).Draw(rt, "looks") > 0 {
					h.look(b)
				}
			}
		}
	})
}

func newHistory(t *rapid.T) *history {
	h := &history{T: t, services: map[string]*corev1.Service{}, planners: map[string]*Planner{}, looked: map[string]map[string]*corev1.Service{}}
	h.o.Namespaces = map[string]labels.Set{"default": {}}
	edge := builder.Balancer("edge").Age(9).With(withVRRP).Obj()
	next := builder.Balancer("next").Age(1).With(sharesClass, withVRRP).Obj()
	h.o.Balancers = []*v1alpha1.Balancer{edge, next, builder.Balancer("other").Age(5).Hosts(v1alpha1.Host{Name: "lb9"}).With(isDefault).Obj()}
	for _, b := range h.o.Balancers {
		h.planners[b.Name] = NewPlanner(b.Spec.Engine)
	}
	h.o.Nodes = []*corev1.Node{builder.Node("n1").IP("10.0.0.1").Obj()}
	h.setPools(
		*builder.AddressPool("public", "192.0.2.0/30").Shared().Balancer("edge").Obj(),
		*builder.AddressPool("more", "198.51.100.0/31", "2001:db8::/127").Balancer("edge").Obj(),
		*builder.AddressPool("others", "203.0.113.0/30").Balancer("other").Obj())
	return h
}

func (h *history) setPools(pools ...v1alpha1.AddressPool) {
	h.pools, h.o.Pools = pools, ParsePools(pools)
}

func (h *history) pick(of ...string) string { return rapid.SampledFrom(of).Draw(h.T, "pick") }

func (h *history) odds(of int) bool { return rapid.IntRange(1, of).Draw(h.T, "odds") == 1 }

// put a new version of a Service.
func (h *history) put(svc *corev1.Service) {
	h.version++
	svc.ResourceVersion = strconv.Itoa(h.version)
	h.services[svc.Name] = svc
}

func (h *history) change() {
	names := slices.Sorted(maps.Keys(h.services))
	if len(names) == 0 || len(names) < 8 && h.odds(2) {
		h.create()
		return
	}
	svc := h.services[h.pick(names...)].DeepCopy()
	switch h.pick("spec", "spec", "delete", "forget", "forge", "pools", "nodes", "policies", "balancers", "namespaces", "slices", "unheard") {
	case "spec":
		h.respecify(svc)
		h.put(svc)
	case "delete":
		svc.DeletionTimestamp = ptr.To(metav1.Now())
		h.put(svc)
	case "forget":
		if svc.DeletionTimestamp != nil {
			delete(h.services, svc.Name)
		}
	case "forge":
		forged("edge", "192.0.2.1")(svc)
		h.put(svc)
	case "pools":
		h.changePools()
	case "nodes":
		h.changeNodes()
	case "policies":
		h.changePolicies(svc.Name)
	case "balancers":
		h.changeBalancers()
	case "unheard":
		h.o.Unheard = h.pick("", "", "UpstreamPolicies", "AddressPools")
	case "namespaces":
		h.o.Namespaces = map[string]labels.Set{"default": {"tier": h.pick("gold", "")}}
	case "slices":
		h.version++
		s := builder.EndpointSlice("default", svc.Name, discoveryv1.AddressTypeIPv4).Ready(h.pick("n1", "n2")).Obj()
		s.ResourceVersion = strconv.Itoa(h.version)
		h.o.Slices = maps.Clone(h.o.Slices)
		if h.o.Slices == nil {
			h.o.Slices = map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
		}
		h.o.Slices[types.NamespacedName{Namespace: "default", Name: svc.Name}] = []*discoveryv1.EndpointSlice{s}
	}
}

func (h *history) create() {
	h.version++
	svc := service(fmt.Sprintf("s%d", h.version))
	svc.CreationTimestamp = metav1.NewTime(time.Unix(int64(rapid.IntRange(0, 3).Draw(h.T, "age")), 0))
	h.respecify(svc)
	h.put(svc)
}

func (h *history) respecify(svc *corev1.Service) {
	svc.Spec.Type, svc.Annotations = corev1.ServiceTypeLoadBalancer, nil
	switch class := h.pick("edge", "edge", "edge", "other", "nobody", "", "exposed"); class {
	case "":
		svc.Spec.LoadBalancerClass = nil
	case "exposed":
		exposedAt("")(svc)
	default:
		svc.Spec.LoadBalancerClass = ptr.To("external-lb.dev/" + class)
	}
	svc.Spec.IPFamilies = slices.Clone([][]corev1.IPFamily{{corev1.IPv4Protocol}, {corev1.IPv4Protocol, corev1.IPv6Protocol}}[rapid.IntRange(0, 1).Draw(h.T, "families")])
	svc.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: rapid.Int32Range(80, 82).Draw(h.T, "port"), NodePort: 30080, Protocol: corev1.ProtocolTCP}}
	svc.Spec.Ports[0].Protocol = rapid.SampledFrom([]corev1.Protocol{"TCP", "TCP", "UDP"}).Draw(h.T, "protocol")
	svc.Spec.ExternalTrafficPolicy = rapid.SampledFrom([]corev1.ServiceExternalTrafficPolicy{"Cluster", "Local"}).Draw(h.T, "policy")
	if h.odds(4) {
		metav1.SetMetaDataAnnotation(&svc.ObjectMeta, v1alpha1.AddressesAnnotation, h.pick("192.0.2.1", "192.0.2.2", "198.51.100.0", "x"))
	}
}

func (h *history) changePools() {
	pools := slices.Clone(h.pools)
	p := pools[rapid.IntRange(0, len(pools)-1).Draw(h.T, "pool")].DeepCopy()
	switch h.pick("move", "keep", "select", "shrink", "overlap") {
	case "move":
		p.Spec.Balancer = h.pick("edge", "next", "other")
	case "keep":
		p.Spec.KeepOn = []string{h.pick("edge", "nobody")}
	case "select":
		p.Spec.NamespaceSelector = v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "gold"}}
	case "shrink":
		p.Spec.Addresses = []v1alpha1.AddressRange{p.Spec.Addresses[0], "192.0.2.128"}
	case "overlap":
		p.Spec.Addresses = []v1alpha1.AddressRange{"192.0.2.0/31"}
	}
	i := slices.IndexFunc(pools, func(o v1alpha1.AddressPool) bool { return o.Name == p.Name })
	pools[i] = *p
	h.setPools(pools...)
}

func (h *history) changeNodes() {
	h.version++
	n := builder.Node(h.pick("n1", "n2")).IP(h.pick("10.0.0.1", "10.0.0.2", "fd00::1")).Obj()
	n.ResourceVersion = strconv.Itoa(h.version)
	h.o.Nodes = slices.DeleteFunc(slices.Clone(h.o.Nodes), func(o *corev1.Node) bool { return o.Name == n.Name })
	if !h.odds(4) {
		h.o.Nodes = append(h.o.Nodes, n)
	}
}

func (h *history) changePolicies(service string) {
	h.version++
	p := builder.UpstreamPolicy("default", "p"+h.pick("1", "2")).For(service).Retries(rapid.Int32Range(1, 3).Draw(h.T, "retries")).Obj()
	p.ResourceVersion, p.Generation = strconv.Itoa(h.version), int64(h.version)
	h.o.Policies = slices.DeleteFunc(slices.Clone(h.o.Policies), func(o *v1alpha1.UpstreamPolicy) bool { return o.Name == p.Name })
	if !h.odds(4) {
		h.o.Policies = append(h.o.Policies, p)
	}
}

func (h *history) changeBalancers() {
	i := rapid.IntRange(0, len(h.o.Balancers)-1).Draw(h.T, "balancer")
	b := h.o.Balancers[i].DeepCopy()
	switch h.pick("status", "class", "limit", "deleted") {
	case "status":
		b.Status.HostsInSync = strconv.Itoa(h.version)
	case "class":
		b.Spec.LoadBalancerClass = h.pick("", "external-lb.dev/edge")
		b.Generation++
	case "limit":
		b.Spec.Nodes.MaxPerService = rapid.Int32Range(0, 2).Draw(h.T, "limit")
		b.Generation++
	case "deleted":
		if h.odds(3) {
			b.DeletionTimestamp = ptr.To(metav1.Now())
		}
	}
	h.o.Balancers = slices.Clone(h.o.Balancers)
	h.o.Balancers[i] = b
}

// look is one reconcile of a Balancer, which may end early, beside one that knows nothing.
func (h *history) look(b *v1alpha1.Balancer) {
	o := h.o
	o.Services = slices.Collect(maps.Values(h.services)) // in any order
	o.Services = append(o.Services, o.Services[:len(o.Services)/2]...)
	fresh := NewSnapshot(b, o)
	known, unknown := h.planners[b.Name], NewPlanner(b.Spec.Engine)
	if known.Follows(b, o) && !h.odds(4) {
		h.partial(b.Name, &o)
	}
	h.looked[b.Name] = maps.Clone(h.services)
	s := NewSnapshot(b, o)
	a, want := known.Assign(s), unknown.Assign(fresh)
	h.same(b.Name+" assigns", a.says(), want.says())
	if !h.odds(5) {
		for _, i := range a.Unrecorded {
			h.put(a.Record(a.Carried[i]).Write(a.Carried[i]))
			a.Carried[i], want.Carried[i] = h.services[a.Carried[i].Name], h.services[a.Carried[i].Name]
		}
	}
	got, err := known.Plan(s, a)
	all, err2 := unknown.Plan(fresh, want)
	if err != nil || err2 != nil {
		h.Fatal(err, err2)
	}
	h.same(b.Name+" plans", says(got), says(all))
	h.publish(b, a, got)
}

// partial leaves of Objects what a Balancer has not seen yet, and some of the rest.
func (h *history) partial(balancer string, o *Objects) {
	o.Partial = true
	seen := h.looked[balancer]
	o.Services = slices.DeleteFunc(slices.Clone(o.Services), func(svc *corev1.Service) bool { return seen[svc.Name] == svc && !h.odds(3) })
	for name, svc := range seen {
		if now := h.services[name]; now == nil || now.UID != svc.UID {
			o.Gone = append(o.Gone, svc.UID)
		}
	}
}

func (h *history) publish(b *v1alpha1.Balancer, a *Assignments, p *Plan) {
	for _, svc := range p.Services {
		if svc.Shape == "" || h.odds(3) {
			continue
		}
		now := svc.Object.DeepCopy()
		if r := a.Record(svc.Object); svc.From != "" && svc.Retained == "" {
			r.Carrier = b.Name
			now = r.Write(now)
		}
		now.Status.LoadBalancer.Ingress = nil
		for _, address := range svc.Addresses {
			published(address.String())(now)
		}
		h.put(now)
	}
	for _, svc := range a.Leaving {
		if left := a.Without(svc); left != nil {
			h.put(left.Write(svc))
		} else {
			now := svc.DeepCopy()
			now.Finalizers, now.Annotations, now.Status = nil, nil, corev1.ServiceStatus{}
			h.put(now)
		}
	}
}

func (h *history) same(what string, got, want any) {
	if reflect.DeepEqual(got, want) {
		return
	}
	diff := gocmp.Diff(want, got, cmpopts.EquateEmpty(), gocmp.AllowUnexported(lb.Set{}), gocmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
	if diff != "" {
		h.Fatalf("%s something else (-of all +of changes):\n%s", what, diff)
	}
}

// says is what Assignments say, in words that can be compared.
func (a *Assignments) says() map[string]any {
	roles := map[string]string{}
	for what, list := range map[string][]*corev1.Service{"carried": a.Carried, "leaving": a.Leaving, "waiting": a.Waiting, "elsewhere": a.Elsewhere} {
		for _, svc := range list {
			roles[svc.Name+" "+svc.ResourceVersion] = what
		}
	}
	return map[string]any{"roles": roles, "assigned": maps.Clone(a.ByService), "usage": a.Usage, "unrecorded": a.Unrecorded}
}

// says is what a Plan says.
func says(p *Plan) map[string]any {
	services := map[string]any{}
	for _, svc := range p.Services {
		view := *svc
		view.Object, view.Since = nil, 0
		services[svc.Object.Name+" "+svc.Object.ResourceVersion] = view
	}
	sets := map[string]lb.Digest{"": p.Set.Digest()}
	for host, set := range p.Sets {
		sets[host] = set.Digest()
	}
	elsewhere := slices.SortedFunc(slices.Values(p.Elsewhere), func(a, b *corev1.Service) int { return cmp.Compare(a.Name, b.Name) })
	return map[string]any{
		"services": services, "sets": sets, "nodes": p.Nodes, "problem": p.NodesProblem, "unsupported": p.Unsupported,
		"elsewhere": elsewhere, "notes": p.PoolNotes,
	}
}
