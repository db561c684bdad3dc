package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// Keys of the index over Services: what a Service says of who serves or holds it.
const (
	indexServices = "external-lb/services"
	keyClass      = "class:"              // and a loadBalancerClass, empty for none
	keyExposed    = "exposed:"            // and the Balancer that a NodePort Service names
	keyHeld       = "held"                // or looks so, or was told something
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
	if record.Marked(svc) || record.Told(svc) {
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
	parsed  *parsedPools
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

// objects are what a reconcile read, from the cache.
type objects struct {
	plan.Objects
	pools []v1alpha1.AddressPool
}

// claims settle who serves what.
func (o objects) claims() plan.Claims {
	return plan.NewClaims(o.Balancers, o.Pools.Accepted, o.Namespaces)
}

// claimants reads what says who serves what: Balancers, pools, labels of namespaces.
func (r reader) claimants(ctx context.Context) (o objects, err error) {
	if o.Balancers, err = r.balancers(ctx); err != nil {
		return o, err
	}
	var pools v1alpha1.AddressPoolList
	if err := r.list(ctx, &pools); err != nil {
		return o, err
	}
	o.pools, o.Pools = pools.Items, r.parsed.pools(pools.Items)
	o.Namespaces, err = r.namespaces(ctx)
	return o, err
}

// complete reads the rest of what the plan of one Balancer depends on, but for
// certificates.
func (r reader) complete(ctx context.Context, b *v1alpha1.Balancer, o *objects) error {
	// The Services that name the Balancer in any way, and those that have addresses
	// which are now of its pools.
	for _, key := range []string{keyClass + plan.Class(b), keyClass, keyExposed + b.Name, keyHeld} {
		services, err := r.services(ctx, key)
		if err != nil {
			return err
		}
		o.Services = append(o.Services, services...)
	}
	var err error
	if o.Slices, err = r.slices(ctx, o.Services); err != nil {
		return err
	}
	if b.Spec.ControlPlane != nil {
		api := translate.ControlPlaneService
		if o.Slices[api], err = r.slicesOf(ctx, api); err != nil {
			return err
		}
	}
	var nodes corev1.NodeList
	if err := r.list(ctx, &nodes); err != nil {
		return err
	}
	o.Nodes = pointers(nodes.Items)
	var policies v1alpha1.UpstreamPolicyList
	if err := r.list(ctx, &policies); err != nil {
		return err
	}
	o.Policies = pointers(policies.Items)
	return nil
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

// slices of the Services for which it matters where their endpoints are.
func (r reader) slices(ctx context.Context, services []*corev1.Service) (map[types.NamespacedName][]*discoveryv1.EndpointSlice, error) {
	out := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for _, svc := range services {
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		if _, read := out[name]; read || svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			continue
		}
		var err error
		if out[name], err = r.slicesOf(ctx, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r reader) slicesOf(ctx context.Context, service types.NamespacedName) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	if err := r.list(ctx, &list, client.InNamespace(service.Namespace), client.MatchingFields{indexSlices: service.Name}); err != nil {
		return nil, err
	}
	return pointers(list.Items), nil
}

// parsedPools remembers what was read from the pools: each event of a held Service
// asks, and pools change rarely.
type parsedPools struct {
	mu   sync.Mutex
	of   []poolVersion
	last plan.Pools
}

// poolVersion changes with everything of a pool that is parsed.
type poolVersion struct {
	uid        types.UID
	generation int64
}

// pools parses every AddressPool, if any is another than last time.
func (p *parsedPools) pools(objects []v1alpha1.AddressPool) plan.Pools {
	versions := make([]poolVersion, len(objects))
	for i := range objects {
		versions[i] = poolVersion{objects[i].UID, objects[i].Generation}
	}
	slices.SortFunc(versions, func(a, b poolVersion) int { return cmp.Compare(a.uid, b.uid) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || !slices.Equal(p.of, versions) {
		p.of, p.last = versions, plan.ParsePools(objects)
	}
	return p.last
}

func pointers[T any](items []T) []*T {
	out := slices.Grow([]*T(nil), len(items))
	for i := range items {
		out = append(out, &items[i])
	}
	return out
}
