package controllers

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// A change is looked at soon after quiet times, and in a storm of changes together
// with the others: each look costs something for every Service.
const (
	soon  = 10 * time.Millisecond
	batch = 200 * time.Millisecond
)

// pace says how long a change may wait for others.
type pace struct {
	causes *causes // nil: nobody asks for them

	mu   sync.Mutex
	last map[string]time.Time // when a key was last looked at
}

func newPace() *pace { return &pace{last: map[string]time.Time{}} }

// looked notes that a key was looked at. Those for which nothing waits any more are
// forgotten: Services name Balancers that there are not.
func (p *pace) looked(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.last, func(_ string, at time.Time) bool { return time.Since(at) > batch })
	p.last[name] = time.Now()
}

// wait is how long a change for a key waits from now on.
func (p *pace) wait(name string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(soon, batch-time.Since(p.last[name]))
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// watch makes a handler that enqueues the Balancers that an object concerns.
// With an update, those of the object before and after.
func (p *pace) watch(concerns func(context.Context, client.Object) []string) handler.EventHandler {
	add := func(ctx context.Context, q queue, gone bool, objects ...client.Object) {
		for _, obj := range objects {
			for _, name := range concerns(ctx, obj) {
				p.add(q, name, objects[len(objects)-1], gone)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { add(ctx, q, false, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetUID() != e.ObjectNew.GetUID() { // the watch missed that one went and another came
				add(ctx, q, true, e.ObjectOld)
			}
			add(ctx, q, false, e.ObjectOld, e.ObjectNew)
		},
		DeleteFunc:  func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, q, true, e.Object) },
		GenericFunc: func(ctx context.Context, e event.GenericEvent, q queue) { add(ctx, q, false, e.Object) },
	}
}

// add a key for a version of an object, or because it is gone.
func (p *pace) add(q queue, name string, obj client.Object, gone bool) {
	if p.causes != nil {
		p.causes.came(name, obj, gone)
	}
	q.AddAfter(request(name), p.wait(name))
}

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: name}}
}

// concerns answers which Balancers an object concerns.
type concerns struct{ reader reader }

// all Balancers, for what may concern any of them.
func (c concerns) all(ctx context.Context, _ client.Object) []string {
	balancers, err := c.reader.balancers(ctx)
	if err != nil {
		return nil // the cache is not there any more: we are stopping
	}
	var names []string
	for _, b := range balancers {
		names = append(names, b.Name)
	}
	return names
}

// balancer concerns itself, and the others: it may take a class or the default
// from them, or give it back. Services that nobody serves any more are let go under
// the name of nobody.
func (c concerns) balancer(ctx context.Context, obj client.Object) []string {
	return append(c.all(ctx, obj), obj.GetName(), "")
}

// service concerns who may serve it, or should by the name that it gives, and who
// holds it, whether they exist or not.
func (c concerns) service(ctx context.Context, obj client.Object) []string {
	if svc := obj.(*corev1.Service); concernsSome(svc) {
		return c.whoServes(ctx).all(svc)
	}
	return nil
}

// concernsSome reports whether a Service may concern anybody: most of a cluster's do not.
func concernsSome(svc *corev1.Service) bool {
	return svc.DeletionTimestamp != nil || len(serviceKeys(svc)) > 0
}

// whoServes are those who may serve Services: they are read once for all that one event is about.
type whoServes struct {
	claims plan.Claims
	toPods map[string]bool // those who send to pods
	pools  func() []*ipam.Pool
}

// whoServes as they are now; nil if they cannot be read, since we are stopping.
func (c concerns) whoServes(ctx context.Context) *whoServes {
	balancers, err := c.reader.balancers(ctx)
	if err != nil {
		return nil
	}
	out := &whoServes{claims: plan.NewClaims(balancers, nil, nil), toPods: map[string]bool{}}
	for _, b := range balancers {
		if toPods(b) {
			out.toPods[b.Name] = true
		}
	}
	out.pools = sync.OnceValue(func() []*ipam.Pool {
		var pools v1alpha1.AddressPoolList
		if c.reader.list(ctx, &pools) != nil {
			return nil
		}
		return c.reader.parsed.pools(pools.Items).Accepted
	})
	return out
}

// all whom a Service concerns: see concerns.service.
func (w *whoServes) all(svc *corev1.Service) (names []string) {
	if w == nil {
		return nil
	}
	for _, b := range w.claims.MayServe(svc) {
		names = append(names, b.Name)
	}
	if name := plan.AsksFor(svc); len(names) == 0 && name != "" {
		names = append(names, name)
	}
	if !record.Marked(svc) && !record.Told(svc) {
		return names
	}
	names = append(names, plan.WithAddressesOf(svc, w.pools())...) // others may wait for them
	holders := record.Holders(svc)
	if len(holders) == 0 {
		return append(names, "") // nobody of that name: what nobody serves is let go
	}
	return append(names, holders...)
}

// controlPlane concerns those who carry the API servers.
func (c concerns) controlPlane(ctx context.Context) (names []string) {
	balancers, err := c.reader.balancers(ctx)
	if err != nil {
		return nil
	}
	for _, b := range balancers {
		if b.Spec.ControlPlane != nil {
			names = append(names, b.Name)
		}
	}
	return names
}

// pool concerns its Balancer, whether it exists or not, and the others: pools
// may overlap.
func (c concerns) pool(ctx context.Context, obj client.Object) []string {
	return append(c.all(ctx, obj), obj.(*v1alpha1.AddressPool).Spec.Balancer)
}

