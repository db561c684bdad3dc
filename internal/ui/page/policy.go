package page

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/translate"
)

// Policy is an UpstreamPolicy, as far as something is wrong with it.
type Policy struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Problems  []string `json:"problems,omitempty"`
}

func policyItem(p *v1alpha1.UpstreamPolicy) Policy {
	out := Policy{Namespace: p.Namespace, Name: p.Name}
	for _, target := range p.Status.Targets {
		for _, c := range target.Conditions {
			text := fmt.Sprintf("Service %s: %s", target.TargetRef.Name, words(c.Reason, c.Message, c.Type))
			if translate.Wrong(c) && len(out.Problems) < maxSummary && !slices.Contains(out.Problems, text) {
				out.Problems = append(out.Problems, text)
			}
		}
	}
	return out
}

// byTarget finds the policies that name a Service, each once.
func byTarget(policies []*v1alpha1.UpstreamPolicy) map[types.NamespacedName][]*v1alpha1.UpstreamPolicy {
	out := map[types.NamespacedName][]*v1alpha1.UpstreamPolicy{}
	for _, p := range policies {
		for _, target := range p.Status.Targets {
			key := types.NamespacedName{Namespace: p.Namespace, Name: target.TargetRef.Name}
			if !slices.Contains(out[key], p) {
				out[key] = append(out[key], p)
			}
		}
	}
	return out
}

// ofPolicies of a Service is what they are told about it: that they are in force, or what
// is wrong.
func (p *painter) ofPolicies(svc *corev1.Service) (out []Moment) {
	for _, policy := range p.targeted[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] {
		for _, target := range policy.Status.Targets {
			for _, c := range target.Conditions {
				bad := translate.Wrong(c)
				if target.TargetRef.Name == svc.Name && (bad || c.Type == v1alpha1.ConditionAccepted) {
					out = append(out, ofCondition("UpstreamPolicy "+policy.Name+" ", c, bad))
				}
			}
		}
	}
	return out
}
