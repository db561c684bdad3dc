package cli

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// objects are what plans depend on, of files or of a cluster.
type objects struct {
	balancers  []*v1alpha1.Balancer
	pools      []v1alpha1.AddressPool
	policies   []*v1alpha1.UpstreamPolicy
	services   []*corev1.Service
	nodes      []*corev1.Node
	slices     map[types.NamespacedName][]*discoveryv1.EndpointSlice
	pods       map[types.NamespacedName]*translate.Pod // where a Balancer sends to them
	podsUnread string                                  // why they could not be read
	namespaces map[string]labels.Set
	cluster    string // whose they are: the UID of its namespace kube-system
	// certificates of Secrets.
	certificates translate.Certificates
	// assumed says, by Service, which of its nodePorts no manifest has.
	assumed map[string]string
	health  bool // what hosts say of nodes is wanted, too
}

func newObjects() *objects {
	return &objects{
		slices:       map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		pods:         map[types.NamespacedName]*translate.Pod{},
		namespaces:   map[string]labels.Set{},
		certificates: translate.Certificates{},
	}
}

// add takes an object, if plans depend on its kind.
func (o *objects) add(obj runtime.Object) {
	switch x := obj.(type) {
	case *v1alpha1.Balancer:
		o.balancers = append(o.balancers, x)
	case *v1alpha1.AddressPool:
		o.pools = append(o.pools, *x)
	case *v1alpha1.UpstreamPolicy:
		o.policies = append(o.policies, x)
	case *corev1.Service:
		o.services = append(o.services, x)
	case *corev1.Node:
		o.nodes = append(o.nodes, x)
	case *discoveryv1.EndpointSlice:
		key := types.NamespacedName{Namespace: x.Namespace, Name: x.Labels[discoveryv1.LabelServiceName]}
		o.slices[key] = append(o.slices[key], x)
	case *corev1.Pod:
		o.pods[types.NamespacedName{Namespace: x.Namespace, Name: x.Name}] = translate.ReadPod(x)
	case *corev1.Namespace:
		o.namespaces[x.Name] = x.Labels
		if x.Name == metav1.NamespaceSystem {
			o.cluster = string(x.UID)
		}
	case *corev1.Secret:
		o.certificates[types.NamespacedName{Namespace: x.Namespace, Name: x.Name}] = translate.ReadCertificate(x)
	}
}

// balancer by name, or the only one if the name is empty.
func (o *objects) balancer(name string) (*v1alpha1.Balancer, error) {
	var names []string
	for _, b := range o.balancers {
		if b.Name == name || name == "" && len(o.balancers) == 1 {
			return b, nil
		}
		names = append(names, b.Name)
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return nil, errors.New("there is no Balancer")
	case name == "":
		return nil, fmt.Errorf("there are several Balancers; name one of %q", names)
	default:
		return nil, fmt.Errorf("there is no Balancer %q, only %q", name, names)
	}
}

// planned is what the controller would plan, once it had everything on record.
type planned struct {
	*plan.Plan
	balancer *v1alpha1.Balancer
	pools    map[string]*ipam.Problem // by name, of every Balancer
}

// plan for a Balancer.
func (o *objects) plan(b *v1alpha1.Balancer) (*planned, error) {
	in := o.planning()
	p, err := plan.Expect(b, in)
	if err != nil {
		return nil, err
	}
	return &planned{Plan: p, balancer: b, pools: in.Pools.Problems}, nil
}

// planning is what plans are made of.
func (o *objects) planning() plan.Objects {
	return plan.Objects{
		Balancers: o.balancers, Pools: plan.ParsePools(o.pools), Services: o.services, Nodes: o.nodes, Slices: o.slices,
		Endpoints: o.endpoints(), PodsUnread: o.podsUnread,
		Namespaces: o.namespaces, Policies: o.policies, Certificates: o.certificates,
	}
}

// toPods reports whether a Balancer sends to pods.
func (o *objects) toPods() bool {
	return slices.ContainsFunc(o.balancers, func(b *v1alpha1.Balancer) bool { return b.Spec.ToPods() })
}

// endpoints of all Services that are pods.
func (o *objects) endpoints() map[types.NamespacedName]*translate.Endpoints {
	if !o.toPods() {
		return nil
	}
	out := map[types.NamespacedName]*translate.Endpoints{}
	for _, svc := range o.services {
		key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		out[key] = translate.ReadEndpoints(svc.Spec.Ports, o.slices[key], func(name string) *translate.Pod {
			return o.pods[types.NamespacedName{Namespace: key.Namespace, Name: name}]
		})
	}
	return out
}

// claims settle who serves what.
func (o *objects) claims() plan.Claims {
	return plan.NewClaims(o.balancers, plan.ParsePools(o.pools).Accepted, o.namespaces)
}

// servicesOf a Balancer: those that it serves or holds.
func (o *objects) servicesOf(b *v1alpha1.Balancer, claims plan.Claims) []*corev1.Service {
	var out []*corev1.Service
	for _, svc := range o.services {
		if claims.Of(svc) == b || slices.Contains(record.Holders(svc), b.Name) {
			out = append(out, svc)
		}
	}
	return out
}
