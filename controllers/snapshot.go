package controllers

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
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

// reader reads from the cache without copying: nothing that it returns may be changed, and
// an object that has not changed is the same pointer.
type reader struct {
	client.Reader
	stores
	written *written
	watches *watches // nil: it is told of everything
	parsed  *parsedPools
	pods    *pods
}

// stores are what the cache keeps of the kinds of which there are many.
type stores struct{ services, slices, nodes, namespaces, policies toolscache.Indexer }

// newReader makes the cache index what snapshots ask for.
func newReader(ctx context.Context, c cache.Informers, from client.Reader, w *written) (r reader, err error) {
	r = reader{Reader: from, written: w, parsed: &parsedPools{}, pods: &pods{}}
	for _, kind := range []struct {
		of    client.Object
		store *toolscache.Indexer
		by    toolscache.Indexers
	}{
		{&corev1.Service{}, &r.stores.services, toolscache.Indexers{indexServices: indexBy(serviceKeys)}},
		{&discoveryv1.EndpointSlice{}, &r.stores.slices, toolscache.Indexers{indexSlices: indexBy(serviceOf)}},
		{&corev1.Node{}, &r.nodes, nil},
		{&corev1.Namespace{}, &r.stores.namespaces, nil},
		{&v1alpha1.UpstreamPolicy{}, &r.policies, nil},
	} {
		informer, err := c.GetInformer(ctx, kind.of, cache.BlockUntilSynced(false))
		if err != nil {
			return r, fmt.Errorf("reading the cache: %w", err)
		}
		shared := informer.(toolscache.SharedIndexInformer)
		if err := shared.AddIndexers(kind.by); err != nil {
			return r, fmt.Errorf("indexing %T: %w", kind.of, err)
		}
		*kind.store = shared.GetIndexer()
	}
	// Who may not read these is not ready, and must not lead.
	for _, few := range []client.Object{&v1alpha1.Balancer{}, &v1alpha1.AddressPool{}, &corev1.Secret{}} {
		if _, err := c.GetInformer(ctx, few, cache.BlockUntilSynced(false)); err != nil {
			return r, fmt.Errorf("reading the cache: %w", err)
		}
	}
	return r, nil
}

func indexBy[T any](keys func(T) []string) toolscache.IndexFunc {
	return func(obj any) ([]string, error) { return keys(obj.(T)), nil }
}

// serviceOf names the Service of an EndpointSlice.
func serviceOf(s *discoveryv1.EndpointSlice) []string {
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}
}

// sorted are all objects of a store, by name.
func sorted[T client.Object](store toolscache.Indexer) []T {
	all := of[T](store.List())
	slices.SortFunc(all, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return all
}

func of[T any](objects []any) []T {
	out := make([]T, len(objects))
	for i, obj := range objects {
		out[i] = obj.(T)
	}
	return out
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

// servicesOf an index's key.
func (r reader) servicesOf(key string) ([]*corev1.Service, error) {
	found, err := r.stores.services.ByIndex(indexServices, key)
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	services := of[*corev1.Service](found)
	r.written.replace(services)
	return services, nil
}

// objects are what a reconcile read, from the cache.
type objects struct {
	plan.Objects
	pools []v1alpha1.AddressPool
}

// claimants reads what says who serves what: Balancers, pools and, where these select some,
// labels of namespaces.
func (r reader) claimants(ctx context.Context) (o objects, err error) {
	if r.watches != nil {
		o.Unheard = r.watches.unheard()
	}
	if o.Balancers, err = r.balancers(ctx); err != nil {
		return o, err
	}
	var pools v1alpha1.AddressPoolList
	if err := r.list(ctx, &pools); err != nil {
		return o, err
	}
	r.written.only(o.Balancers, pools.Items)
	for i, b := range o.Balancers {
		o.Balancers[i] = newestStatus(r.written, b)
	}
	for i := range pools.Items {
		pools.Items[i] = *newestStatus(r.written, &pools.Items[i])
	}
	o.pools, o.Pools = pools.Items, r.parsed.pools(pools.Items)
	if slices.ContainsFunc(o.Pools.Accepted, (*ipam.Pool).SelectsNamespaces) {
		o.Namespaces = map[string]labels.Set{}
		for _, ns := range of[*corev1.Namespace](r.stores.namespaces.List()) {
			o.Namespaces[ns.Name] = ns.Labels
		}
	}
	return o, nil
}

// all reads the Services that name a Balancer in any way, and those that have addresses
// which are now of its pools.
func (r reader) all(b *v1alpha1.Balancer, o *objects) error {
	for _, key := range []string{keyClass + plan.Class(b), keyClass, keyExposed + b.Name, keyHeld} {
		services, err := r.servicesOf(key)
		if err != nil {
			return err
		}
		o.Services = append(o.Services, services...)
	}
	return nil
}

// changed reads some Services.
func (r reader) changed(came map[types.UID]types.NamespacedName, o *objects) error {
	for uid, name := range came {
		obj, found, err := r.stores.services.GetByKey(name.String())
		if err != nil {
			return fmt.Errorf("reading the cache: %w", err)
		}
		svc, _ := obj.(*corev1.Service)
		if !found || svc.UID != uid {
			r.written.forget(uid)
			o.Gone = append(o.Gone, uid)
		}
		if found {
			o.Services = append(o.Services, r.written.newest(svc))
		}
	}
	return nil
}

// rest reads what else the plan of one Balancer depends on, but for certificates.
func (r reader) rest(b *v1alpha1.Balancer, o *objects) (err error) {
	if b.Spec.ControlPlane != nil {
		api := translate.ControlPlaneService
		o.Slices = maps.Clone(o.Slices)
		if o.Slices[api], err = r.slicesOfOne(api); err != nil {
			return err
		}
	}
	o.Nodes, o.Policies = sorted[*corev1.Node](r.nodes), sorted[*v1alpha1.UpstreamPolicy](r.policies)
	return nil
}

// slicesOf the Services for which it matters where their endpoints are.
func (r reader) slicesOf(services []*corev1.Service) (map[types.NamespacedName][]*discoveryv1.EndpointSlice, error) {
	out := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for _, svc := range services {
		if svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
			continue
		}
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		if _, read := out[name]; read {
			continue
		}
		var err error
		if out[name], err = r.slicesOfOne(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r reader) slicesOfOne(service types.NamespacedName) ([]*discoveryv1.EndpointSlice, error) {
	found, err := r.stores.slices.ByIndex(indexSlices, service.String())
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	return of[*discoveryv1.EndpointSlice](found), nil
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
