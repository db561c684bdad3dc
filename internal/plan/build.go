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
	in := a.input(s, p.inputs)
	p.inputs = in.Services
	translated := p.translator.Translate(in)
	if err := p.encode(s.Balancer, translated); err != nil {
		return nil, err
	}
	out := &Plan{
		Set:          p.set,
		Sets:         make(map[string]*lb.Set, len(p.sets)),
		Generations:  p.generations,
		Services:     make([]*Service, 0, len(a.Carried)+len(a.Waiting)),
		Nodes:        translated.Config.Nodes,
		NodesProblem: translated.NodesProblem,
		Unread:       translated.Unread,
		ControlPlane: translated.ControlPlane,
		Unweighed:    translated.Unweighed,
		Unbacked:     translated.Unbacked,
		Unsupported:  translated.Unsupported,
		Elsewhere:    slices.DeleteFunc(slices.Clone(a.Elsewhere), func(svc *corev1.Service) bool { return s.target(svc) == nil }),
	}
	for host, set := range p.sets {
		out.Sets[host] = set.all
	}
	for _, e := range a.carried {
		out.Services = append(out.Services, p.view(s, a, e, translated.VRRP != nil))
		out.Moves = out.Moves || e.role != carried || len(e.planned.holders) > 1
	}
	out.PoolNotes = s.poolNotes(out)
	for _, svc := range a.Waiting {
		out.Services = append(out.Services, &Service{Object: svc, Problems: []Problem{{
			Reason: v1alpha1.ReasonWithdrawing, Fatal: true,
			Message: fmt.Sprintf("%s has not confirmed yet that it no longer carries this Service", NameBalancers(a.holders(svc))),
		}}})
	}
	return out, nil
}

// view is what a Balancer does for a Service: the same pointer while that is the same.
func (p *Planner) view(s *Snapshot, a *Assignments, e *entry, brings bool) *Service {
	var result *translate.ServiceResult
	var made *lb.Service
	if e.planned.on != nil {
		result, made = e.planned.memory.Result(), e.planned.memory.Service()
	}
	stands := made == nil || made == e.planned.made
	if v := e.planned.view; v != nil && stands && e.planned.result == result && (v.Shape != "") == (made != nil) {
		return v
	}
	svc := e.planned.object
	view := &Service{Object: svc, Addresses: e.planned.on, Since: p.generation, Direct: s.Balancer.Spec.Direct()}
	if view.Addresses == nil {
		view.Addresses = e.assigned.Addresses
	}
	view.Key, _ = Key(svc)
	if made != nil {
		if made != e.planned.made {
			e.planned.made, e.planned.shape = made, shape(made)
		}
		view.Shape, view.Frontends = e.planned.shape, made.Frontends
		view.Targets, view.Pods = []lb.Targets{made.IPv4.Targets, made.IPv6.Targets}, made.Pods
	}
	if brings && !e.waitsForAddress(a.balancer) {
		for _, address := range view.Addresses {
			view.Addressed = append(view.Addressed, lb.AddressKey(address))
		}
	}
	s.addProblems(view, e, result)
	s.addMove(view, e) // which ports are carried counts there
	e.planned.result, e.planned.view = result, view
	return view
}

// input of the translation: the Services that may be programmed, where they may. Into is
// memory for them.
func (a *Assignments) input(s *Snapshot, into []translate.Service) translate.Input {
	in := translate.Input{
		Balancer: s.Balancer, Nodes: s.Nodes, Slices: s.Slices, Policies: s.Policies, Certificates: s.Certificates,
		Services: slices.Grow(into[:0], len(a.Carried)), Sorted: true, PodsUnread: s.PodsUnread,
	}
	waits := false
	for i, e := range a.carried {
		if svc := a.Carried[i]; e.planned.object != svc || e.planned.anew {
			a.program(e, svc)
		}
		waits = waits || e.waitsForAddress(a.balancer)
		if e.planned.on != nil {
			in.Services = append(in.Services, translate.Service{
				Object: e.planned.object, Addresses: e.planned.on, Withheld: e.planned.withheld, Memory: &e.planned.memory,
				Pods: s.Endpoints[types.NamespacedName{Namespace: e.planned.object.Namespace, Name: e.planned.object.Name}],
			})
		}
	}
	if waits {
		in.Elsewhere = a.elsewhere()
	}
	return in
}

// program settles where a Service may be programmed, as it is by now.
func (a *Assignments) program(e *entry, svc *corev1.Service) {
	p := &e.planned
	p.object, p.anew, p.view = svc, svc.ResourceVersion == "", nil
	p.on, p.withheld, p.holders = programmable(svc, a.balancer, e.assigned), withheld(e.assigned), a.holders(svc)
}

// encode makes the Sets of the hosts. One that says the same stays the same.
func (p *Planner) encode(b *v1alpha1.Balancer, translated translate.Output) error {
	set, err := p.encoder.Encode(translated.Config)
	if err != nil {
		return fmt.Errorf("Balancer %s: %w", b.Name, err)
	}
	p.set = set
	sets := make(map[string]hostSet, len(b.Spec.AllHosts()))
	for _, h := range b.Spec.AllHosts() {
		var own lb.Item
		if v := translated.VRRP[h.Name]; v != nil {
			var err error
			if own, err = lb.EncodeVRRP(v); err != nil {
				return fmt.Errorf("Balancer %s: %w", b.Name, err)
			}
		}
		sets[h.Name] = p.sets[h.Name].with(p.set, own)
	}
	if !maps.Equal(sets, p.sets) {
		p.sets = sets
		p.number()
	}
	return nil
}

// number the Sets of hosts.
func (p *Planner) number() {
	p.generation++
	p.generations = maps.Clone(p.generations)
	maps.DeleteFunc(p.generations, func(_ lb.Digest, g int) bool { return g < p.generation-knownGenerations })
	if p.generations == nil {
		p.generations = map[lb.Digest]int{}
	}
	for _, set := range p.sets {
		p.generations[set.all.Digest()] = p.generation
	}
}

// knownGenerations are more than a host is behind: one gets the newest, the others what that one has proved.
const knownGenerations = 100

// hostSet is the Set of one host: what all have, and an item of its own, if it has one.
type hostSet struct {
	common, all *lb.Set
	own         lb.Sum
}

func (h hostSet) with(common *lb.Set, own lb.Item) hostSet {
	if h.common == common && h.own == own.Sum {
		return h
	}
	now := hostSet{common: common, all: common, own: own.Sum}
	if own.Key != "" {
		now.all = common.With(own)
	}
	return now
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
func (s *Snapshot) addProblems(view *Service, e *entry, result *translate.ServiceResult) {
	svc, assigned := view.Object, &e.assigned
	var all []Problem
	nowhere := len(assigned.Addresses) == 0
	if p := e.invalid; p != nil {
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
	if assigned.Notice != "" && e.role == carried {
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
	for _, p := range s.own {
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
	fmt.Fprintf(h, "%v %v %s %t %s|", svc.IPv4.Clients, svc.IPv6.Clients, svc.Affinity, svc.Direct, svc.Flavor)
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
