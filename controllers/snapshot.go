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
	keyHeld       = "held:"    // and the Balancer on record
	keyAnyHeld    = "held"
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
		keys = append(keys, keyHeld+plan.HeldBy(svc), keyAnyHeld)
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
func (r reader) snapshot(ctx context.Context, b *v1alpha1.Balancer, all []*v1alpha1.Balancer, pools []*ipam.Pool) (*plan.Snapshot, error) {
	s := &plan.Snapshot{
		Balancer:       b,
		Claims:         plan.NewClaims(all),
		KnownBalancers: map[string]bool{},
		Slices:         map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		Namespaces:     map[string]labels.Set{},
	}
	for _, other := range all {
		s.KnownBalancers[other.Name] = true
	}
	for _, p := range pools {
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
	var namespaces corev1.NamespaceList
	if err := r.list(ctx, &namespaces); err != nil {
		return nil, err
	}
	for i := range namespaces.Items {
		s.Namespaces[namespaces.Items[i].Name] = namespaces.Items[i].Labels
	}
	return s, nil
}

// addServices reads the Services that name the Balancer in any way, each once.
func (r reader) addServices(ctx context.Context, s *plan.Snapshot) error {
	seen := map[types.UID]bool{}
	for _, key := range []string{keyClass + plan.Class(s.Balancer), keyClass, keyExposed + s.Balancer.Name, keyHeld + s.Balancer.Name} {
		services, err := r.services(ctx, key)
		if err != nil {
			return err
		}
		for _, svc := range services {
			if !seen[svc.UID] && (plan.HeldBy(svc) == s.Balancer.Name || s.Claims.Of(svc) == s.Balancer) {
				seen[svc.UID] = true
				s.Services = append(s.Services, svc)
			}
		}
	}
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

// pools parses every AddressPool: whether one is good depends on the others.
func (r reader) pools(ctx context.Context) ([]v1alpha1.AddressPool, []*ipam.Pool, map[string]*ipam.Problem, error) {
	var list v1alpha1.AddressPoolList
	if err := r.list(ctx, &list); err != nil {
		return nil, nil, nil, err
	}
	accepted, problems := ipam.ParsePools(list.Items)
	return list.Items, accepted, problems, nil
}

func pointers[T any](items []T) []*T {
	out := slices.Grow([]*T(nil), len(items))
	for i := range items {
		out = append(out, &items[i])
	}
	return out
}
