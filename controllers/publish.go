package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/plan"
)

// proof is what the hosts say of one Service.
type proof struct {
	enough  bool     // hosts proved exactly what is desired
	all     bool     // hosts proved exactly what is desired
	refused []string // "host: reason"
	settled bool     // no host has anything on its way that could change this
}

// prove holds a Service's fragment against what the hosts proved.
func prove(b *v1alpha1.Balancer, set *fileset.Set, svc *plan.Service, states []deliver.State, refusals map[string][]string) proof {
	p := proof{settled: !slices.ContainsFunc(states, pending), refused: refusals[svc.Path]}
	proved := func(s deliver.State) bool {
		for _, path := range append([]string{svc.Path}, svc.Addressed...) {
			if file, rendered := set.Get(path); !rendered || !s.Serves(path, file.Sum) {
				return false
			}
		}
		return true
	}
	hosts := serving(b, states)
	p.enough = count(hosts, proved) >= needed(b, len(hosts)) && activeProved(b, states, proved) &&
		!slices.ContainsFunc(hosts, func(s deliver.State) bool { return !proved(s) && coming(s, svc.Path) })
	p.all = count(states, proved) == len(states)
	return p
}

func count(states []deliver.State, which func(deliver.State) bool) (n int) {
	for _, s := range states {
		if which(s) {
			n++
		}
	}
	return n
}

// refusalsByPath collects what hosts left out, in words.
func refusalsByPath(states []deliver.State) map[string][]string {
	out := map[string][]string{}
	for _, s := range states {
		for _, refusal := range s.Refused {
			out[refusal.Path] = append(out[refusal.Path], s.Host+": "+refusal.Reason)
		}
	}
	return out
}

// publish tells every carried Service what became of it.
func (r *balancerReconciler) publish(ctx context.Context, b *v1alpha1.Balancer, kept *memory, a *plan.Assignments, desired *plan.Plan, states []deliver.State) error {
	hosts, refusals := whyUnproved(b, states), refusalsByPath(states)
	live := map[string]bool{}
	type job struct {
		svc    *plan.Service
		proof  proof
		update bool
	}
	var jobs []job
	enough := map[*plan.Service]bool{}
	for _, svc := range desired.Services {
		live[string(svc.Object.UID)] = true
		p := prove(b, desired.Set, svc, states, refusals)
		enough[svc] = p.enough
		update := false
		if p.enough && svc.Shape != "" && svc.From == "" {
			was, known := kept.proven[svc.Object.UID]
			update = known && was != svc.Shape
			kept.proven[svc.Object.UID] = svc.Shape
		}
		jobs = append(jobs, job{svc, p, update})
	}
	for uid := range kept.proven {
		if !live[string(uid)] {
			delete(kept.proven, uid)
		}
	}
	ready, blocked := desired.Ready(func(svc *plan.Service) bool { return enough[svc] })
	return each(ctx, jobs, func(ctx context.Context, j job) error {
		switch {
		case ready[j.svc]:
			return r.takeOver(ctx, b, a.Record(j.svc.Object), j.svc)
		case j.svc.From != "":
			return r.reportArrival(ctx, b, j.svc, movingFrom(b, j.svc, j.proof, blocked[j.svc.Object.UID], hosts))
		case j.svc.Staying && len(j.svc.Addresses) == 0:
			return nil // nobody was told of an address: whoever takes it over tells the first
		}
		if err := r.publishService(ctx, b, j.svc, j.proof, hosts, j.update); err != nil {
			return err
		}
		return r.settle(ctx, b, a, desired.Set, j.svc, j.proof)
	})
}

// settle takes from the record what a Service had before, once every host
// has proved that it is there no longer.
func (r *balancerReconciler) settle(ctx context.Context, b *v1alpha1.Balancer, assigned *plan.Assignments, desired *fileset.Set, svc *plan.Service, p proof) error {
	if len(svc.Others) > 0 || svc.Staying {
		return r.comeFirst(ctx, b, assigned.Record(svc.Object), svc)
	}
	if !p.all || !plan.Held(svc.Object) || len(svc.Addresses) == 0 {
		return nil
	}
	for _, a := range plan.HeldAddresses(svc.Object) {
		if !slices.Contains(svc.Addresses, a) && len(mayHave(a, desired, r.fleet.States(b.Name))) > 0 {
			return nil
		}
	}
	if patch := holdPatch(svc.Object, plan.Record{Holders: []string{b.Name}, Carrier: b.Name, Addresses: svc.Addresses}); patch != nil {
		return r.patch.metadata(ctx, svc.Object, patch)
	}
	return nil
}

