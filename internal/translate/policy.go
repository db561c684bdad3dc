package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Carrier is the Balancer that carries a Service.
type Carrier struct {
	Balancer string
	Engine   lb.Engine
}

// PolicyStatus says what each policy of one namespace does for each of its
// targets. services are those of the namespace; carrier finds who carries one.
func PolicyStatus(policies []*v1alpha1.UpstreamPolicy, services []*corev1.Service, carrier func(*corev1.Service) (Carrier, bool)) map[string][]v1alpha1.PolicyTargetStatus {
	byName := map[string]*corev1.Service{}
	for _, svc := range services {
		byName[svc.Name] = svc
	}
	ordered := byAge(policies)
	out := map[string][]v1alpha1.PolicyTargetStatus{}
	for i, p := range ordered {
		targets := make([]v1alpha1.PolicyTargetStatus, 0, len(p.Spec.TargetRefs))
		for _, ref := range p.Spec.TargetRefs {
			targets = append(targets, targetStatus(p, ref, ordered[:i], byName[ref.Name], carrier))
		}
		out[p.Name] = targets
	}
	return out
}

func targetStatus(p *v1alpha1.UpstreamPolicy, ref v1alpha1.PolicyTargetReference, older []*v1alpha1.UpstreamPolicy, svc *corev1.Service, carrier func(*corev1.Service) (Carrier, bool)) v1alpha1.PolicyTargetStatus {
	status := v1alpha1.PolicyTargetStatus{TargetRef: ref}
	add := func(kind string, is bool, reason, message string) {
		c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: p.Generation}
		if is {
			c.Status = metav1.ConditionTrue
		}
		status.Conditions = append(status.Conditions, c)
	}
	refuse := func(reason, format string, args ...any) v1alpha1.PolicyTargetStatus {
		add(v1alpha1.ConditionAccepted, false, reason, fmt.Sprintf(format, args...))
		return status
	}
	if err := check(&p.Spec.UpstreamSettings); err != nil {
		return refuse(v1alpha1.ReasonInvalid, "%s", err)
	}
	if !isService(ref) {
		return refuse(v1alpha1.ReasonInvalid, "the kind %s cannot be a target, only Service", quoted(ref.Kind))
	}
	if svc == nil {
		return refuse(v1alpha1.ReasonTargetNotFound, "there is no Service %s in the namespace %s", ref.Name, p.Namespace)
	}
	protocols := targetProtocols(svc.Spec.Ports, ref.SectionName)
	if len(protocols) == 0 {
		return refuse(v1alpha1.ReasonTargetNotFound, "the Service %s has no port named %q", ref.Name, ref.SectionName)
	}
	by, carried := carrier(svc)
	if !carried {
		return refuse(v1alpha1.ReasonTargetNotOurs, "no Balancer carries the Service %s: see its type and loadBalancerClass", ref.Name)
	}
	status.Balancer = by.Balancer
	add(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted, "in force")
	if conflicts := conflicts(p, ref, older); len(conflicts) > 0 {
		add(v1alpha1.ConditionConflicted, true, v1alpha1.ReasonConflicted, "an older policy decides: "+strings.Join(conflicts, "; "))
	} else {
		add(v1alpha1.ConditionConflicted, false, v1alpha1.ReasonNoConflict, "no older policy sets the same fields")
	}
	cannot := unsupported(by.Engine, &p.Spec.UpstreamSettings, protocols)
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		cannot = append(cannot, overruled(by.Engine, &p.Spec.UpstreamSettings)...)
	}
	if len(cannot) > 0 {
		add(v1alpha1.ConditionUnsupported, true, v1alpha1.ReasonUnsupported, strings.Join(cannot, "; "))
	} else {
		add(v1alpha1.ConditionUnsupported, false, v1alpha1.ReasonSupported, fmt.Sprintf("%s does all of it", by.Engine))
	}
	return status
}

// targetProtocols are those of the ports that a target names.
func targetProtocols(ports []corev1.ServicePort, section string) []lb.Protocol {
	var out []lb.Protocol
	for _, port := range ports {
		p := lb.Protocol(port.Protocol)
		if (section == "" || port.Name == section) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// conflicts lists the fields that an older policy sets for the same target.
func conflicts(p *v1alpha1.UpstreamPolicy, ref v1alpha1.PolicyTargetReference, older []*v1alpha1.UpstreamPolicy) []string {
	var out []string
	for _, f := range fields {
		if f.get(&p.Spec.UpstreamSettings) == "" {
			continue
		}
		for _, o := range older {
			if o.Namespace == p.Namespace && targets(o, ref.Name, ref.SectionName) && f.get(&o.Spec.UpstreamSettings) != "" && check(&o.Spec.UpstreamSettings) == nil {
				out = append(out, fmt.Sprintf("%s by %s", f.name, o.Name))
				break
			}
		}
	}
	return out
}
