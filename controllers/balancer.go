package controllers

import (
	"context"
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/plan"
)

// balancerReconciler keeps one Balancer: its hosts, the Services that it serves
// or holds, and its pools.
type balancerReconciler struct {
	client    client.Client
	reader    reader
	patch     patchServices
	events    *events
	epoch     *epoch
	fleet     *deliver.Fleet
	certs     *certificates
	metrics   *metrics
	pace      *pace
	namespace string // of the Secrets with the hosts' keys, and of ConfigMaps with templates

	memory map[string]*memory            // by Balancer; one reconcile runs at a time
	strays map[string]map[types.UID]bool // told that nobody serves them, by the name of whom they ask for
}

// memory is what a Balancer's reconciles keep from one to the next. Losing it
// costs work and repeated events, never correctness.
type memory struct {
	planner *plan.Planner
	nodes   []string             // that were backends, to tell why a delivery is made
	told    map[types.UID]string // the last failure told of a Service's withdrawal
	proven  map[types.UID]string // what of a Service was proved last, to tell of updates
	hosts   []string             // names, to tell of removals

	templates templates
	delivered string // the name of the templates with which the last delivery was made
}

// parallelWrites to the API server from one reconcile.
const parallelWrites = 16

// Reconcile implements reconcile.Reconciler for the Balancer that the request names.
func (r *balancerReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	defer r.pace.looked(req.Name)
	if err := r.epoch.acquire(ctx); err != nil {
		return ctrl.Result{}, err
	}
	balancers, err := r.reader.balancers(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	var balancer *v1alpha1.Balancer
	for _, b := range balancers {
		if b.Name == req.Name {
			balancer = b
		}
	}
	claims, err := r.reader.claims(ctx, balancers)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.tellStrays(ctx, req.Name, claims); err != nil {
		return ctrl.Result{}, err
	}
	if balancer == nil {
		r.fleet.Set(req.Name, nil)
		delete(r.memory, req.Name)
		r.metrics.forget(req.Name)
		return ctrl.Result{}, errors.Join(r.releaseOrphans(ctx, balancers, claims), r.reportOrphanPools(ctx, req.Name))
	}
	if err := r.holdBalancer(ctx, balancer); err != nil {
		return ctrl.Result{}, err
	}
	return r.reconcile(ctx, balancer, balancers)
}

// reconcile is the operator's one line: snapshot, assign, plan, deliver, report.
func (r *balancerReconciler) reconcile(ctx context.Context, b *v1alpha1.Balancer, all []*v1alpha1.Balancer) (ctrl.Result, error) {
	kept, err := r.remember(b)
	if err != nil {
		return ctrl.Result{}, err
	}
	pools, err := r.reader.pools(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	snap, err := r.reader.snapshot(ctx, b, all, pools)
	if err != nil {
		return ctrl.Result{}, err
	}
	if snap.Certificates, err = r.certs.of(ctx, snap.Policies); err != nil {
		return ctrl.Result{}, err
	}
	r.events.busy.RLock()
	defer r.events.busy.RUnlock()
	assigned := plan.Assign(snap)
	failed := r.hold(ctx, b, assigned)

	desired, err := r.plan(ctx, b, kept, snap, assigned)
	if err != nil {
		return ctrl.Result{}, err
	}
	if p := desired.NodesProblem; p != nil && p.Fatal {
		// Who may be a backend is not known: what runs is better than nothing.
		return ctrl.Result{}, r.reportBalancer(ctx, b, snap, desired, r.fleet.States(b.Name))
	}
	r.tellRemovedHosts(ctx, b, kept)
	r.fleet.Set(b.Name, Targets(ctx, r.reader, r.namespace, b, all))
	r.fleet.Try(b.Name, desired.Sets, kept.cause(desired), desired.Trial)
	states := r.fleet.States(b.Name)
	if refusedMeanwhile(desired.Trial, states) {
		return ctrl.Result{}, failed
	}

	failed = errors.Join(failed,
		r.recordTemplates(ctx, b, kept.templates.good),
		r.publish(ctx, b, kept, assigned, desired, states),
		r.release(ctx, b, kept, assigned, desired.Set, states),
		r.reportPools(ctx, b, desired, pools, assigned.Usage),
	)
	if failed == nil && b.DeletionTimestamp != nil && len(assigned.Leaving)+len(assigned.Carried) == 0 {
		return ctrl.Result{}, r.releaseBalancer(ctx, b)
	}
	again := ctrl.Result{RequeueAfter: kept.templates.tryAgain(time.Now())}
	if waitsForOthers(b, desired) && (again.RequeueAfter == 0 || again.RequeueAfter > lookAgain) {
		again.RequeueAfter = lookAgain
	}
	return again, errors.Join(failed, r.reportBalancer(ctx, b, snap, desired, states))
}

func (r *balancerReconciler) remember(b *v1alpha1.Balancer) (*memory, error) {
	if kept, ok := r.memory[b.Name]; ok && kept.planner.Engine == b.Spec.Engine {
		return kept, nil // else it was deleted and made again
	}
	planner, err := plan.NewPlanner(b.Spec.Engine)
	if err != nil {
		return nil, err
	}
	kept := &memory{planner: planner, told: map[types.UID]string{}, proven: map[types.UID]string{}}
	r.memory[b.Name] = kept
	return kept, nil
}

// holdBalancer keeps a Balancer from going away before its Services are withdrawn.
func (r *balancerReconciler) holdBalancer(ctx context.Context, b *v1alpha1.Balancer) error {
	if b.DeletionTimestamp != nil || controllerutil.ContainsFinalizer(b, v1alpha1.CleanupFinalizer) {
		return nil
	}
	return r.updateBalancer(ctx, b, func(b *v1alpha1.Balancer) { controllerutil.AddFinalizer(b, v1alpha1.CleanupFinalizer) })
}

// releaseBalancer lets a Balancer go once nothing of it is on record anywhere.
func (r *balancerReconciler) releaseBalancer(ctx context.Context, b *v1alpha1.Balancer) error {
	if !controllerutil.ContainsFinalizer(b, v1alpha1.CleanupFinalizer) {
		return nil
	}
	return r.updateBalancer(ctx, b, func(b *v1alpha1.Balancer) { controllerutil.RemoveFinalizer(b, v1alpha1.CleanupFinalizer) })
}

// updateBalancer patches a Balancer under an optimistic lock, so that a merge
// patch cannot drop somebody else's finalizer.
func (r *balancerReconciler) updateBalancer(ctx context.Context, b *v1alpha1.Balancer, change func(*v1alpha1.Balancer)) error {
	changed := b.DeepCopy()
	change(changed)
	patch := client.MergeFromWithOptions(b, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.client.Patch(ctx, changed, patch))
}

// tellRemovedHosts makes it visible that an operator took the one way out of a
// withdrawal that cannot be confirmed.
func (r *balancerReconciler) tellRemovedHosts(ctx context.Context, b *v1alpha1.Balancer, kept *memory) {
	present := map[string]bool{}
	var names []string
	for _, h := range b.Spec.Hosts {
		present[h.Name] = true
		names = append(names, h.Name)
	}
	for _, was := range kept.hosts {
		if !present[was] {
			r.events.warning(ctx, b, "HostRemoved",
				"host %s is no longer managed and keeps what it runs: nobody waits for its confirmation any more, so stop its balancer or take its addresses away", was)
		}
	}
	kept.hosts = names
}

// tellStrays tells the Services that ask for a Balancer by name, and that none
// serves, once each. Only by an event: they are not ours.
func (r *balancerReconciler) tellStrays(ctx context.Context, name string, claims plan.Claims) error {
	var strays []*corev1.Service
	for _, key := range []string{keyClass + v1alpha1.DefaultClassPrefix + name, keyExposed + name} {
		if key == keyExposed+name && claims.Named(name) != nil || len(claims.OfClass(strings.TrimPrefix(key, keyClass))) > 0 {
			continue
		}
		services, err := r.reader.services(ctx, key)
		if err != nil {
			return err
		}
		strays = append(strays, services...)
	}
	told := map[types.UID]bool{}
	for _, svc := range strays {
		if svc.DeletionTimestamp != nil {
			continue
		}
		told[svc.UID] = true
		if !r.strays[name][svc.UID] {
			r.events.warning(ctx, svc, v1alpha1.EventSyncFailed,
				"no Balancer serves this Service: there is none that is called %q and takes it. Create it, or correct the Service; `kubectl get balancers` lists them with their classes", name)
		}
	}
	delete(r.strays, name)
	if len(told) > 0 {
		r.strays[name] = told
	}
	return nil
}

// cause says what made a delivery necessary, for metrics.
func (kept *memory) cause(p *plan.Plan) string {
	defer func() { kept.nodes, kept.delivered = p.Nodes, kept.templates.used }()
	switch {
	case kept.nodes == nil: // the first since the start
		return "services"
	case kept.delivered != kept.templates.used:
		return "templates"
	case !equality.Semantic.DeepEqual(kept.nodes, p.Nodes):
		return "nodes"
	}
	return "services"
}
