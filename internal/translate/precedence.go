package translate

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// precedence has the settings that apply to one Service.
type precedence struct {
	policies []*v1alpha1.UpstreamPolicy // that target it, the oldest first: see policyIndex.of
	service  string
	defaults *v1alpha1.UpstreamSettings
}

// at lists the settings for a port, the strongest first: policies for the port,
// policies for the Service, the Balancer's defaults.
func (p precedence) at(port string) []*v1alpha1.UpstreamSettings {
	var out []*v1alpha1.UpstreamSettings
	for _, policy := range p.policies {
		if port != "" && targets(policy, p.service, port) {
			out = append(out, &policy.Spec.UpstreamSettings)
		}
	}
	for _, policy := range p.policies {
		if targets(policy, p.service, "") {
			out = append(out, &policy.Spec.UpstreamSettings)
		}
	}
	if p.defaults != nil {
		out = append(out, p.defaults)
	}
	return out
}

// resolve settles every field: the strongest level that sets it to something
// that the engine can do.
func (p precedence) resolve(carriers engine.Carriers, port string, protocol lb.Protocol) lb.Settings {
	engine := carriers.For(protocol)
	out := builtIn(engine, protocol)
	levels := p.at(port)
	for _, f := range fields {
		f.settle(&out, levels, engine, protocol)
	}
	return out
}

// use of a port: its mode is settled as by resolve.
func (p precedence) use(carriers engine.Carriers, port string, protocol lb.Protocol) use {
	engine := carriers.For(protocol)
	out := builtIn(engine, protocol)
	modeField.settle(&out, p.at(port), engine, protocol)
	return use{protocol, out.Mode}
}

// settle a field by the strongest of some levels that sets it to something that the
// engine can do.
func (f field) settle(into *lb.Settings, levels []*v1alpha1.UpstreamSettings, engine *engine.Engine, protocol lb.Protocol) {
	for _, level := range levels {
		value := f.get(level)
		if value != "" && f.unsupported(engine, value, use{protocol, into.Mode}) == "" && f.set(into, value) == nil {
			return
		}
	}
}

// targets reports whether a policy names a Service, or with a section one port of it.
func targets(p *v1alpha1.UpstreamPolicy, service, section string) bool {
	return slices.ContainsFunc(p.Spec.TargetRefs, func(r v1alpha1.PolicyTargetReference) bool {
		return isService(r) && r.Name == service && r.SectionName == section
	})
}

// Targets are the names of the Services that a policy is for, in its namespace.
func Targets(p *v1alpha1.UpstreamPolicy) (names []string) {
	for _, r := range p.Spec.TargetRefs {
		if isService(r) {
			names = append(names, r.Name)
		}
	}
	return names
}

// isService reports whether a target is of the kind that there is.
func isService(r v1alpha1.PolicyTargetReference) bool { return r.Kind == "" || r.Kind == "Service" }

// policyIndex finds the policies of a Service, the oldest first.
type policyIndex map[types.NamespacedName][]*v1alpha1.UpstreamPolicy

func indexPolicies(policies []*v1alpha1.UpstreamPolicy) policyIndex {
	index := policyIndex{}
	for _, p := range byAge(policies) {
		seen := map[string]bool{}
		for _, ref := range p.Spec.TargetRefs {
			if !seen[ref.Name] {
				seen[ref.Name] = true
				key := types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}
				index[key] = append(index[key], p)
			}
		}
	}
	return index
}

// of a Service, without the settings that do not do for it: they are told, and count for
// nothing. Their TLS stays: without it, ports would be open.
func (index policyIndex) of(svc *corev1.Service) []*v1alpha1.UpstreamPolicy {
	all := slices.Clone(index[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}])
	for i, p := range all {
		if checkFor(&p.Spec.UpstreamSettings, svc) != nil {
			unread := *p
			unread.Spec.UpstreamSettings = v1alpha1.UpstreamSettings{}
			all[i] = &unread
		}
	}
	return all
}

func byAge(policies []*v1alpha1.UpstreamPolicy) []*v1alpha1.UpstreamPolicy {
	return slices.SortedFunc(slices.Values(policies), func(a, b *v1alpha1.UpstreamPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// unsupported lists the settings that no engine does for some use, or that
// cannot be read.
func unsupported(carriers engine.Carriers, s *v1alpha1.UpstreamSettings, uses []use) []string {
	var out []string
	for _, f := range fields {
		value := f.get(s)
		if value == "" {
			continue
		}
		if err := f.check(value); err != nil {
			out = append(out, err.Error())
			continue
		}
		out = append(out, told(carriers, f.capability(value), uses, func(e *engine.Engine, u use) string { return f.unsupported(e, value, u) })...)
	}
	return out
}

// told are the reasons why a field does nothing for some use: the first of each engine.
func told(carriers engine.Carriers, field engine.Field, uses []use, why func(*engine.Engine, use) string) (out []string) {
	said := map[*engine.Engine]bool{}
	for _, u := range uses {
		e := carriers.For(u.protocol)
		if reason := why(e, u); reason != "" && !said[e] {
			said[e] = true
			out = append(out, fmt.Sprintf("%s: %s%s", field, reason, carriers.Ports(u.protocol)))
		}
	}
	return out
}

// overruled lists the settings that a Service's session affinity decides instead.
func overruled(carriers engine.Carriers, s *v1alpha1.UpstreamSettings, uses []use) []string {
	var out []string
	for _, f := range fields {
		value := f.get(s)
		if value == "" {
			continue
		}
		field := f.capability(value)
		out = append(out, told(carriers, field, uses, func(e *engine.Engine, _ use) string { return e.Overruled(field) })...)
	}
	return out
}
