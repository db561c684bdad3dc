package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
)

// reportBalancer writes a Balancer's status where it differs.
func (r *balancerReconciler) reportBalancer(ctx context.Context, b *v1alpha1.Balancer, snap *plan.Snapshot, desired *plan.Plan, states []deliver.State) error {
	changed := b.DeepCopy()
	status := &changed.Status
	status.LoadBalancerClass = plan.Class(b)
	status.Services = int32(len(desired.Services))
	status.Nodes = int32(len(desired.Nodes))
	status.Hosts = hostStatuses(b, states)
	inSync := 0
	for _, h := range status.Hosts {
		if h.State == v1alpha1.HostInSync {
			inSync++
		}
	}
	status.HostsInSync = fmt.Sprintf("%d/%d", inSync, len(states))
	for _, c := range []metav1.Condition{
		acceptedBalancer(b, snap.Claims, desired),
		programmedBalancer(b, states),
		degradedBalancer(b, desired, states),
	} {
		c.ObservedGeneration = b.Generation
		meta.SetStatusCondition(&status.Conditions, c)
	}
	r.metrics.report(b.Name, states, desired)
	if equality.Semantic.DeepEqual(b.Status, *status) {
		return nil
	}
	if written, err := patchStatus(ctx, r.client, b, changed); err != nil || !written {
		return err
	}
	r.tellBalancer(ctx, b, status.Conditions)
	return nil
}

// tellBalancer writes an event for each condition that turned.
func (r *balancerReconciler) tellBalancer(ctx context.Context, b *v1alpha1.Balancer, now []metav1.Condition) {
	for _, c := range now {
		was := meta.FindStatusCondition(b.Status.Conditions, c.Type)
		if was != nil && was.Status == c.Status && was.Reason == c.Reason && (was.Message == c.Message || !aboutTemplates[c.Reason]) {
			continue
		}
		bad := c.Status == metav1.ConditionTrue == (c.Type == v1alpha1.ConditionDegraded) ||
			c.Type == v1alpha1.ConditionAccepted && c.Reason != v1alpha1.ReasonAccepted // in force in part
		switch {
		case bad && c.Reason != v1alpha1.ReasonPending && c.Reason != v1alpha1.ReasonTemplatesOnTrial:
			r.events.warning(ctx, b, c.Reason, "%s", c.Message)
		case was != nil && !bad:
			r.events.normal(ctx, b, c.Reason, "%s", c.Message)
		}
	}
}

// aboutTemplates are the reasons that are told again when their words are others:
// somebody has mended one mistake and comes to the next.
var aboutTemplates = map[string]bool{
	v1alpha1.ReasonTemplatesNotFound: true, v1alpha1.ReasonTemplatesInvalid: true, v1alpha1.ReasonTemplatesRefused: true,
}

// pending reports whether what a host runs is about to be known.
func pending(s deliver.State) bool {
	return s.State == v1alpha1.HostConnecting || s.State == v1alpha1.HostDelivering
}

// hostStatuses keeps what was said of a host of which nothing else is known yet:
// a restart of the controller is no change of the host.
func hostStatuses(b *v1alpha1.Balancer, states []deliver.State) []v1alpha1.HostStatus {
	said := b.Status.Hosts
	drained := map[string]bool{}
	for _, h := range b.Spec.Hosts {
		drained[h.Name] = h.Drain
	}
	out := make([]v1alpha1.HostStatus, 0, len(states))
	for _, s := range states {
		h := v1alpha1.HostStatus{
			Name: s.Host, State: s.State, EngineVersion: s.EngineVersion, Message: s.Message,
			Digest: s.Live.Short(), DesiredDigest: s.Desired.Short(),
		}
		if !s.LastApplied.IsZero() {
			h.LastAppliedTime = &metav1.Time{Time: s.LastApplied.Truncate(1e9)}
		}
		if i := slices.IndexFunc(said, func(was v1alpha1.HostStatus) bool { return was.Name == s.Host }); i >= 0 {
			was := said[i]
			if pending(s) && s.Message == "" && was.DesiredDigest == h.DesiredDigest {
				h = was
			}
			if h.LastAppliedTime == nil {
				h.LastAppliedTime = was.LastAppliedTime
			}
		}
		h.Draining = drained[s.Host]
		out = append(out, h)
	}
	return out
}

