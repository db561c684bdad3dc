package controllers

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/plan"
)

// hold puts on record what each carried Service holds, before any host hears of
// it, and gives the plan the Services as they are then.
func (r *balancerReconciler) hold(ctx context.Context, b *v1alpha1.Balancer, a *plan.Assignments) error {
	indexes := make([]int, len(a.Carried))
	for i := range indexes {
		indexes[i] = i
	}
	return each(ctx, indexes, func(ctx context.Context, i int) error {
		svc := a.Carried[i]
		addresses := a.ByService[svc.UID].Addresses
		if len(addresses) == 0 {
			return nil
		}
		patch := holdPatch(svc, a.Record(svc))
		if patch == nil {
			return nil
		}
		if err := r.patch.metadata(ctx, svc, patch); err != nil {
			return err
		}
		now := r.patch.written.newest(svc)
		a.Carried[i] = now
		switch {
		case !plan.Held(svc):
			r.events.normal(ctx, svc, v1alpha1.EventEnsuring, "Balancer %s carries this Service on %s", b.Name, plan.FormatAddresses(addresses))
		case len(plan.Holders(now)) > len(plan.Holders(svc)):
			r.events.normal(ctx, svc, v1alpha1.EventMoving, "to Balancer %s; Balancer %s carries %s until it is proved there",
				b.Name, plan.Carrier(plan.Holders(now), now), plan.FormatAddresses(addresses))
		}
		return nil
	})
}

// release lets Services go whose withdrawal every host has confirmed, and tells
// why of those that it cannot.
func (r *balancerReconciler) release(ctx context.Context, b *v1alpha1.Balancer, kept *memory, a *plan.Assignments, desired *fileset.Set, states []deliver.State) error {
	type verdict struct {
		svc   *corev1.Service
		where []string // hosts on which it may still be live
	}
	var verdicts []verdict
	leaving := map[string]bool{}
	for _, svc := range a.Leaving {
		leaving[string(svc.UID)] = true
		needs := desired
		if a.Without(svc) != nil {
			needs = nil // it moved: whoever has it now brings its addresses, so nobody here may
		}
		verdicts = append(verdicts, verdict{svc, mayServe(svc, needs, states)})
	}
	for uid := range kept.told {
		if !leaving[string(uid)] {
			delete(kept.told, uid)
		}
	}
	for _, v := range verdicts {
		r.tellWithdrawal(ctx, b, kept, v.svc, v.where)
	}
	verdicts = slices.DeleteFunc(verdicts, func(v verdict) bool { return len(v.where) > 0 })
	return each(ctx, verdicts, func(ctx context.Context, v verdict) error {
		if left := a.Without(v.svc); left != nil {
			return r.leaveService(ctx, b, v.svc, *left)
		}
		return r.releaseService(ctx, b, v.svc)
	})
}

// mayServe lists the hosts, with what is wrong with them, on which a Service may
// still be live.
func mayServe(svc *corev1.Service, desired *fileset.Set, states []deliver.State) []string {
	path, ok := plan.Path(svc)
	if !ok {
		return nil // it could never be rendered
	}
	var where []string
	add := func(s deliver.State) {
		if words := strings.TrimSuffix(s.Host+": "+s.Message, ": "); !slices.Contains(where, words) {
			where = append(where, words)
		}
	}
	for _, s := range states {
		if s.MayServe(path) {
			add(s)
		}
	}
	for _, a := range plan.HeldAddresses(svc) {
		for _, s := range mayHave(a, desired, states) {
			add(s)
		}
	}
	return where
}

// tellWithdrawal writes one event when a withdrawal begins and one whenever the
// reason why it does not end changes. Of several Balancers that withdraw a
// Service, the one that carried it tells the beginning. Where it moved, that is
// told already.
func (r *balancerReconciler) tellWithdrawal(ctx context.Context, b *v1alpha1.Balancer, kept *memory, svc *corev1.Service, where []string) {
	told, begun := kept.told[svc.UID]
	if !begun {
		if plan.Carrier(plan.Holders(svc), svc) == b.Name {
			r.events.normal(ctx, svc, v1alpha1.EventDeleting, "withdrawing %s", plan.FormatAddresses(plan.HeldAddresses(svc)))
		}
		kept.told[svc.UID] = ""
	}
	stuck := slices.DeleteFunc(slices.Clone(where), func(w string) bool { return !strings.Contains(w, ": ") })
	if now := strings.Join(stuck, "; "); now != "" && now != told {
		r.events.warning(ctx, svc, v1alpha1.EventDeleteFailed,
			"not withdrawn from %s. The Service and its addresses are kept until every host confirms; the way out is to remove the host from the Balancer %s", now, b.Name)
		kept.told[svc.UID] = now
	}
}

// releaseService ends our part in a Service: first its status, then the record.
func (r *balancerReconciler) releaseService(ctx context.Context, b *v1alpha1.Balancer, svc *corev1.Service) error {
	isLoadBalancer := svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	ourClass := isLoadBalancer && plan.ClassMatches(b, svc)
	if svc.DeletionTimestamp == nil {
		if status := withdrawnStatus(svc, ourClass); status != nil {
			if err := r.patch.status(ctx, svc, status); err != nil {
				return err
			}
		}
	}
	addresses := plan.FormatAddresses(plan.HeldAddresses(svc))
	if err := r.patch.metadata(ctx, svc, releasePatch(svc, isLoadBalancer && !ourClass)); err != nil {
		return err
	}
	r.patch.written.forget(svc.UID)
	r.events.normal(ctx, svc, v1alpha1.EventDeleted, "%s", strings.TrimSpace("withdrawn "+addresses))
	return nil
}

// releaseOrphans lets Services go that a Balancer holds which no longer exists:
// somebody removed its finalizer, and with it the hosts to ask.
func (r *balancerReconciler) releaseOrphans(ctx context.Context, balancers []*v1alpha1.Balancer, claims plan.Claims) error {
	exists := map[string]bool{}
	for _, b := range balancers {
		exists[b.Name] = true
	}
	held, err := r.reader.services(ctx, keyHeld)
	if err != nil {
		return err
	}
	orphans := slices.DeleteFunc(held, func(svc *corev1.Service) bool {
		holds := slices.ContainsFunc(plan.Holders(svc), func(name string) bool { return exists[name] })
		return holds || (claims.Of(svc) != nil && svc.DeletionTimestamp == nil) || r.anywhere(svc, balancers)
	})
	return each(ctx, orphans, func(ctx context.Context, svc *corev1.Service) error {
		gone := &v1alpha1.Balancer{}
		gone.Name = plan.Carrier(plan.Holders(svc), svc)
		r.events.warning(ctx, svc, v1alpha1.EventDeleteFailed,
			"Balancer %q, which held this Service, no longer exists: its hosts were not asked to withdraw it", gone.Name)
		return r.releaseService(ctx, gone, svc)
	})
}

// anywhere reports whether a Service may be live on a host of any Balancer.
func (r *balancerReconciler) anywhere(svc *corev1.Service, balancers []*v1alpha1.Balancer) bool {
	return slices.ContainsFunc(balancers, func(b *v1alpha1.Balancer) bool {
		return len(mayServe(svc, nil, r.fleet.States(b.Name))) > 0
	})
}
