package conditions

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/translate"
)

// Policy sums up what a policy does for its targets: its status, of which no condition
// is dated yet.
func Policy(p *v1alpha1.UpstreamPolicy, targets []v1alpha1.PolicyTargetStatus) v1alpha1.UpstreamPolicyStatus {
	out := v1alpha1.UpstreamPolicyStatus{Targets: targets, ObservedGeneration: p.Generation}
	accepted := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue,
		Reason: v1alpha1.ReasonAccepted, Message: "in force", ObservedGeneration: p.Generation,
	}
	in := []metav1.Condition{accepted}
	for _, t := range targets {
		for _, c := range t.Conditions {
			if c.Type == v1alpha1.ConditionAccepted && c.Status == metav1.ConditionFalse && worse(c, in[0]) {
				in[0] = c
			}
			if len(in) == 1 && notServed(c) {
				in = append(in, c) // it is one for all targets
			}
		}
	}
	if c := Worst(targets); c != nil {
		out.Message = c.Message
	}
	out.Accepted = string(in[0].Status)
	out.Conditions = whole(len(in), in...)[:2] // those of its targets say the rest
	return out
}

// Worst is the condition of a target that says first what is wrong; nil if nothing is. A certificate that
// expires may wait.
func Worst(targets []v1alpha1.PolicyTargetStatus) (worst *metav1.Condition) {
	for _, t := range targets {
		for _, c := range t.Conditions {
			if !translate.Wrong(c) {
				continue
			}
			if c.Reason != v1alpha1.ReasonCertificateExpiring {
				return &c
			}
			worst = cmp.Or(worst, &c)
		}
	}
	return worst
}

// worse reports whether a target that is not accepted says more than what was said
// before: what is missing may come, what cannot be read does not get better.
func worse(c, was metav1.Condition) bool {
	return was.Status == metav1.ConditionTrue || c.Reason == v1alpha1.ReasonInvalid && was.Reason != v1alpha1.ReasonInvalid
}

// notServed reports whether a condition says that there is no certificate to serve. One
// that is out of date is served.
func notServed(c metav1.Condition) bool {
	return c.Type == v1alpha1.ConditionCertificateReady && c.Status == metav1.ConditionFalse &&
		c.Reason != v1alpha1.ReasonCertificateExpired && c.Reason != v1alpha1.ReasonCertificateEarly
}
