package page

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

// Objects are what a page is made of, as `status` reads them, and the events that the
// controller wrote. They may be shared with a cache: nothing changes them.
type Objects struct {
	Balancers  []*v1alpha1.Balancer
	Pools      []v1alpha1.AddressPool
	Services   []*corev1.Service
	Nodes      []*corev1.Node
	Slices     []*discoveryv1.EndpointSlice
	Namespaces []*corev1.Namespace
	Policies   []*v1alpha1.UpstreamPolicy
	Events     []*corev1.Event
}

// Item is one thing that is shown.
type Item struct {
	Key  string // kind/name, or kind/namespace/name
	Data []byte // JSON: a Balancer, Pool, Node, Policy, Service, ServiceTraffic or HostTraffic
}

// What one item has at most, so that no message to a page is large.
const (
	maxText    = 700 // bytes of a text that somebody wrote
	maxWord    = 100 // bytes of a reason, or of a condition's type
	maxStory   = 30  // conditions and events of one object, the newest
	maxListed  = 100 // ports, nodes, addresses
	mapBlocks  = 256 // of a pool and family
	maxSummary = 8   // problems of one object
)

// Of makes the items, sorted by key. An error is a fault of this program.
func Of(o Objects) ([]Item, error) {
	p := newPainter(o)
	values := map[string]any{}
	for _, b := range o.Balancers {
		planned, err := p.plan(b)
		if err != nil {
			return nil, err
		}
		p.carry(b, planned)
		values["balancer/"+b.Name] = p.balancer(b)
	}
	for _, svc := range o.Services {
		if of := p.balancersOf(svc); len(of) > 0 {
			values["service/"+svc.Namespace+"/"+svc.Name] = p.service(svc, of)
		}
	}
	for i := range o.Pools {
		values["pool/"+o.Pools[i].Name] = p.pool(&o.Pools[i])
	}
	for _, policy := range o.Policies {
		values["policy/"+policy.Namespace+"/"+policy.Name] = policyItem(policy)
	}
	for _, n := range o.Nodes {
		values["node/"+n.Name] = p.node(n)
	}
	return itemsOf(values)
}

// itemsOf values by key.
func itemsOf(values map[string]any) ([]Item, error) {
	out := make([]Item, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		data, err := json.Marshal(values[key])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, Item{key, data})
	}
	return out, nil
}

// painter has what several items are made of.
type painter struct {
	Objects
	pools    plan.Pools
	claims   plan.Claims
	labels   map[string]labels.Set
	slices   map[types.NamespacedName][]*discoveryv1.EndpointSlice
	events   map[types.UID][]*corev1.Event
	targeted map[types.NamespacedName][]*v1alpha1.UpstreamPolicy // by Service
	targets  map[types.UID]targets
	eligible map[string][]string // Balancers, by node
	draining map[string][]string // those of them for which it drains
	used     usedAddresses
}

func newPainter(o Objects) *painter {
	p := &painter{
		Objects: o, pools: plan.ParsePools(o.Pools), labels: map[string]labels.Set{},
		slices:  map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		events:  map[types.UID][]*corev1.Event{},
		targets: map[types.UID]targets{}, eligible: map[string][]string{}, draining: map[string][]string{}, targeted: byTarget(o.Policies),
	}
	for _, n := range o.Namespaces {
		p.labels[n.Name] = n.Labels
	}
	for _, s := range o.Slices {
		key := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		p.slices[key] = append(p.slices[key], s)
	}
	for _, e := range o.Events {
		p.events[e.InvolvedObject.UID] = append(p.events[e.InvolvedObject.UID], e)
	}
	p.claims = plan.NewClaims(o.Balancers, p.pools.Accepted, p.labels)
	p.used = newUsedAddresses(o.Services)
	return p
}

// plan says which nodes may carry what. Policies do not: without them no certificate is
// missed, which would need Secrets.
func (p *painter) plan(b *v1alpha1.Balancer) (*plan.Plan, error) {
	snapshot := plan.NewSnapshot(b, plan.Objects{
		Balancers: p.Balancers, Pools: p.pools, Services: p.Services, Nodes: p.Nodes, Slices: p.slices, Namespaces: p.labels,
	})
	return plan.NewPlanner(b.Spec.Engine).Plan(snapshot, plan.Assign(snapshot))
}

// targets are the nodes to which the hosts send what is for a Service.
type targets struct {
	all      bool
	names    []string
	draining []string // those of names that keep what they have, and get nothing new
	pods     bool     // none: pods get it
}

// carry remembers which nodes a Balancer's plan names.
func (p *painter) carry(b *v1alpha1.Balancer, planned *plan.Plan) {
	for _, n := range planned.Nodes {
		p.eligible[n.Name] = append(p.eligible[n.Name], b.Name)
		if n.Draining {
			p.draining[n.Name] = append(p.draining[n.Name], b.Name)
		}
	}
	for _, svc := range planned.Services {
		t := p.targets[svc.Object.UID]
		t.pods = t.pods || svc.Pods
		for _, family := range svc.Targets {
			t.all = t.all || family.All
			for _, n := range family.Nodes {
				t.names = append(t.names, n.Node)
				if n.Draining {
					t.draining = append(t.draining, n.Node)
				}
			}
		}
		for _, list := range []*[]string{&t.names, &t.draining} {
			slices.Sort(*list)
			*list = slices.Compact(*list)
		}
		p.targets[svc.Object.UID] = t
	}
}

// balancersOf a Service: those on whose hosts it may be live, or the one that serves it.
func (p *painter) balancersOf(svc *corev1.Service) []string {
	of := slices.Clone(record.Holders(svc))
	if b := p.claims.Of(svc); b != nil && !slices.Contains(of, b.Name) {
		of = append(of, b.Name)
	}
	return of
}