// publishService brings one Service's status to what it should be and tells
// what changed.
func (r *balancerReconciler) publishService(ctx context.Context, b *v1alpha1.Balancer, svc *plan.Service, p proof, hosts string, updated bool) error {
	if svc.Object.Spec.Type == corev1.ServiceTypeNodePort {
		return r.publishExposed(ctx, b, svc, p, hosts)
	}
	want := desiredStatus(b, svc, p, hosts)
	have := &svc.Object.Status
	status := object{}
	if !equality.Semantic.DeepEqual(have.LoadBalancer.Ingress, want.ingress) {
		status["loadBalancer"] = object{"ingress": want.ingress}
	}
	conditions, changed := conditionsPatch(have.Conditions, want.conditions)
	if len(conditions) > 0 {
		status["conditions"] = conditions
	}
	if len(status) > 0 {
		if err := r.patch.status(ctx, svc.Object, status); err != nil {
			return err
		}
	}
	r.tell(ctx, svc, want, changed, updated)
	return nil
}

// tell writes the events of what changed for a Service.
func (r *balancerReconciler) tell(ctx context.Context, svc *plan.Service, want serviceStatus, changed []metav1.Condition, updated bool) {
	had, has := ingressAddresses(svc.Object.Status.LoadBalancer.Ingress), ingressAddresses(want.ingress)
	if has != "" && had != has {
		r.events.normal(ctx, svc.Object, v1alpha1.EventEnsured, "%s answers", has)
		updated = false
	}
	for _, c := range changed {
		switch {
		case c.Type == v1alpha1.ConditionMoving: // told where it turns
		case c.Reason == v1alpha1.ReasonNoEligibleNodes:
			r.events.warning(ctx, svc.Object, v1alpha1.EventUnavailable, "%s", c.Message)
		case c.Type == v1alpha1.ConditionPortsError,
			c.Type == v1alpha1.ConditionServiceProgrammed && (c.Status == metav1.ConditionFalse || c.Message != programmedMessage):
			reason := v1alpha1.EventSyncFailed
			if had != "" {
				reason = v1alpha1.EventUpdateFailed
			}
			r.events.warning(ctx, svc.Object, reason, "%s", c.Message)
		case had != "" && had == has:
			updated = true
		}
	}
	if updated {
		r.events.normal(ctx, svc.Object, v1alpha1.EventUpdated, "the change is live")
	}
}

// serviceStatus is what a Service's status should say.
type serviceStatus struct {
	ingress []corev1.LoadBalancerIngress
	// conditions that should be there; nil: leave as it is, and
	// Status "": should not be there.
	conditions []metav1.Condition
}

const programmedMessage = "its listeners are proved to be live"

// desiredStatus decides what users of a Service are told. An address appears
// once it was proved, and stays from then on.
func desiredStatus(b *v1alpha1.Balancer, svc *plan.Service, p proof, hosts string) serviceStatus {
	published := plan.Published(svc.Object)
	if !plan.Held(svc.Object) {
		published = nil // by another provider
	}
	var s serviceStatus
	for _, a := range svc.Addresses {
		if p.enough || slices.Contains(published, a) {
			s.ingress = append(s.ingress, ingress(a, svc))
		}
	}
	if len(s.ingress) == 0 && len(svc.Addresses) == 0 && plan.Held(svc.Object) {
		s.ingress = svc.Object.Status.LoadBalancer.Ingress // nothing better is known
	}
	s.conditions = append(s.conditions, portsCondition(svc))
	s.conditions = append(s.conditions, moved(b, svc)...)
	if c, known := programmedCondition(svc, p, hosts); known {
		s.conditions = append(s.conditions, c)
	}
	return s
}

func ingress(a netip.Addr, svc *plan.Service) corev1.LoadBalancerIngress {
	mode := corev1.LoadBalancerIPModeProxy
	if svc.Direct {
		mode = corev1.LoadBalancerIPModeVIP
	}
	in := corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode}
	if len(svc.PortErrors) == 0 {
		return in
	}
	for _, port := range svc.Object.Spec.Ports {
		status := corev1.PortStatus{Port: port.Port, Protocol: port.Protocol}
		if e, failed := svc.PortError(port); failed {
			status.Error = &e
		}
		in.Ports = append(in.Ports, status)
	}
	return in
}

// portsCondition says which ports are not carried (KEP-1435).
func portsCondition(svc *plan.Service) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionPortsError}
	if problem := svc.PortsProblem(); problem != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, problem.Reason, problem.Message
	}
	return c
}

