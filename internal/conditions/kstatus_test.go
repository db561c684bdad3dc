package conditions

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
)

// kstatus is what sigs.k8s.io/cli-utils, and so Flux and kpt, make of an object of a kind
// that they do not know, by its documented rules.
func kstatus(of *metav1.ObjectMeta, observed int64, conditions []metav1.Condition) string {
	ready := meta.FindStatusCondition(conditions, "Ready")
	switch {
	case of.DeletionTimestamp != nil:
		return "Terminating"
	case observed != of.Generation, meta.IsStatusConditionTrue(conditions, "Reconciling"):
		return "InProgress"
	case meta.IsStatusConditionTrue(conditions, "Stalled"):
		return "Failed"
	case ready != nil && ready.Status != metav1.ConditionTrue:
		return "InProgress"
	default:
		return "Current"
	}
}

// observed is the generation that Ready is about, which controllers write as the status'.
func observed(conditions []metav1.Condition) int64 {
	return meta.FindStatusCondition(conditions, v1alpha1.ConditionReady).ObservedGeneration
}

func TestToolsUnderstandEveryKind(t *testing.T) {
	balancer := func(b Balancer) string {
		c := b.Conditions()
		return kstatus(&b.Object.ObjectMeta, observed(c), c)
	}
	pool := func(reason string) string {
		p := Pool{Object: builder.AddressPool("public").Obj()}
		p.Object.Generation = 3
		if reason != "" {
			p.Problem = &ipam.Problem{Reason: reason, Message: "problem"}
		}
		c := p.Conditions()
		return kstatus(&p.Object.ObjectMeta, observed(c), c)
	}
	policy := func(reasons ...string) string {
		p := builder.UpstreamPolicy("default", "p").Obj()
		p.Generation = 4
		var targets []v1alpha1.PolicyTargetStatus
		for _, reason := range reasons {
			c := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: "False", Reason: reason, ObservedGeneration: 4}
			switch reason {
			case v1alpha1.ReasonAccepted:
				c.Status = "True"
			case v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonCertificateExpired:
				c.Type = v1alpha1.ConditionCertificateReady
			}
			targets = append(targets, v1alpha1.PolicyTargetStatus{Conditions: []metav1.Condition{c}})
		}
		s := Policy(p, targets)
		return kstatus(&p.ObjectMeta, s.ObservedGeneration, s.Conditions)
	}
	on := func(state v1alpha1.HostState) deliver.State { return deliver.State{Host: "lb1", State: state} }
	unreadable := func(b *Balancer) {
		b.Plan.Unread = &translate.Problem{Reason: v1alpha1.ReasonInvalid, Message: "spec.nodes.selector"}
	}
	deleted := func(b *Balancer) { b.Object.DeletionTimestamp = new(metav1.Now()) }
	for name, c := range map[string]struct{ got, want string }{
		"Balancer, never looked at":      {kstatus(&metav1.ObjectMeta{Generation: 1}, 0, nil), "InProgress"},
		"Balancer, first delivery":       {balancer(facts(on(v1alpha1.HostDelivering))), "InProgress"},
		"Balancer, proved":               {balancer(facts(on(v1alpha1.HostInSync))), "Current"},
		"Balancer, Services refused":     {balancer(facts(on(v1alpha1.HostPartial))), "Current"},
		"Balancer, new generation":       {balancer(facts(on(v1alpha1.HostDelivering)).said()), "InProgress"},
		"Balancer, hosts out of reach":   {balancer(facts(on(v1alpha1.HostUnreachable))), "InProgress"},
		"Balancer, hosts that fail":      {balancer(facts(on(v1alpha1.HostFailed))), "InProgress"},
		"Balancer, cannot be read":       {balancer(facts(on(v1alpha1.HostInSync)).said().with(unreadable)), "Failed"},
		"Balancer, being deleted":        {balancer(facts(on(v1alpha1.HostInSync)).with(deleted)), "Terminating"},
		"AddressPool, in force":          {pool(""), "Current"},
		"AddressPool, without Balancer":  {pool(v1alpha1.ReasonUnknownBalancer), "InProgress"},
		"AddressPool, cannot be read":    {pool(v1alpha1.ReasonInvalid), "Failed"},
		"AddressPool, overlaps":          {pool(v1alpha1.ReasonOverlap), "Failed"},
		"UpstreamPolicy, in force":       {policy(v1alpha1.ReasonAccepted, v1alpha1.ReasonAccepted), "Current"},
		"UpstreamPolicy, before Service": {policy(v1alpha1.ReasonAccepted, v1alpha1.ReasonTargetNotFound), "InProgress"},
		"UpstreamPolicy, before Secret":  {policy(v1alpha1.ReasonAccepted, v1alpha1.ReasonSecretNotFound), "InProgress"},
		"UpstreamPolicy, old Secret":     {policy(v1alpha1.ReasonAccepted, v1alpha1.ReasonCertificateExpired), "Current"},
		"UpstreamPolicy, cannot be read": {policy(v1alpha1.ReasonTargetNotFound, v1alpha1.ReasonInvalid), "Failed"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
}