// policy concerns those who carry its Services.
func (c concerns) policy(ctx context.Context, obj client.Object) (names []string) {
	who := c.whoServes(ctx)
	for _, target := range translate.Targets(obj.(*v1alpha1.UpstreamPolicy)) {
		if svc := c.serviceNamed(ctx, obj.GetNamespace(), target); svc != nil && concernsSome(svc) {
			names = append(names, who.all(svc)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// serviceNamed is the Service of a name, nil if there is none.
func (c concerns) serviceNamed(ctx context.Context, namespace, name string) *corev1.Service {
	var svc corev1.Service
	if c.reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &svc, client.UnsafeDisableDeepCopy) != nil {
		return nil
	}
	return &svc
}

// node concerns the Balancers to which it means something else now. With an update, only
// what changed counts.
func (c concerns) node(ctx context.Context, before, after *corev1.Node) (names []string) {
	balancers, err := c.reader.balancers(ctx)
	if err != nil {
		return nil
	}
	for _, b := range balancers {
		if !translate.SameNodeFor(b, before, after) {
			names = append(names, b.Name)
		}
	}
	return names
}

// namespace concerns all Balancers, if a pool asks for labels of namespaces.
func (c concerns) namespace(ctx context.Context, obj client.Object) []string {
	var pools v1alpha1.AddressPoolList
	if err := c.reader.list(ctx, &pools); err != nil {
		return nil
	}
	if slices.ContainsFunc(c.reader.parsed.pools(pools.Items).Accepted, (*ipam.Pool).SelectsNamespaces) {
		return c.all(ctx, obj)
	}
	return nil
}

// secret concerns all Balancers if it may be the key of a host, and those of the policies
// that name it.
func (c concerns) secret(namespace string) func(context.Context, client.Object) []string {
	return func(ctx context.Context, obj client.Object) (names []string) {
		if obj.GetNamespace() == namespace {
			return c.all(ctx, obj)
		}
		for _, p := range c.reader.naming(ctx, obj) {
			names = append(names, c.policy(ctx, p)...)
		}
		return names
	}
}

// reporting is who writes an object's status: a status that is not as it should
// be, by somebody else's hand or since it was made of an older one, is written again.
func (c concerns) reporting(_ context.Context, obj client.Object) []string {
	if pool, ok := obj.(*v1alpha1.AddressPool); ok {
		return []string{pool.Spec.Balancer}
	}
	return []string{obj.GetName()}
}

// watchNodes is watch for Nodes: kubelets report all the time what means nothing here.
func (p *pace) watchNodes(c concerns) handler.EventHandler {
	all := p.watch(c.all).(handler.Funcs)
	all.UpdateFunc = func(ctx context.Context, e event.UpdateEvent, q queue) {
		for _, name := range c.node(ctx, e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)) {
			p.add(q, name, e.ObjectNew, false)
		}
	}
	return all
}

// labelsChanged is all that a namespace matters for.
var labelsChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
}}

// specChanged drops what is only a change of status.
var specChanged = predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		return (e.ObjectOld.GetDeletionTimestamp() == nil) != (e.ObjectNew.GetDeletionTimestamp() == nil) ||
			len(e.ObjectOld.GetFinalizers()) != len(e.ObjectNew.GetFinalizers())
	},
})

// hostChanges lets the hosts' workers start reconciles.
type hostChanges struct {
	causes *causes
	mu     sync.Mutex
	queue  queue // nil until the controller runs
}

// start is a source.Func.
func (h *hostChanges) start(_ context.Context, q queue) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queue = q
	return nil
}

// changed starts a reconcile of a Balancer, one of whose hosts has news.
func (h *hostChanges) changed(balancer string) { h.look(balancer, false) }

// look at a Balancer: at all of it, where whole says so.
func (h *hostChanges) look(balancer string, whole bool) {
	if q := h.waiting(); q != nil {
		h.causes.must(balancer, whole)
		q.Add(request(balancer))
	}
}

// waiting is the queue of what is to be looked at; nil until the controller runs.
func (h *hostChanges) waiting() queue {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.queue
}

// setup registers the Balancers' controller.
func (r *balancerReconciler) setup(mgr ctrl.Manager, hosts *hostChanges) error {
	c, watch := concerns{r.reader}, r.pace.watch
	return builder.ControllerManagedBy(mgr).
		Named("balancer").
		WithOptions(backOff()).
		Watches(&v1alpha1.Balancer{}, watch(c.reporting)).
		Watches(&v1alpha1.Balancer{}, watch(c.balancer), builder.WithPredicates(specChanged)).
		Watches(&v1alpha1.AddressPool{}, watch(c.reporting)).
		Watches(&v1alpha1.AddressPool{}, watch(c.pool), builder.WithPredicates(specChanged)).
		Watches(&v1alpha1.UpstreamPolicy{}, watch(c.policy), builder.WithPredicates(specChanged)).
		Watches(&corev1.Service{}, watch(c.service)).
		Watches(&corev1.Node{}, r.pace.watchNodes(c)).
		Watches(&discoveryv1.EndpointSlice{}, r.pace.watchSlices(c)).
		Watches(&corev1.Namespace{}, watch(c.namespace), builder.WithPredicates(labelsChanged)).
		Watches(&corev1.Secret{}, watch(c.secret(r.namespace))).
		WatchesRawSource(source.Func(hosts.start)).
		Complete(r)
}