func acceptedBalancer(b *v1alpha1.Balancer, claims plan.Claims, desired *plan.Plan) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: "in force"}
	var oldest *v1alpha1.Balancer
	if defaults := claims.Defaults(); b.Spec.Default && len(defaults) > 0 {
		oldest = defaults[0]
	}
	switch {
	case b.DeletionTimestamp != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonWithdrawing, "being deleted: its Services are withdrawn from every host, or proved on another Balancer's, first"
	case oldest != nil && oldest.Name != b.Name:
		c.Reason = v1alpha1.ReasonDefaultTaken
		c.Message = fmt.Sprintf("Balancer %s is older and serves Services without a class; of these, this one serves those whose addresses are of its pools, and those for which the other has no pool", oldest.Name)
	case desired.NodesProblem != nil && desired.NodesProblem.Fatal:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, desired.NodesProblem.Reason, desired.NodesProblem.Message+"; what runs stays as it is"
	case desired.Templates != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, desired.Templates.Reason, desired.Templates.Message
	case desired.Trial != "":
		was := meta.FindStatusCondition(b.Status.Conditions, c.Type)
		if was != nil && was.Reason == v1alpha1.ReasonTemplatesRefused {
			return *was // until it is known to be better
		}
		c.Reason, c.Message = v1alpha1.ReasonTemplatesOnTrial, "in force; its templates are on trial until every host has proved a Service with them"
	case len(desired.Unfit) > 0:
		c.Reason = v1alpha1.ReasonTemplatesInvalid
		c.Message = "in force but for what the built-in templates had to make: " + strings.Join(desired.Unfit[:min(listed, len(desired.Unfit))], "; ")
	case claims.SameRouter(b) != nil:
		other := claims.SameRouter(b)
		c.Reason = v1alpha1.ReasonRouterIDShared
		c.Message = fmt.Sprintf("Balancer %s has the virtual router ID %d, too: if their hosts are on one network segment, give one of them another",
			other.Name, b.Spec.VirtualAddresses.VRRP.VirtualRouterID)
	default:
		if others := sameClass(claims, b); others != nil {
			c.Message = fmt.Sprintf("in force; the class %s is that of %s, too: each Service is served by the one whose pool has its addresses",
				plan.Class(b), plan.InWords(others))
		}
	}
	if cannot := strings.Join(desired.Unsupported, "; "); cannot != "" && c.Reason == v1alpha1.ReasonAccepted {
		c.Reason, c.Message = v1alpha1.ReasonUnsupported, "in force but for spec.defaults: "+cannot
	} else if cannot != "" {
		c.Message += "; not in force of spec.defaults: " + cannot
	}
	return c
}

// sameClass are the other Balancers with the class of one.
func sameClass(claims plan.Claims, b *v1alpha1.Balancer) (names []string) {
	for _, other := range claims.OfClass(plan.Class(b)) {
		if other.Name != b.Name {
			names = append(names, other.Name)
		}
	}
	return names
}

func programmedBalancer(b *v1alpha1.Balancer, states []deliver.State) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionFalse}
	good, coming, failed := 0, 0, 0
	hosts := serving(b, states)
	for _, s := range hosts {
		switch {
		case pending(s):
			coming++
		case s.State == v1alpha1.HostInSync, s.State == v1alpha1.HostPartial:
			good++
		case s.State == v1alpha1.HostFailed:
			failed++
		}
	}
	need := needed(b, len(hosts))
	switch {
	case good >= need:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonProgrammed, "enough hosts proved the configuration to be live"
	case good+coming >= need:
		// Said before and on its way again: a delivery is no reason to flap.
		if was := meta.FindStatusCondition(b.Status.Conditions, c.Type); was != nil && was.Status == metav1.ConditionTrue {
			return *was
		}
		c.Reason, c.Message = v1alpha1.ReasonPending, "waiting for hosts to prove the configuration"
	case failed > 0:
		c.Reason, c.Message = v1alpha1.ReasonHostsFailed, hostsInWords(states)
	default:
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, hostsInWords(states)
	}
	return c
}

// listed bounds how many objects a condition names.
const listed = 5

