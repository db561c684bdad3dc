package controllers

import (
	"context"
	"maps"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// policyReconciler tells the UpstreamPolicies of one namespace what they do. Its
// key is the namespace, since policies conflict with each other.
type policyReconciler struct {
	reader   reader
	events   *events
	certs    *certificates
	statuses ownStatuses
}

// Reconcile implements reconcile.Reconciler for the namespace that the request names.
func (r *policyReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	r.statuses.setbacks.begin()
	return r.statuses.setbacks.end(r.reconcile(ctx, req))
}

func (r *policyReconciler) reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var policies v1alpha1.UpstreamPolicyList
	if err := r.reader.list(ctx, &policies, client.InNamespace(req.Name)); err != nil || len(policies.Items) == 0 {
		return ctrl.Result{}, err
	}
	var services corev1.ServiceList
	if err := r.reader.list(ctx, &services, client.InNamespace(req.Name)); err != nil {
		return ctrl.Result{}, err
	}
	seen, err := r.reader.claimants(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	claims := seen.Claims()
	carrier := func(svc *corev1.Service) (translate.Carrier, bool) {
		b := claims.Of(svc)
		if b == nil {
			return translate.Carrier{}, false
		}
		return translate.Carrier{Balancer: b.Name, Engines: translate.Carriers(b), Defaults: &b.Spec.Defaults}, true
	}
	certs, err := r.certs.of(ctx, pointers(policies.Items))
	if err != nil {
		return ctrl.Result{}, err
	}
	now := time.Now()
	statuses := translate.PolicyStatus(pointers(policies.Items), pointers(services.Items), carrier, certs.Certificates, now)
	return ctrl.Result{RequeueAfter: sooner(turns(certs.Certificates, now), certs.again)}, each(ctx, pointers(policies.Items), func(ctx context.Context, p *v1alpha1.UpstreamPolicy) error {
		return r.report(ctx, p, statuses[p.Name])
	})
}

// report writes a policy's status where it differs.
func (r *policyReconciler) report(ctx context.Context, p *v1alpha1.UpstreamPolicy, targets []v1alpha1.PolicyTargetStatus) error {
	changed := p.DeepCopy()
	changed.Status = conditions.Policy(p, targets)
	for i := range targets {
		keepTransitions(targets[i].Conditions, conditionsOf(p, targets[i].TargetRef))
	}
	keepTransitions(changed.Status.Conditions, p.Status.Conditions)
	if equality.Semantic.DeepEqual(p.Status, changed.Status) {
		return nil
	}
	if written, err := r.statuses.write(ctx, p, changed); err != nil || !written {
		return err
	}
	r.tell(ctx, p, changed.Status)
	return nil
}

// tell writes the events of what is wrong by now: what is not in force, and what
// is the matter with the certificate, which is one for all targets.
func (r *policyReconciler) tell(ctx context.Context, p *v1alpha1.UpstreamPolicy, now v1alpha1.UpstreamPolicyStatus) {
	was, is := certificateReady(p.Status), certificateReady(now)
	if is != nil && translate.Wrong(*is) && toTell(was, *is) {
		r.events.warning(ctx, p, is.Reason, "%s", is.Message)
	}
	worst := conditions.Worst(now.Targets)
	if worst != nil && toTell(conditions.Worst(p.Status.Targets), *worst) && (is == nil || is.Message != worst.Message) {
		r.events.warning(ctx, p, "NotInForce", "%s", worst.Message)
	}
}

// certificateReady is the condition of the first target that has it, nil if none has.
func certificateReady(s v1alpha1.UpstreamPolicyStatus) *metav1.Condition {
	for _, t := range s.Targets {
		if c := meta.FindStatusCondition(t.Conditions, v1alpha1.ConditionCertificateReady); c != nil {
			return c
		}
	}
	return nil
}

// conditionsOf are what a policy said of a target before.
func conditionsOf(p *v1alpha1.UpstreamPolicy, ref v1alpha1.PolicyTargetReference) []metav1.Condition {
	for _, t := range p.Status.Targets {
		if t.TargetRef == ref {
			return t.Conditions
		}
	}
	return nil
}

// keepTransitions dates conditions: those that said the same before keep their time.
func keepTransitions(now, before []metav1.Condition) {
	for i := range now {
		c := &now[i]
		c.LastTransitionTime = metav1.Now()
		if was := meta.FindStatusCondition(before, c.Type); was != nil && was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
		}
	}
}

// serviceChanged drops the echoes of status writes: a Service's generation does
// not tell them apart. Who carries it depends on its record, too, and on annotations and labels.
var serviceChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	old, now := e.ObjectOld.(*corev1.Service), e.ObjectNew.(*corev1.Service)
	return !maps.Equal(old.Annotations, now.Annotations) || !maps.Equal(old.Labels, now.Labels) ||
		!equality.Semantic.DeepEqual(old.Spec, now.Spec) || !reflect.DeepEqual(record.Of(old), record.Of(now))
}}

// offersChanged is that a provider's cloud can do something else than before.
var offersChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !equality.Semantic.DeepEqual(e.ObjectOld.(*v1alpha1.Balancer).Status.Provider, e.ObjectNew.(*v1alpha1.Balancer).Status.Provider)
}}

// setup registers the policies' controller.
func (r *policyReconciler) setup(mgr ctrl.Manager) error {
	namespace := func(_ context.Context, obj client.Object) []string { return []string{obj.GetNamespace()} }
	itself := func(_ context.Context, obj client.Object) []string { return []string{obj.GetName()} }
	everywhere := func(ctx context.Context, _ client.Object) []string {
		var policies v1alpha1.UpstreamPolicyList
		if err := r.reader.list(ctx, &policies); err != nil {
			return nil // the cache is not there any more: we are stopping
		}
		var names []string
		for _, p := range policies.Items {
			names = append(names, p.Namespace)
		}
		return names
	}
	secrets := func(ctx context.Context, obj client.Object) []string {
		if len(r.reader.naming(ctx, obj)) == 0 {
			return nil
		}
		return []string{obj.GetNamespace()}
	}
	watch := newPace().watch
	return builder.ControllerManagedBy(mgr).
		Named("upstreampolicy").
		WithOptions(backOff()).
		Watches(&v1alpha1.UpstreamPolicy{}, watch(namespace)).
		Watches(&corev1.Service{}, watch(namespace), builder.WithPredicates(serviceChanged)).
		Watches(&v1alpha1.Balancer{}, watch(everywhere), builder.WithPredicates(predicate.Or[client.Object](specChanged, offersChanged))).
		Watches(&v1alpha1.AddressPool{}, watch(everywhere), builder.WithPredicates(specChanged)).
		Watches(&corev1.Namespace{}, watch(itself), builder.WithPredicates(labelsChanged)). // pools are for some
		Watches(&corev1.Secret{}, watch(secrets)).
		Complete(r)
}
