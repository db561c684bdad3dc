package controllers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/translate"
)

// balancerReconciler keeps one Balancer: its hosts, the Services that it serves
// or holds, and its pools.
type balancerReconciler struct {
	client    client.Client
	reader    reader
	patch     patchServices
	events    *events
	leader    *leader
	fleet     fleet
	certs     *certificates
	metrics   *metrics
	pace      *pace
	namespace string // of the Secrets with the hosts' keys

	memory    map[string]*memory                 // by Balancer; one reconcile runs at a time
	unclaimed map[string]map[types.UID]time.Time // when Services were told that nobody serves them, by the name of whom they ask for
}

// fleet are the hosts of all Balancers: see deliver.Fleet.
type fleet interface {
	Set(balancer string, targets []deliver.Target)
	Deliver(balancer string, want map[string]*lb.Set, cause string)
	States(balancer string) []deliver.State
}

// memory is what a Balancer's reconciles keep from one to the next. Losing it
// costs work and repeated events, never correctness.
type memory struct {
	planner  *plan.Planner
	planned  bool
	nodes    []lb.Node                               // of the last plan, to tell why a delivery is made
	told     map[types.UID]map[withdrawing]time.Time // when what was told of Services that leave
	proven   map[types.UID]string                    // what of a Service was proved last, to tell of updates
	answers  sync.Map                                // by types.UID: on which addresses a Service was told to answer last
	hosts    []v1alpha1.Host                         // as they were, to tell of removals
	restarts map[string]toldRestarts                 // of daemons, by host

	slices    map[types.NamespacedName][]*discoveryv1.EndpointSlice // of the last plan
	endpoints map[types.NamespacedName]*translate.Endpoints         // nil: it sends to no pods, or they were never read

	backends *backendsPace
	numbers  *numbers
	settled  settled
}

// scope is what one reconcile of a Balancer knows.
type scope struct {
	why      *cause
	balancer *v1alpha1.Balancer
	memory   *memory
	objects  objects
	snapshot *plan.Snapshot
	assigned *plan.Assignments
	plan     *plan.Plan
	states   []deliver.State // as they were after Plan was handed to the hosts
	heldBack bool            // what hosts say of some nodes is told later

	certificates found
	losing       bool // a Service that hosts may serve would lose ports to a Secret that was never read
}

// parallelWrites to the API server from one reconcile.
const parallelWrites = 16

// Reconcile implements reconcile.Reconciler for the Balancer that the request names.
func (r *balancerReconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	why, news := r.pace.causes.news(req.Name, r.patch.written)
	if !news {
		return ctrl.Result{}, nil
	}
	done := false
	defer func() {
		if !done {
			r.pace.causes.must(req.Name, true)
		}
	}()
	defer r.pace.looked(req.Name)
	r.patch.written.begin(req.Name)
	r.patch.setbacks.begin()
	result, err = r.patch.setbacks.end(r.reconcileNamed(ctx, req, why))
	done = err == nil && result.RequeueAfter == 0
	if m := r.memory[req.Name]; m != nil && err == nil {
		wait := m.numbers.left()
		if m.planner.Early() { // all is read where it ends: see Planner.Follows
			wait = sooner(wait, lookAgain)
		}
		if wait > 0 {
			r.pace.causes.must(req.Name, false)
			result.RequeueAfter = sooner(result.RequeueAfter, wait)
		}
	}
	return result, err
}

