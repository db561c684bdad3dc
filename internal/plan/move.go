package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// retained says what keeps an arriving Service on the Balancers that had it before,
// "" if nothing does. A name that nobody has may be a misspelt one.
func (s *Snapshot) retained(svc *corev1.Service) string {
	holders := record.Holders(svc)
	for _, a := range has(svc) {
		p := s.claims.poolOf(a)
		for _, name := range p.KeepOn {
			switch {
			case name == s.Balancer.Name:
			case !s.claims.exists(name):
				return fmt.Sprintf("spec.keepOn of AddressPool %s names Balancer %s, which does not exist: correct it or take it out", p.Name, name)
			case slices.Contains(holders, name):
				return fmt.Sprintf("spec.keepOn of AddressPool %s keeps Balancer %s: route the traffic to the hosts of Balancer %s, and then take %s out of it",
					p.Name, name, s.Balancer.Name, name)
			}
		}
	}
	return ""
}

// lostPorts says which ports of a Service answer on a Balancer and would not any more
// on another, because of its engine mostly; "" if none.
func (s *Service) lostPorts(from, b *v1alpha1.Balancer) string {
	var lost []string
	for _, port := range s.Object.Spec.Ports {
		if e, failed := s.PortError(port); failed && s.answers(port, from) {
			lost = append(lost, fmt.Sprintf("%d/%s (%s)", port.Port, port.Protocol, e))
		}
	}
	if lost == nil {
		return ""
	}
	return fmt.Sprintf("Balancer %s, with %s, cannot carry %s: take that out of the Service, give the pool back, or lose it by onLostPorts: Move of the pool",
		b.Name, translate.Carriers(b), strings.Join(lost, ", "))
}

// mayLose reports whether the owners of a Service's pools let it move without the ports that
// it would lose.
func (s *Snapshot) mayLose(svc *corev1.Service) bool {
	addresses := has(svc)
	stays := func(a netip.Addr) bool { p := s.claims.poolOf(a); return p == nil || !p.LosePorts }
	return len(addresses) > 0 && !slices.ContainsFunc(addresses, stays)
}

// idle reports whether an arriving Service of which nothing can be on the hosts is kept off
// those of the Balancer that carries it for the same reason: this tells so in its status.
func (s *Service) idle() bool {
	if len(s.Problems) == 0 {
		return false
	}
	told := meta.FindStatusCondition(s.Object.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	return told != nil && told.Status == metav1.ConditionFalse && told.Reason == s.Problems[0].Reason
}

// answers reports whether a port with an error may answer on the Balancer that
// carries its Service. A status tells; a NodePort Service has none, so that is what
// the engine can do.
func (s *Service) answers(port corev1.ServicePort, from *v1alpha1.Balancer) bool {
	if s.Object.Spec.Type != corev1.ServiceTypeNodePort {
		return slices.ContainsFunc(s.Object.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
			return !slices.ContainsFunc(in.Ports, func(was corev1.PortStatus) bool {
				return was.Port == port.Port && was.Protocol == port.Protocol && was.Error != nil
			})
		})
	}
	if from == nil || len(record.Published(s.Object)) == 0 {
		return false
	}
	carriers, protocol := translate.Carriers(from), lb.Protocol(port.Protocol)
	switch e, _ := s.PortError(port); e {
	case v1alpha1.PortErrorProtocol:
		return carriers.Carries(protocol)
	case v1alpha1.PortErrorTLS:
		return carriers.Main.Unsupported("tls.secretRef", protocol) == ""
	default:
		return false // without a certificate or a nodePort it answers nowhere
	}
}

// poolNotes tell the owners of pools what does not go by them.
func (s *Snapshot) poolNotes(plan *Plan) map[string]*ipam.Problem {
	notes := map[string]*ipam.Problem{}
	for _, p := range s.own {
		for _, name := range p.KeepOn {
			if !s.claims.exists(name) {
				notes[p.Name] = &ipam.Problem{
					Reason:  v1alpha1.ReasonUnknownBalancer,
					Message: fmt.Sprintf("spec.keepOn names Balancer %s, which does not exist: correct it; until then, Services that move here wait", name),
				}
			}
		}
		held := slices.DeleteFunc([]string{s.heldElsewhere(p, plan.Elsewhere), losing(p, plan.Services)}, func(why string) bool { return why == "" })
		if len(held) > 0 {
			notes[p.Name] = &ipam.Problem{Reason: v1alpha1.ReasonHeldElsewhere, Message: strings.Join(held, "; ")}
		}
	}
	return notes
}

// heldElsewhere says which Services have addresses of a pool and do not move to its
// Balancer, "" if none.
func (s *Snapshot) heldElsewhere(p *ipam.Pool, elsewhere []*corev1.Service) string {
	var names []string
	var why string
	for _, svc := range elsewhere {
		if slices.ContainsFunc(has(svc), p.Contains) {
			names = append(names, svc.Namespace+"/"+svc.Name)
			why = fmt.Sprintf("on %s: they do not move to Balancer %s, %s", NameBalancers(record.Holders(svc)), p.Balancer, s.claims.whyNotMoving(p.Balancer, svc))
		}
	}
	if names == nil {
		return ""
	}
	return fmt.Sprintf("%d Services (%s) keep addresses of this pool %s", len(names), listed(names), why)
}

// losing says which Services would lose ports by their move with a pool, "" if none.
func losing(p *ipam.Pool, services []*Service) string {
	var names []string
	var first *Service
	for _, svc := range services {
		if svc.Loses != "" && slices.ContainsFunc(svc.Addresses, p.Contains) {
			first = cmp.Or(first, svc)
			names = append(names, svc.Object.Namespace+"/"+svc.Object.Name)
		}
	}
	if names == nil {
		return ""
	}
	return fmt.Sprintf("%d Services (%s) stay on Balancer %s, and so do all who share an address with one of them, since they would lose ports that answer now: %s",
		len(names), listed(names), first.From, first.Loses)
}