// programmedCondition sums a Service up. It is not known while a delivery is on
// its way: then what was said before stays.
func programmedCondition(svc *plan.Service, p proof, hosts string) (metav1.Condition, bool) {
	c := metav1.Condition{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionFalse}
	problems := svc.ProblemsInWords()
	switch {
	case svc.Fatal() != nil:
		c.Reason, c.Message = svc.Fatal().Reason, problems
	case p.enough:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonProgrammed, programmedMessage
		if len(svc.Problems) > 0 {
			c.Reason, c.Message = svc.Problems[0].Reason, problems
		}
		if len(p.refused) > 0 {
			c.Reason, c.Message = v1alpha1.ReasonRefused, "not on every host: "+strings.Join(p.refused, "; ")
		}
	case len(p.refused) > 0:
		c.Reason, c.Message = v1alpha1.ReasonRefused, strings.Join(p.refused, "; ")
	case svc.Shape == "" && len(svc.Problems) > 0: // none of its listeners is left
		c.Reason, c.Message = svc.Problems[0].Reason, problems
	case p.settled && hosts != "":
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, "too few hosts can prove it: "+hosts
	default:
		return c, false
	}
	return c, true
}

// conditionsPatch is what a strategic merge patch needs to bring conditions to
// what they should be, and those that change in what they say.
func conditionsPatch(have, want []metav1.Condition) (patch []any, changed []metav1.Condition) {
	for _, c := range want {
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
			changed = append(changed, c)
		}
	}
	return patch, changed
}

// withdrawnStatus takes what we wrote out of a Service's status, nil if nothing
// is there. The ingress of a Service of another class is its provider's.
func withdrawnStatus(svc *corev1.Service, ourClass bool) object {
	status := object{}
	if ourClass && len(svc.Status.LoadBalancer.Ingress) > 0 {
		status["loadBalancer"] = object{"ingress": nil}
	}
	gone := []metav1.Condition{{Type: v1alpha1.ConditionServiceProgrammed}, {Type: v1alpha1.ConditionMoving}}
	if ourClass || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		gone = append(gone, metav1.Condition{Type: v1alpha1.ConditionPortsError})
	}
	if conditions, _ := conditionsPatch(svc.Status.Conditions, gone); len(conditions) > 0 {
		status["conditions"] = conditions
	}
	if len(status) == 0 {
		return nil
	}
	return status
}

// publishExposed tells a Service of type NodePort, whose status the API server
// keeps free of addresses, by annotation and event.
func (r *balancerReconciler) publishExposed(ctx context.Context, b *v1alpha1.Balancer, svc *plan.Service, p proof, hosts string) error {
	want := moved(b, svc)
	if c, known := programmedCondition(svc, p, hosts); known {
		want = append(want, c)
	}
	if conditions, changed := conditionsPatch(svc.Object.Status.Conditions, want); len(conditions) > 0 {
		if err := r.patch.status(ctx, svc.Object, object{"conditions": conditions}); err != nil {
			return err
		}
		r.tell(ctx, svc, serviceStatus{}, changed, false)
	}
	list := plan.FormatAddresses(svc.Addresses)
	if !p.enough || svc.Object.Annotations[v1alpha1.AssignedAddressesAnnotation] == list {
		return nil
	}
	patch := object{"annotations": object{v1alpha1.AssignedAddressesAnnotation: list}}
	if err := r.patch.metadata(ctx, svc.Object, patch); err != nil {
		return err
	}
	r.events.normal(ctx, svc.Object, v1alpha1.EventEnsured, "%s answers", list)
	return nil
}

func ingressAddresses(ingress []corev1.LoadBalancerIngress) string {
	var out []string
	for _, in := range ingress {
		out = append(out, in.IP)
	}
	return strings.Join(out, ",")
}

// whyUnproved says why hosts do not prove what they should, "" if nothing is wrong.
func whyUnproved(b *v1alpha1.Balancer, states []deliver.State) string {
	words := hostsInWords(states)
	if words == "" && !activeProved(b, states, func(deliver.State) bool { return true }) {
		return "no host has the addresses: see keepalived on the hosts"
	}
	return words
}

// hostsInWords says what is wrong with which host.
func hostsInWords(states []deliver.State) string {
	var out []string
	for _, s := range states {
		if s.State != v1alpha1.HostInSync {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", s.Host, s.State, s.Message), ": "))
		}
	}
	return strings.Join(out, "; ")
}
