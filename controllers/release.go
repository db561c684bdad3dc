package controllers

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

// record puts on record what each carried Service holds, before any host hears of
// it, and gives the plan the Services as they are then.
func (r *balancerReconciler) record(ctx context.Context, s *scope) error {
	a := s.assigned
	return each(ctx, a.Unrecorded, func(ctx context.Context, i int) error {
		svc := a.Carried[i]
		addresses := a.ByService[svc.UID].Addresses
		patch := a.Record(svc).Patch(svc)
		if patch == nil {
			return nil
		}
		if err := r.patch.record(ctx, svc, patch, true); err != nil {
			return err
		}
		now := r.patch.written.newest(svc)
		a.Carried[i] = now
		_, known := s.memory.proven[svc.UID] // then somebody else has removed the record
		switch {
		case !record.Held(svc) && !known:
			r.events.normal(ctx, svc, v1alpha1.EventEnsuring, "Balancer %s carries this Service on %s", s.balancer.Name, record.Describe(addresses))
		case len(record.Holders(now)) > len(record.Holders(svc)):
			r.events.normal(ctx, svc, v1alpha1.EventMoving, "to Balancer %s; Balancer %s carries %s until it is proved there",
				s.balancer.Name, record.Carrier(record.Holders(now), now), record.Describe(addresses))
		}
		return nil
	})
}

// release lets Services go whose withdrawal every host has confirmed, and tells
// why of those that it cannot.
func (r *balancerReconciler) release(ctx context.Context, s *scope) error {
	type verdict struct {
		svc   *corev1.Service
		where []deliver.State // hosts on which it may still be live
	}
	var verdicts []verdict
	leaving := map[types.UID]bool{}
	for _, svc := range s.assigned.Leaving {
		leaving[svc.UID] = true
		needs := s.plan.Set
		if s.assigned.Without(svc) != nil {
			needs = nil // it moved: whoever has it now brings its addresses, so nobody here may
		}
		verdicts = append(verdicts, verdict{svc, mayServe(svc, needs, s.states)})
	}
	maps.DeleteFunc(s.memory.told, func(uid types.UID, _ map[withdrawing]time.Time) bool { return !leaving[uid] })
	for _, v := range verdicts {
		r.tellWithdrawal(ctx, s, v.svc, v.where)
	}
	verdicts = slices.DeleteFunc(verdicts, func(v verdict) bool { return len(v.where) > 0 })
	return each(ctx, verdicts, func(ctx context.Context, v verdict) error {
		if left := s.assigned.Without(v.svc); left != nil {
			return r.leaveService(ctx, s.balancer, v.svc, *left)
		}
		return r.releaseService(ctx, s.balancer, v.svc)
	})
}

// mayServe lists the hosts on which a Service may still be live, or have an address
// that nothing desired needs.
func mayServe(svc *corev1.Service, desired *lb.Set, states []deliver.State) []deliver.State {
	key, ok := plan.Key(svc)
	if !ok {
		return nil // it could never be programmed
	}
	addresses := record.Addresses(svc)
	return slices.DeleteFunc(slices.Clone(states), func(s deliver.State) bool {
		return !s.MayServe(key) && !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return mayHave(s, a, desired) })
	})
}

// mayHave reports whether a host may still have an address that nothing desired needs.
func mayHave(s deliver.State, a netip.Addr, desired *lb.Set) bool {
	key := lb.AddressKey(a)
	if desired != nil {
		if _, needed := desired.Get(key); needed {
			return false
		}
	}
	return s.MayServe(key)
}

// withdrawing is a host that holds up a withdrawal, and the way out.
type withdrawing struct{ host, wayOut string }

// The ways out of a withdrawal that does not end.
const (
	outOfHosts    = "to remove the host from the Balancer, or, if it is the only one, to put another machine's address in its place"
	outOfProvider = "to bring the provider back"
	outByHand     = outOfProvider + ", or to remove the finalizers " + v1alpha1.CleanupFinalizer + " and " + v1alpha1.SharedFinalizer +
		" by hand: then its load balancer sends to its old nodePorts, which others may get, until the provider is back"
)

