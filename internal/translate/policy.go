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
	index, seen := indexPolicies(policies), map[*corev1.Service]*targeted{}
	out := map[string][]v1alpha1.PolicyTargetStatus{}
	for _, p := range policies {
		statuses, wrong := make([]v1alpha1.PolicyTargetStatus, 0, len(p.Spec.TargetRefs)), check(&p.Spec.UpstreamSettings)
		for _, ref := range p.Spec.TargetRefs {
			t := target{policy: p, ref: ref, wrong: wrong}
			if svc := byName[ref.Name]; svc != nil {
				if seen[svc] == nil {
					by, carried := carrier(svc)
					seen[svc] = newTargeted(svc, by, carried, index)
				}
				t.targeted = seen[svc]
			}
			status := t.status()
			if p.Spec.TLS != nil {
				status.Conditions = append(status.Conditions, t.certificateReady(certificates.of(p.Namespace, p.Spec.TLS.SecretRef.Name), now))
			}
			statuses = append(statuses, status)
		}
		out[p.Name] = statuses
	}
	return out
}

// targeted is a Service that policies name, and what is the same for all of these.
type targeted struct {
	service    *corev1.Service
	by         Carrier
	carried    bool
	precedence precedence
	ports      map[string][]corev1.ServicePort // by section, as the uses
	uses       map[string][]use                // that were asked for
}

func newTargeted(svc *corev1.Service, by Carrier, carried bool, index policyIndex) *targeted {
	t := &targeted{svc, by, carried, precedence{index.of(svc), by.Defaults}, map[string][]corev1.ServicePort{"": svc.Spec.Ports}, map[string][]use{}}
	for i, p := range svc.Spec.Ports {
		if p.Name != "" {
			t.ports[p.Name] = append(t.ports[p.Name], svc.Spec.Ports[i])
		}
	}
	return t
}

// usesOf the ports of a section, each once.
func (t *targeted) usesOf(section string) []use {
	if all, known := t.uses[section]; known {
		return all
	}
	seen, uses := map[decided]bool{}, []use(nil)
	for _, port := range t.ports[section] {
		by := decided{t.precedence.section(port.Name), lb.Protocol(port.Protocol)}
		if seen[by] {
			continue
		}
		seen[by] = true
		if u := t.precedence.use(t.by.Engines, by.section, by.protocol); !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	t.uses[section] = uses
	return uses
}

// target is one of a policy.
type target struct {
	policy    *v1alpha1.UpstreamPolicy
	ref       v1alpha1.PolicyTargetReference
	wrong     error // with the policy
	*targeted       // nil: there is no such Service
}

func (t target) status() v1alpha1.PolicyTargetStatus {
	out := v1alpha1.PolicyTargetStatus{TargetRef: t.ref}
	if reason, message := t.refusal(); reason != "" {
		out.Conditions = []metav1.Condition{t.condition(v1alpha1.ConditionAccepted, false, reason, message)}
		return out
	}
	out.Balancer = t.by.Balancer
	conflicted := t.condition(v1alpha1.ConditionConflicted, false, v1alpha1.ReasonNoConflict, "no older policy sets the same fields")
	if conflicts := t.conflicts(); len(conflicts) > 0 {
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
	err := t.wrong
	tooMany := t.targeted != nil && isService(t.ref) && !t.precedence.counts(t.policy)
	if err == nil && t.targeted != nil && !tooMany {
		err = checkFor(&t.policy.Spec.UpstreamSettings, t.service)
	}
	switch {
	case err != nil:
		return v1alpha1.ReasonInvalid, err.Error()
	case !isService(t.ref):
		return v1alpha1.ReasonInvalid, fmt.Sprintf("the kind %s cannot be a target, only Service", quoted(t.ref.Kind))
	case t.targeted == nil:
		return v1alpha1.ReasonTargetNotFound, fmt.Sprintf("there is no Service %s in the namespace %s", name, t.policy.Namespace)
	case len(t.ports[t.ref.SectionName]) == 0:
		return v1alpha1.ReasonTargetNotFound, fmt.Sprintf("the Service %s has no port named %s", name, quoted(t.ref.SectionName))
	case !t.carried:
		return v1alpha1.ReasonTargetNotOurs, fmt.Sprintf("no Balancer carries the Service %s: see its type and loadBalancerClass", name)
	case tooMany:
		return v1alpha1.ReasonTooManyPolicies, tooManyPolicies
	}
	return "", ""
}

// unsupported lists the settings that do nothing for the target.
func (t target) unsupported() []string {
	uses := t.usesOf(t.ref.SectionName)
	out := unsupported(t.by.Engines, &t.policy.Spec.UpstreamSettings, uses)
	if reason := t.unsupportedTLS(uses); reason != "" {
		out = append(out, reason)
	}
	if t.service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out = append(out, overruled(t.by.Engines, &t.policy.Spec.UpstreamSettings, uses)...)
	}
	return out
}

// conflicts lists the fields that an older policy sets for the same target.
func (t target) conflicts() []string {
	older := t.precedence.sections[t.ref.SectionName]
	older = older[:slices.IndexFunc(older, func(o *v1alpha1.UpstreamPolicy) bool { return o.Name == t.policy.Name })]
	var out []string
	for _, f := range fields {
		if f.get(&t.policy.Spec.UpstreamSettings) == "" {
			continue
		}
		sets := func(o *v1alpha1.UpstreamPolicy) bool { return f.get(&o.Spec.UpstreamSettings) != "" }
		if i := slices.IndexFunc(older, sets); i >= 0 {
			out = append(out, fmt.Sprintf("%s by %s", f.name, older[i].Name))
		}
	}
	hasTLS := func(o *v1alpha1.UpstreamPolicy) bool { return o.Spec.TLS != nil }
	if i := slices.IndexFunc(older, hasTLS); i >= 0 && t.policy.Spec.TLS != nil {
		out = append(out, fmt.Sprintf("%s by %s", tlsField, older[i].Name))
	}
	return out
}

// tooManyPolicies is why some do nothing.
var tooManyPolicies = fmt.Sprintf("of all policies for one Service, the %d oldest count: put settings together, for the Service or for several of its ports", MaxPolicies)

// Wrong reports whether a condition of a target says something that its owner
// should correct.
func Wrong(c metav1.Condition) bool {
	switch c.Type {
	case v1alpha1.ConditionAccepted, v1alpha1.ConditionCertificateReady:
		return c.Status == metav1.ConditionFalse || c.Reason == v1alpha1.ReasonCertificateExpiring
	}
	return c.Status == metav1.ConditionTrue
}
