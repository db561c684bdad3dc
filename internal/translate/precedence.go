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
	*targeting
	defaults *v1alpha1.UpstreamSettings
}

// targeting are the policies of one Service.
type targeting struct {
	policies []*v1alpha1.UpstreamPolicy // that count, the oldest first
	// sections are those that target a port, by its name, and as "" those for the whole Service.
	sections map[string][]*v1alpha1.UpstreamPolicy
	// closed are the sections for which one has TLS that does not count, and words its keys.
	closed map[string]bool
	words  []byte
}

// MaxPolicies of a Service: more would cost all who wait for the manager. The youngest count for nothing.
const MaxPolicies = 32

// nobody targets it.
var nobody = &targeting{}

// decided is what decides on the settings of a port.
type decided struct {
	section  string
	protocol lb.Protocol
}

// section is where the policies of a port are found: under its name, or where those of all other ports are.
func (p precedence) section(port string) string {
	if len(p.sections[port]) > 0 {
		return port
	}
	return ""
}

// at lists the settings for a section, the strongest first: policies for the port,
// policies for the Service, the Balancer's defaults.
func (p precedence) at(section string) []*v1alpha1.UpstreamSettings {
	var out []*v1alpha1.UpstreamSettings
	for _, s := range slices.Compact([]string{section, ""}) {
		for _, policy := range p.sections[s] {
			out = append(out, &policy.Spec.UpstreamSettings)
		}
	}
	if p.defaults != nil {
		out = append(out, p.defaults)
	}
	return out
}

// resolve settles every field for a section: the strongest level that sets it to something
// that the engine can do.
func (p precedence) resolve(carriers engine.Carriers, section string, protocol lb.Protocol) lb.Settings {
	engine := carriers.For(protocol)
	out := builtIn(engine, protocol)
	levels := p.at(section)
	for _, f := range fields {
		f.settle(&out, levels, engine, protocol)
	}
	return out
}

// use of a section's ports: their mode is settled as by resolve.
func (p precedence) use(carriers engine.Carriers, section string, protocol lb.Protocol) use {
	engine := carriers.For(protocol)
	out := builtIn(engine, protocol)
	modeField.settle(&out, p.at(section), engine, protocol)
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

// policyIndex finds the policies of a Service.
type policyIndex map[types.NamespacedName]*targeting

func indexPolicies(policies []*v1alpha1.UpstreamPolicy) policyIndex {
	index := policyIndex{}
	for _, p := range byAge(policies) {
		for _, ref := range p.Spec.TargetRefs {
			if !isService(ref) {
				continue
			}
			key := types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}
			if index[key] == nil {
				index[key] = &targeting{sections: map[string][]*v1alpha1.UpstreamPolicy{}}
			}
			index[key].add(p, ref.SectionName)
		}
	}
	return index
}

// add a policy for a section, younger than those that are there.
func (t *targeting) add(p *v1alpha1.UpstreamPolicy, section string) {
	last := func(all []*v1alpha1.UpstreamPolicy) bool { return len(all) > 0 && all[len(all)-1] == p }
	switch {
	case last(t.policies):
	case len(t.policies) < MaxPolicies:
		t.policies = append(t.policies, p)
	default:
		if p.Spec.TLS != nil && !t.closed[section] {
			if t.closed == nil {
				t.closed = map[string]bool{}
			}
			t.closed[section] = true
			t.words = append(append(t.words, section...), 0)
		}
		return
	}
	if !last(t.sections[section]) {
		t.sections[section] = append(t.sections[section], p)
	}
}

// counts reports whether a policy is not one too many.
func (t *targeting) counts(p *v1alpha1.UpstreamPolicy) bool {
	return slices.ContainsFunc(t.policies, func(o *v1alpha1.UpstreamPolicy) bool { return o.Name == p.Name })
}

// of a Service, without the settings that do not do for it: they are told, and count for
// nothing. Their TLS stays: without it, ports would be open.
func (index policyIndex) of(svc *corev1.Service) *targeting {
	all := index[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}]
	if all == nil {
		return nobody
	}
	unread := map[*v1alpha1.UpstreamPolicy]*v1alpha1.UpstreamPolicy{}
	for _, p := range all.policies {
		if checkFor(&p.Spec.UpstreamSettings, svc) != nil {
			bare := *p
			bare.Spec.UpstreamSettings = v1alpha1.UpstreamSettings{}
			unread[p] = &bare
		}
	}
	if len(unread) == 0 {
		return all
	}
	without := func(policies []*v1alpha1.UpstreamPolicy) []*v1alpha1.UpstreamPolicy {
		out := slices.Clone(policies)
		for i, p := range out {
			out[i] = cmp.Or(unread[p], p)
		}
		return out
	}
	out := &targeting{policies: without(all.policies), sections: map[string][]*v1alpha1.UpstreamPolicy{}, closed: all.closed, words: all.words}
	for section, policies := range all.sections {
		out.sections[section] = without(policies)
	}
	return out
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
