package plan

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
)

// Plan makes the plan for what Assign settled. Services whose record is not
// written yet are told about, but not on the hosts. An error is a fault of this
// program.
func (p *Planner) Plan(s *Snapshot, a *Assignments) (*Plan, error) {
	programmed := make(map[types.UID][]netip.Addr, len(a.Carried))
	for _, svc := range a.Carried {
		if on := programmable(svc, s.Balancer.Name, a.ByService[svc.UID]); len(on) > 0 {
			programmed[svc.UID] = on
		}
	}
	translated := p.translator.Translate(input(s, a, programmed))
	if err := p.encode(s.Balancer, translated); err != nil {
		return nil, err
	}
	out := &Plan{
		Set:          p.set,
		Sets:         maps.Clone(p.sets),
		Nodes:        translated.Config.Nodes,
		NodesProblem: translated.NodesProblem,
		Unread:       translated.Unread,
		ControlPlane: translated.ControlPlane,
		Unweighed:    translated.Unweighed,
		Unbacked:     translated.Unbacked,
		Unsupported:  translated.Unsupported,
		Elsewhere:    slices.DeleteFunc(slices.Clone(a.Elsewhere), func(svc *corev1.Service) bool { return s.target(svc) == nil }),
	}
	out.PoolNotes = s.poolNotes(out.Elsewhere)
	made := p.made(translated.Config.Services)
	for _, svc := range a.Carried {
		view := &Service{Object: svc, Addresses: programmed[svc.UID], Direct: s.Balancer.Spec.Direct()}
		if view.Addresses == nil {
			view.Addresses = a.ByService[svc.UID].Addresses
		}
		view.Key, _ = Key(svc)
		if m, ok := made[svc.UID]; ok {
			view.Shape, view.Listeners = m.shape, len(m.Frontends)
			view.Targets = []lb.Targets{m.IPv4.Targets, m.IPv6.Targets}
		}
		if translated.VRRP != nil && !a.waitsForAddress(svc) {
			for _, a := range view.Addresses {
				view.Addressed = append(view.Addressed, lb.AddressKey(a))
			}
		}
		s.addProblems(view, a, translated.Services[svc.UID])
		s.addMove(view, a) // which ports are carried counts there
		out.Services = append(out.Services, view)
	}
	for _, svc := range a.Waiting {
		out.Services = append(out.Services, &Service{Object: svc, Problems: []Problem{{
			Reason: v1alpha1.ReasonWithdrawing, Fatal: true,
			Message: fmt.Sprintf("%s has not confirmed yet that it no longer carries this Service", NameBalancers(a.holders(svc))),
		}}})
	}
	return out, nil
}

// input of the translation: the Services that may be programmed, where they may.
func input(s *Snapshot, a *Assignments, programmed map[types.UID][]netip.Addr) translate.Input {
	in := translate.Input{
		Balancer: s.Balancer, Nodes: s.Nodes, Slices: s.Slices, Policies: s.Policies, Certificates: s.Certificates,
		Elsewhere: a.elsewhere(),
	}
	for _, svc := range a.Carried {
		if on := programmed[svc.UID]; on != nil {
			in.Services = append(in.Services, translate.Service{Object: svc, Addresses: on, Withheld: withheld(a.ByService[svc.UID])})
		}
	}
	return in
}

// encode makes the Sets of the hosts. One that says the same stays the same.
func (p *Planner) encode(b *v1alpha1.Balancer, translated translate.Output) error {
	set, err := p.encoder.Encode(translated.Config)
	if err != nil {
		return fmt.Errorf("Balancer %s: %w", b.Name, err)
	}
	if p.set == nil || p.set.Digest() != set.Digest() {
		p.set = set
	}
	sets := make(map[string]*lb.Set, len(b.Spec.AllHosts()))
	for _, h := range b.Spec.AllHosts() {
		sets[h.Name] = p.set
		if v := translated.VRRP[h.Name]; v != nil {
			item, err := lb.EncodeVRRP(v)
			if err != nil {
				return fmt.Errorf("Balancer %s: %w", b.Name, err)
			}
			sets[h.Name] = p.set.With(item)
		}
		if was := p.sets[h.Name]; was != nil && was.Digest() == sets[h.Name].Digest() {
			sets[h.Name] = was
		}
	}
	p.sets = sets
	return nil
}

// shaped is a Service of the model and its shape.
type shaped struct {
	*lb.Service
	shape string
}

