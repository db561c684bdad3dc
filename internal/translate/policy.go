package translate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// Carrier is the Balancer that carries a Service.
type Carrier struct {
	Balancer string
	Engines  engine.Carriers
	Defaults *v1alpha1.UpstreamSettings // the Balancer's; nil: none
}

// PolicyStatus says what each policy of one namespace does for each of its
// targets, by the policy's name. services are those of the namespace; carrier
// finds who carries one; certificates are judged as of now.
func PolicyStatus(policies []*v1alpha1.UpstreamPolicy, services []*corev1.Service, carrier func(*corev1.Service) (Carrier, bool), certificates Certificates, now time.Time) map[string][]v1alpha1.PolicyTargetStatus {
	byName := map[string]*corev1.Service{}
	for _, svc := range services {
		byName[svc.Name] = svc
	}
	ordered, index := byAge(policies), indexPolicies(policies)
	out := map[string][]v1alpha1.PolicyTargetStatus{}
	for i, p := range ordered {
		statuses := make([]v1alpha1.PolicyTargetStatus, 0, len(p.Spec.TargetRefs))
		for _, ref := range p.Spec.TargetRefs {
			t := target{policy: p, ref: ref, service: byName[ref.Name]}
			if t.service != nil {
				t.by, t.carried = carrier(t.service)
				t.precedence = precedence{index.of(t.service), t.service.Name, t.by.Defaults}
			}
			status := t.status(ordered[:i])
			if p.Spec.TLS != nil {
				status.Conditions = append(status.Conditions, t.certificateReady(certificates.of(p.Namespace, p.Spec.TLS.SecretRef.Name), now))
			}
			statuses = append(statuses, status)
		}
		out[p.Name] = statuses
	}
	return out
}

// target is one of a policy.
type target struct {
	policy  *v1alpha1.UpstreamPolicy
	ref     v1alpha1.PolicyTargetReference
	service *corev1.Service // nil: there is none
	by      Carrier
	carried bool

	precedence precedence // of the service
}

func (t target) status(older []*v1alpha1.UpstreamPolicy) v1alpha1.PolicyTargetStatus {
	out := v1alpha1.PolicyTargetStatus{TargetRef: t.ref}
	if reason, message := t.refusal(); reason != "" {
		out.Conditions = []metav1.Condition{t.condition(v1alpha1.ConditionAccepted, false, reason, message)}
		return out
	}
	out.Balancer = t.by.Balancer
	conflicted := t.condition(v1alpha1.ConditionConflicted, false, v1alpha1.ReasonNoConflict, "no older policy sets the same fields")
	if conflicts := t.conflicts(older); len(conflicts) > 0 {
		conflicted = t.condition(v1alpha1.ConditionConflicted, true, v1alpha1.ReasonConflicted, "an older policy decides: "+strings.Join(conflicts, "; "))
	}
	unsupported := t.condition(v1alpha1.ConditionUnsupported, false, v1alpha1.ReasonSupported, fmt.Sprintf("%s does all of it", t.by.Engines))
	if cannot := t.unsupported(); len(cannot) > 0 {
		unsupported = t.condition(v1alpha1.ConditionUnsupported, true, v1alpha1.ReasonUnsupported, strings.Join(cannot, "; "))
	}
	out.Conditions = []metav1.Condition{t.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted, "in force"), conflicted, unsupported}
	return out
}

func (t target) condition(kind string, is bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: t.policy.Generation}
	if is {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// refusal is why a policy does nothing for a target, "" if it does something.
func (t target) refusal() (reason, message string) {
	name := clip(t.ref.Name)
	err := check(&t.policy.Spec.UpstreamSettings)
	if err == nil && t.service != nil {
		err = checkFor(&t.policy.Spec.UpstreamSettings, t.service)
	}
	switch {
	case err != nil:
		return v1alpha1.ReasonInvalid, err.Error()
	case !isService(t.ref):
		return v1alpha1.ReasonInvalid, fmt.Sprintf("the kind %s cannot be a target, only Service", quoted(t.ref.Kind))
	case t.service == nil:
		return v1alpha1.ReasonTargetNotFound, fmt.Sprintf("there is no Service %s in the namespace %s", name, t.policy.Namespace)
	case len(t.ports()) == 0:
		return v1alpha1.ReasonTargetNotFound, fmt.Sprintf("the Service %s has no port named %s", name, quoted(t.ref.SectionName))
	case !t.carried:
		return v1alpha1.ReasonTargetNotOurs, fmt.Sprintf("no Balancer carries the Service %s: see its type and loadBalancerClass", name)
	}
	return "", ""
}

// unsupported lists the settings that do nothing for the target.
func (t target) unsupported() []string {
	var uses []use
	for _, port := range t.ports() {
		if u := t.precedence.use(t.by.Engines, port.Name, lb.Protocol(port.Protocol)); !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	out := unsupported(t.by.Engines, &t.policy.Spec.UpstreamSettings, uses)
	if reason := t.unsupportedTLS(); reason != "" {
		out = append(out, reason)
	}
	if t.service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out = append(out, overruled(t.by.Engines, &t.policy.Spec.UpstreamSettings, uses)...)
	}
	return out
}

// ports that the target names.
func (t target) ports() []corev1.ServicePort {
	return slices.DeleteFunc(slices.Clone(t.service.Spec.Ports), func(p corev1.ServicePort) bool {
		return t.ref.SectionName != "" && p.Name != t.ref.SectionName
	})
}

// conflicts lists the fields that an older policy sets for the same target.
func (t target) conflicts(older []*v1alpha1.UpstreamPolicy) []string {
	p, ref := t.policy, t.ref
	var out []string
	for _, f := range fields {
		if f.get(&p.Spec.UpstreamSettings) == "" {
			continue
		}
		for _, o := range older {
			if o.Namespace == p.Namespace && targets(o, ref.Name, ref.SectionName) &&
				f.get(&o.Spec.UpstreamSettings) != "" && checkFor(&o.Spec.UpstreamSettings, t.service) == nil {
				out = append(out, fmt.Sprintf("%s by %s", f.name, o.Name))
				break
			}
		}
	}
	if by := tlsBy(p, ref, older); by != nil && p.Spec.TLS != nil {
		out = append(out, fmt.Sprintf("%s by %s", tlsField, by.Name))
	}
	return out
}

// Wrong reports whether a condition of a target says something that its owner
// should correct.
func Wrong(c metav1.Condition) bool {
	switch c.Type {
	case v1alpha1.ConditionAccepted, v1alpha1.ConditionCertificateReady:
		return c.Status == metav1.ConditionFalse || c.Reason == v1alpha1.ReasonCertificateExpiring
	}
	return c.Status == metav1.ConditionTrue
}