// listed are so many names as a message has room for.
func listed(names []string) string {
	slices.Sort(names)
	return strings.Join(names[:min(5, len(names))], ", ")
}

// servedElsewhere says why a Service is not served by the Balancer whose pool has its
// address, "" if it is.
func (s *Snapshot) servedElsewhere(svc *corev1.Service) string {
	for _, a := range has(svc) {
		p := s.claims.poolOf(a)
		if p == nil || p.Balancer == s.Balancer.Name {
			continue
		}
		return fmt.Sprintf("AddressPool %s, which has %s, is now of Balancer %s, %s; the Service keeps %s on Balancer %s",
			p.Name, a, p.Balancer, s.claims.whyNotMoving(p.Balancer, svc), a, s.Balancer.Name)
	}
	return ""
}

// whyNotMoving says why a Service does not move to a Balancer, and what to do.
func (c Claims) whyNotMoving(balancer string, svc *corev1.Service) string {
	switch {
	case c.Named(balancer) == nil:
		return "which does not exist or is being deleted: correct spec.balancer of the pool"
	case named(c.MayServe(svc), balancer) != nil:
		return "which lacks the Service's other addresses: move their pool, too"
	case svc.Spec.Type == corev1.ServiceTypeNodePort:
		return fmt.Sprintf("but the Service's annotation %s names another: correct one of the two", v1alpha1.BalancerAnnotation)
	case svc.Spec.LoadBalancerClass == nil:
		return "which does not serve Services without a class: set spec.default of it, or give the pool back"
	default:
		return fmt.Sprintf("which does not serve the class %s: give the pool to a Balancer with that spec.loadBalancerClass, or back",
			*svc.Spec.LoadBalancerClass)
	}
}

// waitsForAddress reports whether another Balancer's hosts may still have the
// addresses of a Service.
func (e *entry) waitsForAddress(balancer string) bool {
	return len(e.planned.holders) > 0 && e.planned.holders[0] != balancer
}

// elsewhere are the addresses that another Balancer's hosts may still have. Our
// hosts listen there and wait: an address on two hosts is worse than one that is on
// none for a moment.
func (a *Assignments) elsewhere() map[netip.Addr]bool {
	ours := map[netip.Addr]bool{} // of Services that no other Balancer holds: they are here
	for i, e := range a.carried {
		if slices.Equal(e.planned.holders, []string{a.balancer}) && len(record.Published(a.Carried[i])) > 0 {
			for _, address := range e.assigned.Addresses {
				ours[address] = true
			}
		}
	}
	out := map[netip.Addr]bool{}
	for _, e := range a.carried {
		if e.waitsForAddress(a.balancer) {
			for _, address := range e.assigned.Addresses {
				if !ours[address] {
					out[address] = true
				}
			}
		}
	}
	return out
}

// addMove says of a Service how far its move is.
func (s *Snapshot) addMove(view *Service, e *entry) {
	svc, holders := view.Object, e.planned.holders
	switch e.role {
	case arriving:
		view.From = record.Carrier(holders, svc)
		lost := view.lostPorts(s.claims.all[view.From], s.Balancer)
		if view.MayLose = s.mayLose(svc); !view.MayLose {
			view.Loses = lost
		}
		view.Retained = cmp.Or(s.retained(svc), view.Loses)
		view.Idle = e.planned.on != nil && view.Shape == "" && (view.idle() || view.MayLose && lost != "")
	case staying:
		view.Staying = true
	}
	view.Others = slices.DeleteFunc(slices.Clone(holders), func(name string) bool { return name == s.Balancer.Name })
}

// Ready are the arriving Services that can be taken over, of those that are proved or
// have nothing to prove, and why the others of these cannot. Services that share an
// address go together: the traffic for it goes to one place.
func (p *Plan) Ready(proved func(*Service) bool) (ready map[*Service]bool, blocked map[types.UID]string) {
	ready, blocked = map[*Service]bool{}, map[types.UID]string{}
	if !p.Moves {
		return ready, blocked
	}
	stays := map[netip.Addr]string{}
	for _, svc := range p.Elsewhere {
		for _, a := range record.Occupied(svc) {
			stays[a] = svc.Namespace + "/" + svc.Name
		}
	}
	for _, svc := range p.Services {
		switch {
		case svc.From == "":
		case !svc.Idle && !proved(svc):
			svc.block(stays)
		case svc.Retained != "":
			blocked[svc.Object.UID] = svc.Retained
			svc.block(stays)
		default:
			ready[svc] = true
		}
	}
	for again := len(ready) > 0; again; {
		again = false
		for _, svc := range p.Services { // in their order, for what they are told
			i := slices.IndexFunc(svc.Addresses, func(a netip.Addr) bool { return stays[a] != "" })
			if !ready[svc] || i < 0 {
				continue
			}
			blocked[svc.Object.UID] = fmt.Sprintf("it waits for Service %s, which has the address %s, too, and is not ready: see its conditions",
				stays[svc.Addresses[i]], svc.Addresses[i])
			delete(ready, svc)
			svc.block(stays)
			again = true
		}
	}
	return ready, blocked
}

// block keeps those who share an address with a Service where they are.
func (s *Service) block(stays map[netip.Addr]string) {
	for _, a := range s.Addresses {
		stays[a] = cmp.Or(stays[a], s.Object.Namespace+"/"+s.Object.Name)
	}
}

// NameBalancers joins names of Balancers: Balancer a and b.
func NameBalancers(balancers []string) string { return "Balancer " + strings.Join(balancers, " and ") }
