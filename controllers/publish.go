package controllers

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

// publish tells every carried Service what became of it.
func (r *balancerReconciler) publish(ctx context.Context, s *scope) error {
	prover, hosts := conditions.NewProver(s.balancer, s.plan, s.states), conditions.WhyUnproved(s.balancer, s.states)
	view := func(svc *plan.Service) conditions.Service {
		return conditions.Service{Service: svc, Proof: prover.Prove(svc), Hosts: hosts, By: s.balancer.Name}
	}
	m := s.memory
	proved := prover.ProvedTo()
	views := m.settled.news(s, m.settled.open(s, proved), view)
	updated, movable := make([]bool, len(views)), map[*plan.Service]bool{}
	for i, v := range views {
		svc := v.Service
		movable[svc] = v.Proof.Enough && !v.LosesPorts()
		if v.Proof.Enough && svc.Shape != "" && svc.From == "" {
			was, known := m.proven[svc.Object.UID]
			updated[i] = known && was != svc.Shape
			m.proven[svc.Object.UID] = svc.Shape
		}
	}
	s.heldBack = m.backends.add(views, m.settled.say, time.Now())
	m.settled.held = s.heldBack
	r.metrics.reportServices(s.balancer.Name, func() (all []conditions.Service) {
		for _, svc := range s.plan.Services {
			all = append(all, view(svc))
		}
		return all
	})
	ready, blocked := s.plan.Ready(func(svc *plan.Service) bool { return movable[svc] })
	quiet := make([]bool, len(views))
	err := each(ctx, indexes(views), func(ctx context.Context, i int) (err error) {
		v := views[i]
		switch {
		case ready[v.Service]:
			return r.takeOver(ctx, s, v.Service)
		case v.From != "":
			return r.reportArrival(ctx, v.Object, v.Arriving(blocked[v.Object.UID]))
		case v.Staying && len(v.Addresses) == 0:
			return nil // nobody was told of an address: whoever takes it over tells the first
		}
		if quiet[i], err = r.publishService(ctx, s, v, updated[i]); err != nil || len(v.Others) == 0 {
			return err
		}
		return r.promote(ctx, s, v.Service)
	})
	for i, v := range views {
		m.settled.note(v, quiet[i], v.Since <= proved)
	}
	return err
}

// proved is the record of a Service once its users are told what was proved: with what
// those of an exposed one were told, and without what every host has proved to be there
// no longer.
func (r *balancerReconciler) proved(s *scope, v conditions.Service) record.Record {
	now := record.Of(v.Object)
	if exposed(v.Object) && v.Proof.Enough {
		now.Published = v.Told()
	}
	if r.settled(s, v) {
		now.Holders, now.Carrier, now.Addresses = []string{s.balancer.Name}, s.balancer.Name, v.Addresses
	}
	return now
}

// settled reports whether a Service is nowhere but where it is to be.
func (r *balancerReconciler) settled(s *scope, v conditions.Service) bool {
	if len(v.Others) > 0 || v.Staying || !v.Proof.All || len(v.Addresses) == 0 {
		return false
	}
	states := r.fleet.States(s.balancer.Name)
	return !slices.ContainsFunc(record.Addresses(v.Object), func(a netip.Addr) bool {
		still := func(host deliver.State) bool { return mayHave(host, a, s.plan.Set) }
		return !slices.Contains(v.Addresses, a) && slices.ContainsFunc(states, still)
	})
}

// exposed reports whether a Service is told its addresses by annotation: the API server
// keeps the status of one of type NodePort free of them.
func exposed(svc *corev1.Service) bool { return svc.Spec.Type == corev1.ServiceTypeNodePort }

// publishService brings one Service's status to what it should be, with its record, and
// tells what changed. It is quiet where nothing is to be written.
func (r *balancerReconciler) publishService(ctx context.Context, s *scope, v conditions.Service, updated bool) (quiet bool, err error) {
	svc, status, metadata := v.Object, object{}, object(nil)
	var ingress []corev1.LoadBalancerIngress
	if !exposed(svc) {
		ingress = v.Ingress()
		if !equality.Semantic.DeepEqual(svc.Status.LoadBalancer.Ingress, ingress) {
			status["loadBalancer"] = object{"ingress": ingress}
		}
	}
	wanted := v.Conditions()
	patch, changed := conditionsPatch(svc.Status.Conditions, wanted)
	was, now := record.Of(svc), r.proved(s, v)
	final := true
	if record.Held(svc) { // else it could not be written before, so it is not now
		var more []any
		metadata, more = recordPatch(svc, now)
		patch, final = append(patch, more...), len(metadata)+len(more) == 0 // somebody may wait for an address
	}
	if len(patch) > 0 {
		status["conditions"] = patch
	}
	quiet = len(status)+len(metadata) == 0
	if !quiet {
		if err := r.patch.status(ctx, svc, metadata, status, final); err != nil {
			return false, err
		}
	}
	r.tell(ctx, s.memory, svc, ingressAddresses(ingress), news(wanted, changed), updated && !exposed(svc))
	if exposed(svc) && record.Held(svc) && !slices.Equal(was.Published, now.Published) {
		r.events.normal(ctx, svc, v1alpha1.EventEnsured, "%s answers", record.FormatAddresses(now.Published))
	}
	return quiet, nil
}