func (r *balancerReconciler) reconcileNamed(ctx context.Context, req ctrl.Request, why *cause) (ctrl.Result, error) {
	if err := r.leader.acquire(ctx); err != nil {
		return ctrl.Result{}, err
	}
	seen, err := r.reader.claimants(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.reader.wantPods(slices.ContainsFunc(seen.Balancers, toPods)); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.tellUnclaimed(ctx, req.Name, seen.Claims()); err != nil {
		return ctrl.Result{}, err
	}
	i := slices.IndexFunc(seen.Balancers, func(b *v1alpha1.Balancer) bool { return b.Name == req.Name })
	if i < 0 {
		r.fleet.Set(req.Name, nil)
		delete(r.memory, req.Name)
		r.metrics.forget(req.Name)
		again, err := r.releaseOrphans(ctx, seen)
		if len(r.unclaimed[req.Name]) > 0 {
			again.RequeueAfter = sooner(again.RequeueAfter, tellAgain)
		}
		r.patch.written.leave(req.Name)
		return again, errors.Join(err, r.reportOrphanPools(ctx, seen, req.Name))
	}
	s := &scope{why: why, balancer: seen.Balancers[i], objects: seen}
	if err := r.holdBalancer(ctx, s.balancer); err != nil {
		return ctrl.Result{}, err
	}
	s.memory = r.remember(s.balancer)
	return r.reconcile(ctx, s)
}

// reconcile is the operator's one line: snapshot, assign, plan, deliver, report.
func (r *balancerReconciler) reconcile(ctx context.Context, s *scope) (ctrl.Result, error) {
	err := r.read(s)
	if errors.Is(err, errSoon) {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	s.snapshot = plan.NewSnapshot(s.balancer, s.objects.Objects)
	defer r.events.hold()()
	s.assigned = s.memory.planner.Assign(s.snapshot)
	if err := r.readCertificates(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	s.memory.forget(s.assigned.Left)
	failed := r.record(ctx, s)
	if s.plan, err = s.memory.planner.Plan(s.snapshot, s.assigned); err != nil {
		return ctrl.Result{}, errors.Join(failed, err)
	}
	r.deliver(ctx, s)
	if !s.withheld() {
		failed = errors.Join(failed, r.publish(ctx, s))
	}
	failed = errors.Join(failed, r.release(ctx, s), r.reportPools(ctx, s))
	if failed == nil && s.balancer.DeletionTimestamp != nil && len(s.assigned.Leaving)+len(s.assigned.Carried) == 0 {
		return ctrl.Result{}, r.releaseBalancer(ctx, s.balancer)
	}
	again := ctrl.Result{RequeueAfter: s.certificates.again}
	if s.heldBack {
		again.RequeueAfter = sooner(again.RequeueAfter, backendsAgain)
	}
	if s.waitsForOthers() {
		again.RequeueAfter = sooner(again.RequeueAfter, lookAgain)
	}
	return again, errors.Join(failed, r.reportBalancer(ctx, s))
}

// read what the plan depends on: of the Services only those that may have changed, where the
// others are known.
func (r *balancerReconciler) read(s *scope) error {
	o, m := &s.objects, s.memory
	r.patch.written.touch(s.balancer.Name, s.why.services)
	if o.Partial = !s.why.whole && m.planner.Follows(s.balancer, o.Objects); !o.Partial {
		if err := r.reader.all(s.balancer, o); err != nil {
			return err
		}
	} else if err := r.reader.changed(s.why.services, o); err != nil {
		return err
	}
	fresh, err := r.reader.slicesOf(o.Services)
	if err != nil {
		return err
	}
	if o.Partial && len(fresh) > 0 {
		m.slices = maps.Clone(m.slices)
		maps.Copy(m.slices, fresh)
	} else if !o.Partial {
		m.slices = fresh
	}
	o.Slices = m.slices
	if err := r.readEndpoints(s); err != nil {
		return err
	}
	return r.reader.rest(s.balancer, o)
}

// withheld reports whether the hosts are not told of the plan: which nodes may carry the
// Services, what a provider can do, or which certificates are served, was never known, so what
// runs is better.
func (s *scope) withheld() bool {
	p := s.plan.NodesProblem
	return (p != nil && p.Fatal || translate.Unknown(s.balancer) || s.keepsCertificates()) && len(s.assigned.Carried) > 0
}

// deliver hands the plan to the hosts, and looks what they say.
func (r *balancerReconciler) deliver(ctx context.Context, s *scope) {
	r.tellRemovedHosts(ctx, s)
	r.fleet.Set(s.balancer.Name, Targets(ctx, r.reader, r.namespace, s.balancer, s.objects.Balancers))
	if !s.withheld() {
		r.fleet.Deliver(s.balancer.Name, s.plan.Sets, s.memory.cause(s.plan))
	}
	s.states = r.fleet.States(s.balancer.Name)
	s.memory.numbers.look(slices.ContainsFunc(s.states, func(h deliver.State) bool { return h.State == v1alpha1.HostDelivering }))
	r.tellRestarts(ctx, s)
}

// toldRestarts are those of a host's daemons.
type toldRestarts struct {
	seen int
	at   time.Time // of the last event
}

// restartsTold is how often a host's restarts are an event at most: a daemon that ends again and again is
// counted, and takes no room from what else is to be told.
const restartsTold = 10 * time.Minute

// tellRestarts tells that somebody else has restarted a daemon.
func (r *balancerReconciler) tellRestarts(ctx context.Context, s *scope) {
	for _, host := range s.states {
		told := s.memory.restarts[host.Host]
		if now := time.Now(); host.Restarts > told.seen && host.Restarted != "" && now.Sub(told.at) > restartsTold {
			r.events.warning(ctx, s.balancer, "DaemonRestarted", "%s: %s", host.Host, host.Restarted)
			told.at = now
		}
		told.seen = host.Restarts
		s.memory.restarts[host.Host] = told
	}
}

// forget what Services were told that are carried no longer.
func (m *memory) forget(services []types.UID) {
	for _, uid := range services {
		delete(m.proven, uid)
		m.answers.Delete(uid)
	}
}

func (r *balancerReconciler) remember(b *v1alpha1.Balancer) *memory {
	if known, ok := r.memory[b.Name]; ok && known.planner.Engine == b.Spec.Engine {
		return known // else it was deleted and made again
	}
	m := &memory{planner: plan.NewPlanner(b.Spec.Engine), told: map[types.UID]map[withdrawing]time.Time{}, proven: map[types.UID]string{},
		backends: newBackendsPace(), numbers: newNumbers(), restarts: map[string]toldRestarts{}}
	r.memory[b.Name] = m
	return m
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
	err := client.IgnoreNotFound(r.client.Patch(ctx, changed, patch))
	if err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil && !errors.Is(err, errNotLeading) {
		r.statuses().refused(ctx, b, part{b.UID, false}, err)
	}
	if err == nil {
		r.statuses().setbacks.forget(b.UID)
	}
	return err
}

// tellRemovedHosts makes it visible that an operator took the one way out of a
// withdrawal that cannot be confirmed.
func (r *balancerReconciler) tellRemovedHosts(ctx context.Context, s *scope) {
	for _, name := range removedHosts(s.memory.hosts, s.balancer, s.objects.Balancers) {
		r.events.warning(ctx, s.balancer, "HostRemoved",
			"host %s is no longer managed and keeps what it runs: nobody waits for its confirmation any more, so stop its daemon or take its addresses away", name)
	}
	s.memory.hosts = s.balancer.Spec.AllHosts()
}

// removedHosts are the names of those hosts which a Balancer had and that nobody manages
// any more. One that has another name now, or another Balancer, is still managed.
func removedHosts(before []v1alpha1.Host, b *v1alpha1.Balancer, all []*v1alpha1.Balancer) (names []string) {
	managed := map[string]bool{}
	for _, other := range all {
		for _, h := range other.Spec.Hosts {
			managed[deliver.Target{Host: h}.Machine()] = true
		}
	}
	for _, was := range before {
		named := slices.ContainsFunc(b.Spec.AllHosts(), func(h v1alpha1.Host) bool { return h.Name == was.Name })
		if !named && !managed[deliver.Target{Host: was}.Machine()] {
			names = append(names, was.Name)
		}
	}
	return names
}

// tellUnclaimed tells the Services that ask for a Balancer by name, and that none
// serves, and again while that stays. Only by an event: they are not ours.
func (r *balancerReconciler) tellUnclaimed(ctx context.Context, name string, claims plan.Claims) error {
	var unclaimed []*corev1.Service
	for _, key := range []string{keyClass + v1alpha1.DefaultClassPrefix + name, keyExposed + name} {
		if key == keyExposed+name && claims.Named(name) != nil || len(claims.OfClass(strings.TrimPrefix(key, keyClass))) > 0 {
			continue
		}
		services, err := r.reader.servicesOf(key)
		if err != nil {
			return err
		}
		unclaimed = append(unclaimed, services...)
	}
	told := map[types.UID]time.Time{}
	for _, svc := range unclaimed {
		if svc.DeletionTimestamp != nil {
			continue
		}
		told[svc.UID] = r.unclaimed[name][svc.UID]
		if stale(told[svc.UID]) {
			told[svc.UID] = time.Now()
			r.events.warning(ctx, svc, v1alpha1.EventSyncFailed,
				"no Balancer serves this Service: there is none that is called %q and takes it. Create it, or correct the Service; `kubectl get balancers` lists them with their classes", name)
		}
	}
	delete(r.unclaimed, name)
	if len(told) > 0 {
		r.unclaimed[name] = told
	}
	return nil
}

// cause says what made a delivery necessary, for metrics.
func (m *memory) cause(p *plan.Plan) string {
	first, same := !m.planned, slices.Equal(m.nodes, p.Nodes)
	m.planned, m.nodes = true, p.Nodes
	if first || same {
		return "services"
	}
	return "nodes"
}
