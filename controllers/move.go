package controllers

import (
	"context"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

// takeOver makes a Balancer the one that carries an arriving Service: from here on
// the others withdraw it.
func (r *balancerReconciler) takeOver(ctx context.Context, s *scope, svc *plan.Service) error {
	now := s.assigned.Record(svc.Object)
	now.Carrier = s.balancer.Name
	written, err := r.writeRecord(ctx, svc.Object, now)
	if err != nil || !written {
		return err
	}
	says := "proved on Balancer %s, which carries %s from now on: withdrawing it from Balancer %s"
	if svc.Idle {
		says = "Balancer %s has %s from now on, and can carry nothing of this Service: its conditions say why; withdrawing it from Balancer %s"
	}
	r.events.normal(ctx, svc.Object, v1alpha1.EventMoving, says, s.balancer.Name, record.Describe(svc.Addresses), svc.From)
	return nil
}

// writeRecord changes a record that is there. It is not written where the Service
// was changed meanwhile: that starts another reconcile.
func (r *balancerReconciler) writeRecord(ctx context.Context, svc *corev1.Service, now record.Record) (written bool, err error) {
	patch := now.Patch(svc)
	if patch == nil {
		return false, nil
	}
	if err := r.patch.record(ctx, svc, patch, false); err != nil {
		return false, err
	}
	return now.Patch(r.patch.written.newest(svc)) == nil, nil
}

// promote notes that the addresses of a Service may come to a Balancer's hosts: those
// of the Balancers that had it have let go of them, as far as they can be reached. One
// that cannot holds its record, but not the traffic.
func (r *balancerReconciler) promote(ctx context.Context, s *scope, svc *plan.Service) error {
	now := s.assigned.Record(svc.Object)
	if svc.Staying || !s.balancer.Spec.UsesVRRP() || now.Holders[0] == s.balancer.Name {
		return nil
	}
	for _, other := range svc.Others {
		if states := r.fleet.States(other); len(states) == 0 || slices.ContainsFunc(states, func(s deliver.State) bool { return reachableWith(s, svc) }) {
			return nil
		}
	}
	now.Holders = append([]string{s.balancer.Name}, svc.Others...)
	_, err := r.writeRecord(ctx, svc.Object, now)
	return err
}

// lookAgain at what starts no reconcile of a Balancer: the hosts of others, and watches.
const lookAgain = time.Second

// waitsForOthers reports whether an address comes once the hosts of other Balancers
// have let go of it: see promote.
func (s *scope) waitsForOthers() bool {
	return s.balancer.Spec.UsesVRRP() && slices.ContainsFunc(s.plan.Services, func(svc *plan.Service) bool {
		return svc.From == "" && !svc.Staying && len(svc.Others) > 0 && record.Holders(svc.Object)[0] != s.balancer.Name
	})
}

// reachableWith reports whether a host is there, if slowly, and may serve a Service still, or
// have one of its addresses.
func reachableWith(s deliver.State, svc *plan.Service) bool {
	if s.Gone() {
		return false
	}
	return s.MayServe(svc.Key) || slices.ContainsFunc(record.Addresses(svc.Object), func(a netip.Addr) bool { return s.MayServe(lb.AddressKey(a)) })
}

// leaveService ends one Balancer's part in a Service that another one holds, too.
func (r *balancerReconciler) leaveService(ctx context.Context, b *v1alpha1.Balancer, svc *corev1.Service, left record.Record) error {
	written, err := r.writeRecord(ctx, svc, left)
	if err != nil || !written {
		return err
	}
	reason := v1alpha1.EventMoved
	if svc.DeletionTimestamp != nil {
		reason = v1alpha1.EventDeleting
	}
	r.events.normal(ctx, svc, reason, "withdrawn from Balancer %s; %s has it", b.Name, plan.NameBalancers(left.Holders))
	return nil
}

// reportArrival tells how far an arriving Service is. Everything else of its
// status is told by the Balancer that carries it.
func (r *balancerReconciler) reportArrival(ctx context.Context, svc *corev1.Service, c metav1.Condition) error {
	conditions, changed := conditionsPatch(svc.Status.Conditions, []metav1.Condition{c})
	if len(conditions) == 0 {
		return nil
	}
	if err := r.patch.status(ctx, svc, nil, object{"conditions": conditions}, false); err != nil {
		return err
	}
	for _, c := range changed {
		switch c.Reason {
		case v1alpha1.ReasonPending: // the beginning is told with the record
		case v1alpha1.ReasonKept:
			r.events.normal(ctx, svc, v1alpha1.EventMoving, "%s", c.Message)
		default:
			r.events.warning(ctx, svc, v1alpha1.EventUpdateFailed, "%s", c.Message)
		}
	}
	return nil
}
