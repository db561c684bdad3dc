package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/plan"
)

// takeOver makes a Balancer the one that carries an arriving Service: from here on
// the others withdraw it.
func (r *balancerReconciler) takeOver(ctx context.Context, b *v1alpha1.Balancer, record plan.Record, svc *plan.Service) error {
	record.Carrier = b.Name
	written, err := r.writeRecord(ctx, svc.Object, record)
	if err != nil || !written {
		return err
	}
	r.events.normal(ctx, svc.Object, v1alpha1.EventMoving, "proved on Balancer %s, which carries %s from now on: withdrawing it from Balancer %s",
		b.Name, plan.FormatAddresses(svc.Addresses), svc.From)
	return nil
}

// writeRecord changes a record that is there. It is not written where the Service
// was changed meanwhile: that starts another reconcile.
func (r *balancerReconciler) writeRecord(ctx context.Context, svc *corev1.Service, record plan.Record) (written bool, err error) {
	patch := holdPatch(svc, record)
	if patch == nil {
		return false, nil
	}
	if err := r.patch.metadata(ctx, svc, patch); err != nil {
		return false, err
	}
	now := r.patch.written.newest(svc)
	return holdPatch(now, record) == nil, nil
}

// comeFirst notes that the addresses of a Service may come to a Balancer's hosts:
// those of the Balancers that had it have let go of them, as far as they can be
// reached. One that cannot holds its record, but not the traffic.
func (r *balancerReconciler) comeFirst(ctx context.Context, b *v1alpha1.Balancer, record plan.Record, svc *plan.Service) error {
	if svc.Staying || b.Spec.VirtualAddresses.Mode != v1alpha1.VRRP || record.Holders[0] == b.Name {
		return nil
	}
	for _, other := range svc.Others {
		if states := r.fleet.States(other); len(states) == 0 || slices.ContainsFunc(states, func(s deliver.State) bool { return reachableWith(s, svc) }) {
			return nil
		}
	}
	record.Holders = append([]string{b.Name}, svc.Others...)
	_, err := r.writeRecord(ctx, svc.Object, record)
	return err
}

// lookAgain at the hosts of other Balancers, whose news start no reconcile of this one.
const lookAgain = time.Second

// waitsForOthers reports whether an address comes once the hosts of other Balancers
// have let go of it: see comeFirst.
func waitsForOthers(b *v1alpha1.Balancer, p *plan.Plan) bool {
	return b.Spec.VirtualAddresses.Mode == v1alpha1.VRRP && slices.ContainsFunc(p.Services, func(svc *plan.Service) bool {
		return svc.From == "" && !svc.Staying && len(svc.Others) > 0 && plan.Holders(svc.Object)[0] != b.Name
	})
}

// reachableWith reports whether a host answers and may serve a Service still, or
// have one of its addresses.
func reachableWith(s deliver.State, svc *plan.Service) bool {
	if s.State == v1alpha1.HostUnreachable {
		return false
	}
	return s.MayServe(svc.Path) || slices.ContainsFunc(plan.HeldAddresses(svc.Object), func(a netip.Addr) bool { return s.MayServe(plan.AddressPath(a)) })
}

// leaveService ends one Balancer's part in a Service that another one holds, too.
func (r *balancerReconciler) leaveService(ctx context.Context, b *v1alpha1.Balancer, svc *corev1.Service, left plan.Record) error {
	written, err := r.writeRecord(ctx, svc, left)
	if err != nil || !written {
		return err
	}
	reason := v1alpha1.EventMoved
	if svc.DeletionTimestamp != nil {
		reason = v1alpha1.EventDeleting
	}
	r.events.normal(ctx, svc, reason, "withdrawn from Balancer %s; %s has it", b.Name, plan.InWords(left.Holders))
	return nil
}

// reportArrival tells how far an arriving Service is. Everything else of its
// status is told by the Balancer that carries it.
func (r *balancerReconciler) reportArrival(ctx context.Context, b *v1alpha1.Balancer, svc *plan.Service, c metav1.Condition) error {
	conditions, changed := conditionsPatch(svc.Object.Status.Conditions, []metav1.Condition{c})
	if len(conditions) == 0 {
		return nil
	}
	if err := r.patch.status(ctx, svc.Object, object{"conditions": conditions}); err != nil {
		return err
	}
	for _, c := range changed {
		switch c.Reason {
		case v1alpha1.ReasonPending: // the beginning is told with the record
		case v1alpha1.ReasonKept:
			r.events.normal(ctx, svc.Object, v1alpha1.EventMoving, "%s", c.Message)
		default:
			r.events.warning(ctx, svc.Object, v1alpha1.EventUpdateFailed, "%s", c.Message)
		}
	}
	return nil
}

// movingFrom says how far an arriving Service is, and why no further.
func movingFrom(b *v1alpha1.Balancer, svc *plan.Service, p proof, blocked, hosts string) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionMoving, Status: metav1.ConditionTrue}
	way := fmt.Sprintf("Balancer %s carries it; it moves to Balancer %s", svc.From, b.Name)
	switch {
	case svc.Fatal() != nil:
		c.Reason, c.Message = svc.Fatal().Reason, way+", which cannot take it: "+svc.ProblemsInWords()
	case p.enough:
		c.Reason, c.Message = v1alpha1.ReasonKept, way+", which has proved it. "+blocked
	case len(p.refused) > 0:
		c.Reason, c.Message = v1alpha1.ReasonRefused, way+", whose hosts refuse it: "+strings.Join(p.refused, "; ")
	case svc.Shape == "" && len(svc.Problems) > 0: // none of its listeners is left
		c.Reason, c.Message = svc.Problems[0].Reason, way+", which cannot take it: "+svc.ProblemsInWords()
	case p.settled && hosts != "":
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, way+", of which too few hosts can prove it: "+hosts
	default:
		c.Reason, c.Message = v1alpha1.ReasonPending, way+", which is to prove it first"
		if was := meta.FindStatusCondition(svc.Object.Status.Conditions, c.Type); was != nil && strings.HasPrefix(was.Message, way) {
			return *was // until it is known to be otherwise
		}
	}
	return c
}

// moved says of a carried Service who has not let go of it yet. A Service that
// stays until another Balancer takes it over is told by that one.
func moved(b *v1alpha1.Balancer, svc *plan.Service) []metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionMoving}
	switch {
	case svc.Staying:
		return nil
	case len(svc.Others) > 0:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonWithdrawing
		c.Message = fmt.Sprintf("Balancer %s carries it; %s has not confirmed yet that it no longer does", b.Name, plan.InWords(svc.Others))
	}
	return []metav1.Condition{c}
}
