package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
)

// finding is what a user would be told about an object.
type finding struct {
	object          string
	reason, message string
	refused         bool // not only a remark
}

type findings []finding

// findings of a plan, sorted by object.
func (o *objects) findings(p *planned) findings {
	var out findings
	for name, problem := range p.pools {
		out = append(out, finding{"AddressPool " + name, problem.Reason, problem.Message, true})
	}
	for _, svc := range p.Services {
		for _, problem := range svc.Problems {
			out = append(out, finding{"Service " + name(svc.Object), problem.Reason, problem.Message, problem.Fatal})
		}
		if text := o.assumed[name(svc.Object)]; text != "" {
			out = append(out, finding{"Service " + name(svc.Object), "NodePortsAssumed", text, false})
		}
	}
	for pool, note := range p.PoolNotes {
		out = append(out, finding{"AddressPool " + pool, note.Reason, note.Message, false})
	}
	if n := p.NodesProblem; n != nil && n != p.Unread {
		out = append(out, finding{"Balancer " + p.balancer.Name, n.Reason, n.Message, false})
	}
	if u := p.Unread; u != nil {
		out = append(out, finding{"Balancer " + p.balancer.Name, u.Reason, u.Message, true})
	}
	if c := p.ControlPlane; c != nil {
		out = append(out, finding{"Balancer " + p.balancer.Name, c.Reason, c.Message, c.Fatal})
	}
	if p.Unweighed != "" {
		out = append(out, finding{"Balancer " + p.balancer.Name, v1alpha1.ReasonInvalidAnnotation, p.Unweighed, false})
	}
	if p.Unbacked != "" {
		out = append(out, finding{"Balancer " + p.balancer.Name, v1alpha1.ReasonUnsupported, p.Unbacked, false})
	}
	for _, u := range p.Unsupported {
		out = append(out, finding{"Balancer " + p.balancer.Name, v1alpha1.ReasonUnsupported, u, false})
	}
	out = append(out, o.policyFindings()...)
	slices.SortStableFunc(out, func(a, b finding) int { return cmp.Compare(a.object, b.object) })
	return out
}

// policyFindings are what policies would be told that is not all well.
func (o *objects) policyFindings() findings {
	claims := o.claims()
	carrier := func(svc *corev1.Service) (translate.Carrier, bool) {
		b := claims.Of(svc)
		if b == nil {
			return translate.Carrier{}, false
		}
		return translate.Carrier{Balancer: b.Name, Engines: translate.Carriers(b), Defaults: &b.Spec.Defaults}, true
	}
	policies := map[string][]*v1alpha1.UpstreamPolicy{}
	for _, p := range o.policies {
		policies[p.Namespace] = append(policies[p.Namespace], p)
	}
	services := map[string][]*corev1.Service{}
	for _, svc := range o.services {
		services[svc.Namespace] = append(services[svc.Namespace], svc)
	}
	var out findings
	for namespace := range policies {
		for name, targets := range translate.PolicyStatus(policies[namespace], services[namespace], carrier, o.certificates, time.Now()) {
			out = append(out, targetFindings("UpstreamPolicy "+namespace+"/"+name, targets)...)
		}
	}
	return out
}

func targetFindings(object string, targets []v1alpha1.PolicyTargetStatus) findings {
	var out findings
	for _, t := range targets {
		for _, c := range t.Conditions {
			if translate.Wrong(c) {
				out = append(out, finding{object, c.Reason, c.Message, c.Reason == v1alpha1.ReasonInvalid})
			}
		}
	}
	return out
}

// sources are addresses that a host has for what Services say of them; of a range it is one
// of many, which is told.
func (f *findings) sources(parts map[lb.Key]any) (out []netip.Addr) {
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		s, ok := parts[key].(*lb.Service)
		if !ok {
			continue
		}
		for _, frontend := range s.Frontends {
			in := *frontend.Settings.Source.Of(frontend.Listener.Address.Is4())
			if !in.IsValid() || slices.ContainsFunc(out, in.Contains) {
				continue
			}
			a := in.Addr()
			if !in.IsSingleIP() {
				a = a.Next()
				text := fmt.Sprintf("sourceAddresses: %s is assumed. Each host takes the first one in %s that its admit.sources names", a, in)
				*f = append(*f, finding{"Service " + s.ID.Namespace + "/" + s.ID.Name, "SourceAssumed", text, false})
			}
			out = append(out, a)
		}
	}
	return out
}

// about keeps the findings of one object.
func (f findings) about(object string) findings {
	return slices.DeleteFunc(f, func(f finding) bool { return f.object != object })
}

// print a table, and fail if anything was refused.
func (f findings) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	refused := map[string]bool{}
	for _, line := range f {
		fmt.Fprintf(table, "%s\t%s\t%s\n", line.object, line.reason, plain(line.message))
		if line.refused {
			refused[line.object] = true
		}
	}
	if err := table.Flush(); err != nil || len(refused) == 0 {
		return err
	}
	counts, words := map[string]int{}, []string(nil)
	for object := range refused {
		kind, _, _ := strings.Cut(object, " ")
		if kind == "the" { // there is one of it
			words = append(words, object)
			continue
		}
		counts[kind]++
	}
	for kind, n := range counts {
		words = append(words, fmt.Sprintf("%d of kind %s", n, kind))
	}
	slices.Sort(words)
	return fmt.Errorf("refused: %s; the rest is rendered", strings.Join(words, ", "))
}