// recordPatch is what a patch of a status needs to change the record of a Service, and
// the annotation that tells the users of an exposed one.
func recordPatch(svc *corev1.Service, now record.Record) (metadata object, patch []any) {
	metadata = object{}
	if write := now.Patch(svc); write != nil {
		metadata = write.Metadata
		patch, _ = conditionsPatch(svc.Status.Conditions, []metav1.Condition{write.Condition})
	}
	told := record.FormatAddresses(now.Published)
	if exposed(svc) && told != "" && svc.Annotations[v1alpha1.AssignedAddressesAnnotation] != told {
		annotations, _ := metadata["annotations"].(object)
		if annotations == nil {
			annotations = object{}
		}
		annotations[v1alpha1.AssignedAddressesAnnotation] = told
		metadata["annotations"] = annotations
	}
	return metadata, patch
}

// tell writes the events of what changed for a Service.
func (r *balancerReconciler) tell(ctx context.Context, m *memory, svc *corev1.Service, has string, changed []metav1.Condition, updated bool) {
	had := ingressAddresses(svc.Status.LoadBalancer.Ingress)
	told, _ := m.answers.Swap(svc.UID, has)
	if has != "" && had != has {
		if told != has { // else somebody else has overwritten it
			r.events.normal(ctx, svc, v1alpha1.EventEnsured, "%s answers", has)
		}
		updated = false
	}
	for _, c := range changed {
		switch {
		case c.Type == v1alpha1.ConditionMoving: // told where it turns
		case c.Reason == v1alpha1.ReasonPending: // it is on its way
		case c.Type == v1alpha1.ConditionBackendsHealthy && c.Reason != v1alpha1.ReasonNoNodeUp: // its condition is enough
		case c.Type == v1alpha1.ConditionBackendsHealthy:
			r.events.warning(ctx, svc, v1alpha1.EventUnavailable, "every host says that its nodes are down: %s", c.Message)
		case c.Reason == v1alpha1.ReasonNoEligibleNodes, c.Reason == v1alpha1.ReasonNoEndpoints:
			r.events.warning(ctx, svc, v1alpha1.EventUnavailable, "%s", c.Message)
		case c.Type == v1alpha1.ConditionPortsError,
			c.Type == v1alpha1.ConditionServiceProgrammed && (c.Status == metav1.ConditionFalse || c.Message != conditions.ProgrammedMessage):
			reason := v1alpha1.EventSyncFailed
			if had != "" {
				reason = v1alpha1.EventUpdateFailed
			}
			r.events.warning(ctx, svc, reason, "%s", c.Message)
		case had != "" && had == has:
			updated = true
		}
	}
	if updated {
		r.events.normal(ctx, svc, v1alpha1.EventUpdated, "the change is live")
	}
}

// news are the conditions that say more than another one of those that are wanted: why
// some ports are not carried is said of them and of the Service.
func news(wanted, changed []metav1.Condition) []metav1.Condition {
	return slices.DeleteFunc(changed, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionServiceProgrammed && slices.ContainsFunc(wanted, func(o metav1.Condition) bool {
			return o.Type == v1alpha1.ConditionPortsError && o.Reason == c.Reason && (c.Status == metav1.ConditionTrue || o.Message == c.Message)
		})
	})
}

func ingressAddresses(ingress []corev1.LoadBalancerIngress) string {
	var out []string
	for _, in := range ingress {
		out = append(out, cmp.Or(in.IP, in.Hostname))
	}
	return strings.Join(out, ",")
}

// conditionsPatch is what a strategic merge patch needs to bring conditions to
// what they should be, and those that turn. Other words alone are no news.
func conditionsPatch(have, want []metav1.Condition) (patch []any, changed []metav1.Condition) {
	for _, c := range want {
		c = conditions.Bounded(c)
		old := meta.FindStatusCondition(have, c.Type)
		switch {
		case c.Status == "" && old == nil:
		case c.Status == "":
			patch = append(patch, object{"type": c.Type, "$patch": "delete"})
		case old != nil && old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message:
		default:
			c.LastTransitionTime = metav1.Now()
			if old != nil && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			patch = append(patch, c)
			if toTell(old, c) {
				changed = append(changed, c)
			}
		}
	}
	return patch, changed
}

// withdrawnStatus takes what we wrote out of a Service's status, the record, too. The
// ingress of a Service of another class is its provider's.
func withdrawnStatus(svc *corev1.Service, ourClass bool) object {
	status := object{}
	if ourClass && len(svc.Status.LoadBalancer.Ingress) > 0 {
		status["loadBalancer"] = object{"ingress": nil}
	}
	gone := []metav1.Condition{
		{Type: v1alpha1.ConditionServiceProgrammed}, {Type: v1alpha1.ConditionMoving}, {Type: v1alpha1.ConditionRecord},
		{Type: v1alpha1.ConditionBackendsHealthy},
	}
	if ourClass || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || ourPortsError(svc) {
		gone = append(gone, metav1.Condition{Type: v1alpha1.ConditionPortsError})
	}
	if patch, _ := conditionsPatch(svc.Status.Conditions, gone); len(patch) > 0 {
		status["conditions"] = patch
	}
	return status
}

// ourPortsError reports whether the condition that all providers share is ours: it says
// what our own one says.
func ourPortsError(svc *corev1.Service) bool {
	ports := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionPortsError)
	programmed := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	return ports != nil && programmed != nil && ports.Reason == programmed.Reason && strings.Contains(programmed.Message, ports.Message)
}
