package plan

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
	"github.com/external-lb/external-lb/internal/translate"
)

// Plan makes the plan for what Assign settled. Services whose record is not
// written yet are told about, but not on the hosts.
func (p *Planner) Plan(s *Snapshot, a *Assignments) (*Plan, error) {
	in := translate.Input{Balancer: s.Balancer, Nodes: s.Nodes, Slices: s.Slices, Policies: s.Policies, Certificates: s.Certificates}
	programmed := make(map[types.UID][]netip.Addr, len(a.Carried))
	for _, svc := range a.Carried {
		assigned := a.ByService[svc.UID]
		if on := programmable(svc, s.Balancer.Name, assigned); len(on) > 0 {
			programmed[svc.UID] = on
			in.Services = append(in.Services, translate.Service{Object: svc, Addresses: on, Withheld: withheld(assigned)})
		}
	}
	translated := p.translator.Translate(in)
	set, err := p.renderer.Render(translated.Config)
	unrendered, unfit, err := renderErrors(err)
	if err != nil {
		return nil, err
	}
	if parked := a.parked(); translated.Config.VRRP != nil && len(parked) > 0 {
		set = set.Without(parked...)
	}
	sets, err := forHosts(set, translated.Config.VRRP, s.Balancer)
	if err != nil {
		return nil, err
	}
	out := &Plan{
		Set:          set,
		Sets:         sets,
		Nodes:        translated.Nodes,
		NodesProblem: translated.NodesProblem,
		Unsupported:  translated.Unsupported,
		Elsewhere:    slices.DeleteFunc(slices.Clone(a.Elsewhere), func(svc *corev1.Service) bool { return s.target(svc) == nil }),
		Unfit:        unfit,
	}
	out.PoolNotes = s.poolNotes(out.Elsewhere)
	shapes := make(map[types.UID]string, len(translated.Config.Services))
	for _, svc := range translated.Config.Services {
		shapes[types.UID(svc.ID.UID)] = shape(svc)
	}
	for _, svc := range a.Carried {
		addresses, on := programmed[svc.UID]
		if !on {
			addresses = a.ByService[svc.UID].Addresses
		}
		view := &Service{Object: svc, Addresses: addresses, Shape: shapes[svc.UID], Direct: s.Balancer.Spec.Direct()}
		view.Path, _ = Path(svc)
		if translated.Config.VRRP != nil && !a.waitsForAddress(svc) {
			for _, a := range view.Addresses {
				view.Addressed = append(view.Addressed, AddressPath(a))
			}
		}
		if result := translated.Services[svc.UID]; result != nil {
			view.PortErrors = result.PortErrors
		}
		s.addMove(view, a)
		view.Problems = problems(a, translated.Services[svc.UID], svc, unrendered[svc.UID])
		if a.ByService[svc.UID].Notice != "" && a.roles[svc.UID] == carried {
			if why := s.strayed(svc); why != "" {
				view.Problems = append(view.Problems, Problem{v1alpha1.ReasonAddressUnavailable, why, false})
			}
		}
		out.Services = append(out.Services, view)
	}
	for _, svc := range a.Waiting {
		out.Services = append(out.Services, &Service{Object: svc, Problems: []Problem{{
			Reason: v1alpha1.ReasonWithdrawing, Fatal: true,
			Message: fmt.Sprintf("%s has not confirmed yet that it no longer carries this Service", InWords(a.holders(svc))),
		}}})
	}
	return out, nil
}

// forHosts is what each host of a Balancer runs.
func forHosts(shared *fileset.Set, vrrp *lb.VRRP, b *v1alpha1.Balancer) (map[string]*fileset.Set, error) {
	if vrrp != nil {
		return render.ForHosts(shared, vrrp)
	}
	sets := make(map[string]*fileset.Set, len(b.Spec.Hosts))
	for _, h := range b.Spec.Hosts {
		sets[h.Name] = shared
	}
	return sets, nil
}

