package conditions

import (
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
	for _, t := range targets {
		for _, c := range t.Conditions {
			if c.Type == v1alpha1.ConditionAccepted && c.Status == metav1.ConditionFalse && accepted.Status == metav1.ConditionTrue {
				accepted = c
			}
			if out.Message == "" && translate.Wrong(c) {
				out.Message = c.Message
			}
		}
	}
	out.Accepted = string(accepted.Status)
	out.Conditions = []metav1.Condition{ready(accepted)}
	return out
}