// made finds what became of Services, with their shapes.
func (p *Planner) made(services []*lb.Service) map[types.UID]shaped {
	out, next := make(map[types.UID]shaped, len(services)), make(map[*lb.Service]string, len(services))
	for _, svc := range services {
		known, ok := p.shapes[svc]
		if !ok {
			known = shape(svc)
		}
		next[svc], out[types.UID(svc.ID.UID)] = known, shaped{svc, known}
	}
	p.shapes = next
	return out
}

func withheld(a ipam.Assignment) []lb.Listener {
	var out []lb.Listener
	for _, c := range slices.Concat(a.Conflicts, a.Withheld) {
		out = append(out, c.Listener)
	}
	return out
}

// addProblems adds what became of a Service, and what its owner should know of that,
// the fatal problems first.
func (s *Snapshot) addProblems(view *Service, a *Assignments, result *translate.ServiceResult) {
	svc := view.Object
	var all []Problem
	assigned := a.ByService[svc.UID]
	nowhere := len(assigned.Addresses) == 0
	if p := a.invalid[svc.UID]; p != nil {
		all = append(all, Problem{p.Reason, p.Message, nowhere})
	} else if p := assigned.Problem; p != nil {
		all = append(all, Problem{p.Reason, p.Message, nowhere})
	}
	if why := s.unshared(svc, assigned.Addresses); why != "" {
		all = append(all, Problem{v1alpha1.ReasonInvalidAnnotation, why, false})
	}
	if assigned.Notice != "" {
		all = append(all, Problem{v1alpha1.ReasonAddressUnavailable, assigned.Notice, false})
	}
	if result != nil {
		view.PortErrors = result.PortErrors
		for _, p := range result.Problems {
			all = append(all, Problem(p))
		}
	}
	if assigned.Notice != "" && a.roles[svc.UID] == carried {
		if why := s.servedElsewhere(svc); why != "" {
			all = append(all, Problem{v1alpha1.ReasonAddressUnavailable, why, false})
		}
	}
	var fatal, rest []Problem
	for i, p := range all {
		switch {
		case p.Fatal:
			fatal = append(fatal, p)
		case !slices.ContainsFunc(all[i+1:], func(o Problem) bool { return o.Message == p.Message }): // else it is told there
			rest = append(rest, p)
		}
	}
	view.Problems = append(fatal, rest...)
}

// unshared says why the addresses of a Service are not shared, although it asks for that as
// another provider has it; "" if they are, or it does not.
func (s *Snapshot) unshared(svc *corev1.Service, addresses []netip.Addr) string {
	annotation := translate.RequestedSharing(svc, s.Balancer.Spec.ForeignAnnotations...)
	if annotation == "" {
		return ""
	}
	var apart []string
	for _, p := range s.Pools {
		switch {
		case len(addresses) > 0 && !slices.ContainsFunc(addresses, p.Contains):
		case p.SharePorts:
			return ""
		default:
			apart = append(apart, p.Name)
		}
	}
	if len(apart) == 0 {
		return ""
	}
	return fmt.Sprintf("the annotation %s changes nothing: an AddressPool says whether Services share its addresses, and %s does not; set its sharing: Ports, or remove the annotation",
		annotation, strings.Join(apart, ", "))
}

// shape changes with what a Service's owner changed, and not with nodes.
func shape(svc *lb.Service) string {
	h := fnv.New128a()
	fmt.Fprintf(h, "%v %v %s %t|", svc.IPv4.Clients, svc.IPv6.Clients, svc.Affinity, svc.Direct)
	for _, f := range svc.Frontends {
		fmt.Fprintf(h, "%s %d %v|", f.Listener, f.NodePort, f.Settings)
	}
	return string(h.Sum(nil))
}

// Key of the item that carries a Service, if it can have one.
func Key(svc *corev1.Service) (lb.Key, bool) {
	id, err := lb.NewID(svc.Namespace, svc.Name, string(svc.UID))
	return lb.ServiceKey(id), err == nil
}

// Fatal is the problem that keeps the Service off the hosts, nil if none does.
func (s *Service) Fatal() *Problem {
	if len(s.Problems) > 0 && s.Problems[0].Fatal {
		return &s.Problems[0]
	}
	return nil
}

// ProblemMessages joins the messages of all problems.
func (s *Service) ProblemMessages() string {
	messages := make([]string, len(s.Problems))
	for i, p := range s.Problems {
		messages[i] = p.Message
	}
	return strings.Join(messages, "; ")
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