// renderErrors sorts out Services that could not be rendered, or not by custom
// templates, from a renderer that could not work. The second result has what is
// wrong with the templates.
func renderErrors(err error) (unrendered map[types.UID]error, unfit []string, _ error) {
	unrendered = map[types.UID]error{}
	if err == nil {
		return unrendered, nil, nil
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, e := range all {
		_, template := errors.AsType[*render.TemplateError](e)
		one, service := errors.AsType[*render.ServiceError](e)
		if !template && !service {
			return nil, nil, err
		}
		if template {
			unfit = append(unfit, e.Error())
		}
		if service {
			unrendered[types.UID(one.ID.UID)] = one.Err
		}
	}
	return unrendered, unfit, nil
}

func withheld(a ipam.Assignment) []lb.Listener {
	var out []lb.Listener
	for _, c := range slices.Concat(a.Conflicts, a.Withheld) {
		out = append(out, c.Listener)
	}
	return out
}

// problems collects what a Service's owner should know, the fatal ones first.
func problems(a *Assignments, result *translate.ServiceResult, svc *corev1.Service, unrendered error) []Problem {
	var fatal, rest []Problem
	add := func(p Problem) {
		if p.Fatal {
			fatal = append(fatal, p)
		} else {
			rest = append(rest, p)
		}
	}
	assigned := a.ByService[svc.UID]
	nowhere := len(assigned.Addresses) == 0
	if p := a.invalid[svc.UID]; p != nil {
		add(Problem{p.Reason, p.Message, nowhere})
	} else if p := assigned.Problem; p != nil {
		add(Problem{p.Reason, p.Message, nowhere})
	}
	if assigned.Notice != "" {
		add(Problem{v1alpha1.ReasonAddressUnavailable, assigned.Notice, false})
	}
	if _, template := errors.AsType[*render.TemplateError](unrendered); template {
		add(Problem{v1alpha1.ReasonTemplatesInvalid, "carried with the built-in templates: " + unrendered.Error(), false})
	} else if unrendered != nil {
		add(Problem{v1alpha1.ReasonInvalidSpec, unrendered.Error(), true})
	}
	if result != nil {
		for _, p := range result.Problems {
			add(Problem(p))
		}
	}
	return append(fatal, rest...)
}

// shape changes with what a Service's owner changed, and not with nodes.
func shape(svc *lb.Service) string {
	h := fnv.New128a()
	for _, f := range svc.Frontends {
		fmt.Fprintf(h, "%s %d %t %v %s %v|", f.Listener, f.NodePort, f.Direct, f.Allow, f.Affinity, f.Settings)
	}
	return string(h.Sum(nil))
}

// Path of the fragment that carries a Service, if it can have one.
func Path(svc *corev1.Service) (string, bool) {
	id, err := lb.NewID(svc.Namespace, svc.Name, string(svc.UID))
	return render.Path(id), err == nil
}

// AddressPath is the path of what brings an address to a host.
func AddressPath(a netip.Addr) string { return render.AddressPath(a) }

// NameOf is the Service that a fragment carries, as namespace/name.
func NameOf(path string) string {
	if id, ok := render.ParsePath(path); ok {
		return id.String()
	}
	return path
}

// Fatal is the problem that keeps the Service off the hosts, nil if none does.
func (s *Service) Fatal() *Problem {
	if len(s.Problems) > 0 && s.Problems[0].Fatal {
		return &s.Problems[0]
	}
	return nil
}

// ProblemsInWords joins the messages of all problems.
func (s *Service) ProblemsInWords() string {
	words := make([]string, len(s.Problems))
	for i, p := range s.Problems {
		words[i] = p.Message
	}
	return strings.Join(words, "; ")
}

// PortsProblem is why some ports are not carried, nil if all are.
func (s *Service) PortsProblem() *Problem {
	for i, p := range s.Problems {
		switch p.Reason {
		case v1alpha1.ReasonMixedProtocol, v1alpha1.ReasonNoNodePort, v1alpha1.ReasonNoCertificate, v1alpha1.ReasonTLSNotSupported:
			return &s.Problems[i]
		}
	}
	return nil
}

// PortError is why a port is not carried.
func (s *Service) PortError(port corev1.ServicePort) (string, bool) {
	e, failed := s.PortErrors[translate.PortKey{Protocol: port.Protocol, Port: port.Port}]
	return e, failed
}

// ClassMatches reports whether a Service of type LoadBalancer asks for the class
// that a Balancer serves, whether or not that still serves anything.
func ClassMatches(b *v1alpha1.Balancer, svc *corev1.Service) bool {
	if svc.Spec.LoadBalancerClass == nil {
		return true // a Service without a class that we carried has no other provider yet
	}
	return *svc.Spec.LoadBalancerClass == Class(b)
}