// tellWithdrawal writes one event when a withdrawal begins, and one whenever another host is
// the reason why it does not end, or is still. Of several Balancers that withdraw a
// Service, the one that carried it tells the beginning. Where it moved, that is
// told already.
func (r *balancerReconciler) tellWithdrawal(ctx context.Context, s *scope, svc *corev1.Service, where []deliver.State) {
	told, begun := s.memory.told[svc.UID]
	if !begun {
		if record.Carrier(record.Holders(svc), svc) == s.balancer.Name {
			r.events.normal(ctx, svc, v1alpha1.EventDeleting, "withdrawing %s", record.Describe(record.Addresses(svc)))
		}
		told = map[withdrawing]time.Time{}
		s.memory.told[svc.UID] = told
	}
	wayOut := outOfHosts
	switch {
	case s.balancer.Spec.Provider == nil:
	case svc.DeletionTimestamp != nil:
		wayOut = outByHand
	default:
		wayOut = outOfProvider
	}
	var stuck []string
	news := false
	for _, state := range where {
		if state.Message != "" {
			is := withdrawing{state.Host, wayOut}
			stuck, news = append(stuck, state.Host), news || stale(told[is])
		}
	}
	if news {
		for _, host := range stuck {
			told[withdrawing{host, wayOut}] = time.Now()
		}
		r.events.warning(ctx, svc, v1alpha1.EventDeleteFailed,
			"not withdrawn from %s: %s. The Service and its addresses are kept until every host confirms; the way out is %s",
			strings.Join(stuck, ", "), conditions.SeeBalancer(s.balancer.Name, stuck), wayOut)
	}
}

// releaseService ends our part in a Service: its status and the record go in one write.
func (r *balancerReconciler) releaseService(ctx context.Context, b *v1alpha1.Balancer, svc *corev1.Service) error {
	isLoadBalancer := svc.Spec.Type == corev1.ServiceTypeLoadBalancer
	ourClass := isLoadBalancer && plan.ClassMatches(b, svc)
	metadata, status := record.ReleasePatch(svc, isLoadBalancer && !ourClass), withdrawnStatus(svc, ourClass)
	if err := r.patch.send(ctx, svc, part{svc.UID, false}, metadata, status, false); err != nil {
		return err
	}
	r.patch.written.forget(svc.UID)
	r.patch.setbacks.forget(svc.UID)
	if record.Held(svc) {
		r.events.normal(ctx, svc, v1alpha1.EventDeleted, "withdrawn %s", record.Describe(record.Addresses(svc)))
	}
	return nil
}

// releaseOrphans lets Services go that a Balancer holds which no longer exists, since
// somebody removed its finalizer, and with it the hosts to ask; those that only look as
// if somebody held them; and those that never had an address and ask for none now.
func (r *balancerReconciler) releaseOrphans(ctx context.Context, seen objects) (again ctrl.Result, err error) {
	exists := map[string]bool{}
	for _, b := range seen.Balancers {
		exists[b.Name] = true
	}
	claims := seen.Claims()
	held, err := r.reader.servicesOf(keyHeld)
	if err != nil {
		return again, err
	}
	orphans := slices.DeleteFunc(held, func(svc *corev1.Service) bool {
		holds := slices.ContainsFunc(record.Holders(svc), func(name string) bool { return exists[name] })
		if holds || (claims.Of(svc) != nil && svc.DeletionTimestamp == nil) {
			return true
		}
		somewhere := r.anywhere(svc, seen.Balancers)
		if somewhere {
			again.RequeueAfter = lookAgain // its record is lost: no news of a host starts this
		}
		return somewhere
	})
	return again, each(ctx, orphans, func(ctx context.Context, svc *corev1.Service) error {
		gone := &v1alpha1.Balancer{}
		gone.Name = cmp.Or(record.Of(svc).Carrier, plan.AsksFor(svc))
		if record.Held(svc) {
			r.events.warning(ctx, svc, v1alpha1.EventDeleteFailed,
				"Balancer %q, which held this Service, no longer exists: its hosts were not asked to withdraw it", gone.Name)
		}
		return r.releaseService(ctx, gone, svc)
	})
}

// anywhere reports whether a Service may be live on a host of any Balancer.
func (r *balancerReconciler) anywhere(svc *corev1.Service, balancers []*v1alpha1.Balancer) bool {
	return slices.ContainsFunc(balancers, func(b *v1alpha1.Balancer) bool {
		return len(mayServe(svc, nil, r.fleet.States(b.Name))) > 0
	})
}
