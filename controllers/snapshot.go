package controllers

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
)

// Keys of the index over Services: what a Service says of who serves or holds it.
const (
	indexServices = "external-lb/services"
	keyClass      = "class:"   // and a loadBalancerClass, empty for none
	keyExposed    = "exposed:" // and the Balancer that a NodePort Service names
	keyHeld       = "held"
	indexSlices   = "external-lb/service" // namespace/name of an EndpointSlice's Service
)

// serviceKeys indexes a Service.
func serviceKeys(svc *corev1.Service) []string {
	var keys []string
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		class := ""
		if svc.Spec.LoadBalancerClass != nil {
			class = *svc.Spec.LoadBalancerClass
		}
		keys = append(keys, keyClass+class)
	case corev1.ServiceTypeNodePort:
		if b := svc.Annotations[v1alpha1.BalancerAnnotation]; b != "" {
			keys = append(keys, keyExposed+b)
		}
	}
	if plan.Held(svc) {
		keys = append(keys, keyHeld)
	}
	return keys
}

// indexFields makes the cache index what snapshots ask for.
func indexFields(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &corev1.Service{}, indexServices, func(obj client.Object) []string {
		return serviceKeys(obj.(*corev1.Service))
	})
	if err != nil {
		return err
	}
	return indexer.IndexField(ctx, &discoveryv1.EndpointSlice{}, indexSlices, func(obj client.Object) []string {
		return []string{obj.GetLabels()[discoveryv1.LabelServiceName]}
	})
}

// reader reads from the cache without copying: nothing that it returns may be changed.
type reader struct {
	client.Reader
	written *written
}

func (r reader) list(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := r.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("reading the cache: %w", err)
	}
	return nil
}

func (r reader) balancers(ctx context.Context) ([]*v1alpha1.Balancer, error) {
	var list v1alpha1.BalancerList
	if err := r.list(ctx, &list); err != nil {
		return nil, err
	}
	return pointers(list.Items), nil
}

func (r reader) services(ctx context.Context, key string) ([]*corev1.Service, error) {
	var list corev1.ServiceList
	if err := r.list(ctx, &list, client.MatchingFields{indexServices: key}); err != nil {
		return nil, err
	}
	services := pointers(list.Items)
	for i, svc := range services {
		services[i] = r.written.newest(svc)
	}
	return services, nil
}

// snapshot reads what the plan of one Balancer depends on, but for certificates.
func (r reader) snapshot(ctx context.Context, b *v1alpha1.Balancer, all []*v1alpha1.Balancer, pools poolSet) (*plan.Snapshot, error) {
	s := &plan.Snapshot{
		Balancer:       b,
		Rejected:       pools.rejected,
		KnownBalancers: map[string]bool{},
		Slices:         map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
	}
	var err error
	if s.Namespaces, err = r.namespaces(ctx); err != nil {
		return nil, err
	}
	s.Claims = plan.NewClaims(all, pools.accepted, s.Namespaces)
	for _, other := range all {
		s.KnownBalancers[other.Name] = true
	}
	for _, p := range pools.accepted {
		if p.Balancer == b.Name {
			s.Pools = append(s.Pools, p)
		}
	}
	if err := r.addServices(ctx, s); err != nil {
		return nil, err
	}
	if err := r.addSlices(ctx, s); err != nil {
		return nil, err
	}
	var nodes corev1.NodeList
	if err := r.list(ctx, &nodes); err != nil {
		return nil, err
	}
	s.Nodes = pointers(nodes.Items)
	var policies v1alpha1.UpstreamPolicyList
	if err := r.list(ctx, &policies); err != nil {
		return nil, err
	}
	s.Policies = pointers(policies.Items)
	return s, nil
}

// namespaces are the labels of each.
func (r reader) namespaces(ctx context.Context) (map[string]labels.Set, error) {
	var list corev1.NamespaceList
	if err := r.list(ctx, &list); err != nil {
		return nil, err
	}
	out := make(map[string]labels.Set, len(list.Items))
	for i := range list.Items {
		out[list.Items[i].Name] = list.Items[i].Labels
	}
	return out, nil
}

// claims settles who serves what, as snapshot does.
func (r reader) claims(ctx context.Context, all []*v1alpha1.Balancer) (plan.Claims, error) {
	pools, err := r.pools(ctx)
	if err != nil {
		return plan.Claims{}, err
	}
	namespaces, err := r.namespaces(ctx)
	return plan.NewClaims(all, pools.accepted, namespaces), err
}

// addServices reads the Services that name the Balancer in any way, and those
// that have addresses which are now of its pools, each once.
func (r reader) addServices(ctx context.Context, s *plan.Snapshot) error {
	var all []*corev1.Service
	for _, key := range []string{keyClass + plan.Class(s.Balancer), keyClass, keyExposed + s.Balancer.Name, keyHeld} {
		services, err := r.services(ctx, key)
		if err != nil {
			return err
		}
		all = append(all, services...)
	}
	s.Add(all)
	return nil
}

// addSlices reads the endpoints of the Services for which it matters where they are.
func (r reader) addSlices(ctx context.Context, s *plan.Snapshot) error {
	for _, svc := range s.Services {
		if svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			continue
		}
		var slices discoveryv1.EndpointSliceList
		err := r.list(ctx, &slices, client.InNamespace(svc.Namespace), client.MatchingFields{indexSlices: svc.Name})
		if err != nil {
			return err
		}
		s.Slices[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = pointers(slices.Items)
	}
	return nil
}

// poolSet is every AddressPool, and what was read from them.
type poolSet struct {
	objects            []v1alpha1.AddressPool
	accepted, rejected []*ipam.Pool
	problems           map[string]*ipam.Problem
}

// pools parses every AddressPool: whether one is good depends on the others.
func (r reader) pools(ctx context.Context) (poolSet, error) {
	var list v1alpha1.AddressPoolList
	if err := r.list(ctx, &list); err != nil {
		return poolSet{}, err
	}
	accepted, rejected, problems := ipam.ParsePools(list.Items)
	return poolSet{list.Items, accepted, rejected, problems}, nil
}

func pointers[T any](items []T) []*T {
	out := slices.Grow([]*T(nil), len(items))
	for i := range items {
		out = append(out, &items[i])
	}
	return out
}