func degradedBalancer(b *v1alpha1.Balancer, desired *plan.Plan, states []deliver.State) metav1.Condition {
	was := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionDegraded)
	c := metav1.Condition{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue}
	refused := map[string]bool{}
	unreachable, failed := false, false
	for _, s := range states {
		unreachable = unreachable || s.State == v1alpha1.HostUnreachable
		failed = failed || s.State == v1alpha1.HostFailed
		for _, refusal := range s.Refused {
			refused[plan.NameOf(refusal.Path)] = true
		}
	}
	switch {
	case unreachable:
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, hostsInWords(states)
	case failed:
		c.Reason, c.Message = v1alpha1.ReasonHostsFailed, hostsInWords(states)
	case len(refused) > 0:
		names := make([]string, 0, len(refused))
		for name := range refused {
			names = append(names, name)
		}
		slices.Sort(names)
		c.Reason = v1alpha1.ReasonServicesRefused
		c.Message = fmt.Sprintf("%d Services were refused by a host, their events say why: %s", len(names), strings.Join(names[:min(listed, len(names))], ", "))
	case desired.NodesProblem != nil:
		c.Reason, c.Message = desired.NodesProblem.Reason, desired.NodesProblem.Message
	case was != nil && slices.ContainsFunc(states, pending):
		return *was // until it is known to be better
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonHealthy, "every host runs what is desired"
	}
	return c
}

// reportPools writes the statuses of a Balancer's pools where they differ.
func (r *balancerReconciler) reportPools(ctx context.Context, b *v1alpha1.Balancer, desired *plan.Plan, pools poolSet, usage map[string]ipam.Usage) error {
	mine := slices.DeleteFunc(pointers(pools.objects), func(p *v1alpha1.AddressPool) bool {
		return p.Spec.Balancer != b.Name
	})
	accepted := map[string]ipam.Usage{}
	for _, p := range mine {
		if used, ok := usage[p.Name]; ok {
			accepted[p.Name] = used
		}
	}
	r.metrics.reportPools(b.Name, accepted)
	return each(ctx, mine, func(ctx context.Context, p *v1alpha1.AddressPool) error {
		return r.reportPool(ctx, p, pools.problems[p.Name], desired.PoolNotes[p.Name], usage[p.Name])
	})
}

// reportOrphanPools tells pools that their Balancer does not exist.
func (r *balancerReconciler) reportOrphanPools(ctx context.Context, balancer string) error {
	pools, err := r.reader.pools(ctx)
	if err != nil {
		return err
	}
	orphans := slices.DeleteFunc(pointers(pools.objects), func(p *v1alpha1.AddressPool) bool { return p.Spec.Balancer != balancer })
	return each(ctx, orphans, func(ctx context.Context, p *v1alpha1.AddressPool) error {
		problem := pools.problems[p.Name]
		if problem == nil {
			problem = &ipam.Problem{
				Reason:  v1alpha1.ReasonUnknownBalancer,
				Message: fmt.Sprintf("there is no Balancer %q: create it, or correct spec.balancer", balancer),
			}
		}
		return r.reportPool(ctx, p, problem, nil, ipam.Usage{})
	})
}

// reportPool writes the status of a pool that has a problem, or is in force with
// or without a note.
func (r *balancerReconciler) reportPool(ctx context.Context, p *v1alpha1.AddressPool, problem, note *ipam.Problem, used ipam.Usage) error {
	changed := p.DeepCopy()
	changed.Status.IPv4, changed.Status.IPv6 = addressUsage(used.IPv4), addressUsage(used.IPv6)
	c := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonAccepted, Message: "in force", ObservedGeneration: p.Generation,
	}
	if note != nil {
		c.Reason, c.Message = note.Reason, note.Message
	}
	if problem != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, problem.Reason, problem.Message
	}
	meta.SetStatusCondition(&changed.Status.Conditions, c)
	if equality.Semantic.DeepEqual(p.Status, changed.Status) {
		return nil
	}
	if written, err := patchStatus(ctx, r.client, p, changed); err != nil || !written {
		return err
	}
	was := meta.FindStatusCondition(p.Status.Conditions, c.Type)
	if c.Reason != v1alpha1.ReasonAccepted && (was == nil || was.Reason != c.Reason || was.Message != c.Message) {
		r.events.warning(ctx, p, c.Reason, "%s", c.Message)
	}
	return nil
}

// addressUsage is nil for a family of which the pool has no addresses.
func addressUsage(u ipam.FamilyUsage) *v1alpha1.AddressUsage {
	if u.Capacity == 0 {
		return nil
	}
	return &v1alpha1.AddressUsage{Capacity: u.Capacity, Assigned: u.Assigned}
}
