package plan

import (
	"cmp"
	"fmt"
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

// role of a Service for one Balancer.
type role int

const (
	nobody    role = iota
	carried        // served
	arriving       // to be served as soon as it is proved; another carries it meanwhile
	staying        // carried until another has proved it
	leaving        // to be withdrawn
	waiting        // to be served once another has withdrawn it
	elsewhere      // on another's hosts, at an address in which this Balancer has a say
)

// role of a Service for the snapshot's Balancer. A Service that keeps its
// addresses moves without a gap: both Balancers carry it until the new one has
// proved it. One that cannot keep them is withdrawn first.
func (s *Snapshot) role(svc *corev1.Service) role {
	me := s.Balancer.Name
	var target string
	if b := s.target(svc); b != nil {
		target = b.Name
	}
	holders := slices.DeleteFunc(Holders(svc), func(name string) bool { return !s.KnownBalancers[name] })
	carrier := Carrier(holders, svc)
	keeps := func() bool {
		return target != "" && s.Claims.owner(svc) == target && s.Claims.couldHave(carrier, svc)
	}
	switch {
	case target == me && (carrier == "" || carrier == me):
		return carried
	case target == me && keeps():
		return arriving
	case carrier == me && keeps():
		return staying
	case slices.Contains(holders, me):
		return leaving
	case target == me:
		return waiting
	case slices.ContainsFunc(occupied(svc), s.inPools):
		return elsewhere
	default:
		return nobody
	}
}

// couldHave reports whether a Service can have come from a Balancer by a move: that
// has its class. A record is the user's to write.
func (c Claims) couldHave(balancer string, svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.Spec.LoadBalancerClass == nil {
		return true
	}
	b := c.all[balancer]
	return b != nil && Class(b) == *svc.Spec.LoadBalancerClass
}

// target is the Balancer that should serve a Service, nil if none should.
func (s *Snapshot) target(svc *corev1.Service) *v1alpha1.Balancer {
	if svc.DeletionTimestamp != nil {
		return nil
	}
	return s.Claims.Of(svc)
}

// Add adds those of some Services on which the plan depends, each once.
func (s *Snapshot) Add(services []*corev1.Service) {
	for _, svc := range services {
		if slices.Contains(Holders(svc), s.Balancer.Name) {
			s.addGuests(svc)
		}
	}
	s.elsewhere = map[netip.Addr]bool{}
	for _, svc := range services {
		if len(s.guests) > 0 && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && Held(svc) && !slices.Contains(Holders(svc), s.Balancer.Name) {
			for _, a := range Published(svc) {
				s.elsewhere[a] = true
			}
		}
	}
	seen := make(map[types.UID]bool, len(services))
	for _, svc := range services {
		if !seen[svc.UID] && s.role(svc) != nobody {
			seen[svc.UID] = true
			s.Services = append(s.Services, svc)
		}
	}
}

// addGuests adds the pools that have left this Balancer, or are in force no more,
// and have addresses of a Service which has not: it keeps them as if the pools were
// still here.
func (s *Snapshot) addGuests(svc *corev1.Service) {
	for _, a := range occupied(svc) {
		if p := cmp.Or(s.Claims.poolOf(a), poolOf(a, s.Rejected)); p != nil && !s.inPools(a) {
			guest := *p
			guest.Guest = true
			s.guests = append(s.guests, &guest)
		}
	}
}

// inPools reports whether an address is of the snapshot's pools.
func (s *Snapshot) inPools(a netip.Addr) bool {
	contains := func(p *ipam.Pool) bool { return p.Contains(a) }
	return slices.ContainsFunc(s.Pools, contains) || slices.ContainsFunc(s.guests, contains)
}

// occupied are the addresses on which a Service may be live.
func occupied(svc *corev1.Service) []netip.Addr {
	if !Held(svc) {
		return nil
	}
	return append(HeldAddresses(svc), Published(svc)...)
}

// WithAddressesOf are the Balancers of whose pools a held Service has addresses.
func WithAddressesOf(svc *corev1.Service, pools []*ipam.Pool) (names []string) {
	for _, a := range occupied(svc) {
		for _, p := range pools {
			if p.Contains(a) {
				names = append(names, p.Balancer)
			}
		}
	}
	return names
}

// has are the addresses that a held Service has: of each family the first on
// record, for those behind it are being left, or what was published.
func has(svc *corev1.Service) (out []netip.Addr) {
	addresses := occupied(svc)
	for _, family := range svc.Spec.IPFamilies {
		i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Is4() == (family == corev1.IPv4Protocol) })
		if i >= 0 {
			out = append(out, addresses[i])
		}
	}
	return out
}

// owner is the Balancer whose pools have every address of a Service, "" if no
// single one has.
func (c Claims) owner(svc *corev1.Service) string {
	var owner string
	for _, a := range has(svc) {
		p := c.poolOf(a)
		if p == nil || owner != "" && owner != p.Balancer {
			return ""
		}
		owner = p.Balancer
	}
	return owner
}

// poolOf is the pool that has an address, nil if none has.
func (c Claims) poolOf(a netip.Addr) *ipam.Pool { return poolOf(a, c.pools) }

func poolOf(a netip.Addr, pools []*ipam.Pool) *ipam.Pool {
	if i := slices.IndexFunc(pools, func(p *ipam.Pool) bool { return p.Contains(a) }); i >= 0 {
		return pools[i]
	}
	return nil
}

// wish is what a Service without an address says of the pools that it may use.
func (c Claims) wish(svc *corev1.Service) *ipam.Request {
	wanted, _ := translate.WantedAddresses(svc) // what cannot be read is told by whoever serves it
	return &ipam.Request{
		Wanted: wanted, Pool: svc.Annotations[v1alpha1.AddressPoolAnnotation],
		Labels: svc.Labels, NamespaceLabels: c.namespaces[svc.Namespace],
	}
}

// kept says what keeps an arriving Service on the Balancers that had it before,
// "" if nothing does. A name that nobody has may be a misspelt one.
func (s *Snapshot) kept(svc *corev1.Service) string {
	holders := Holders(svc)
	for _, a := range has(svc) {
		p := s.Claims.poolOf(a)
		for _, name := range p.KeepOn {
			switch {
			case name == s.Balancer.Name:
			case !s.KnownBalancers[name]:
				return fmt.Sprintf("spec.keepOn of AddressPool %s names Balancer %s, which does not exist: correct it or take it out", p.Name, name)
			case slices.Contains(holders, name):
				return fmt.Sprintf("spec.keepOn of AddressPool %s keeps Balancer %s: lead the traffic to the hosts of Balancer %s, and then take %s out of it",
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
	return fmt.Sprintf("Balancer %s, with %s, cannot carry %s: take that out of the Service, or give the pool back", b.Name, b.Spec.Engine, strings.Join(lost, ", "))
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
	if from == nil || len(Published(s.Object)) == 0 {
		return false
	}
	engine, protocol := lb.Engine(from.Spec.Engine), lb.Protocol(port.Protocol)
	switch e, _ := s.PortError(port); e {
	case v1alpha1.PortErrorProtocol:
		return engine.Carries(protocol)
	case v1alpha1.PortErrorTLS:
		return engine.Unsupported("tls.secretRef", protocol) == ""
	default:
		return false // without a certificate or a nodePort it answers nowhere
	}
}

// poolNotes tell the owners of pools what does not go by them.
func (s *Snapshot) poolNotes(elsewhere []*corev1.Service) map[string]*ipam.Problem {
	notes := map[string]*ipam.Problem{}
	for _, p := range s.Pools {
		for _, name := range p.KeepOn {
			if !s.KnownBalancers[name] {
				notes[p.Name] = &ipam.Problem{
					Reason:  v1alpha1.ReasonUnknownBalancer,
					Message: fmt.Sprintf("in force, but spec.keepOn names Balancer %s, which does not exist: what moves here waits until that is corrected", name),
				}
			}
		}
		var names []string
		var why string
		for _, svc := range elsewhere {
			if slices.ContainsFunc(has(svc), p.Contains) {
				names = append(names, svc.Namespace+"/"+svc.Name)
				why = fmt.Sprintf("on %s: they do not come to Balancer %s, %s", InWords(Holders(svc)), p.Balancer, s.Claims.foreign(p.Balancer, svc))
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			notes[p.Name] = &ipam.Problem{
				Reason: v1alpha1.ReasonHeldElsewhere,
				Message: fmt.Sprintf("in force, but %d Services (%s) keep addresses of it %s",
					len(names), strings.Join(names[:min(listed, len(names))], ", "), why),
			}
		}
	}
	return notes
}

// listed bounds how many objects a message names.
const listed = 5

// strayed says why a Service is not served by the Balancer whose pool has its
// address, "" if it is.
func (s *Snapshot) strayed(svc *corev1.Service) string {
	for _, a := range has(svc) {
		p := s.Claims.poolOf(a)
		if p == nil || p.Balancer == s.Balancer.Name {
			continue
		}
		return fmt.Sprintf("AddressPool %s, which has %s, is now of Balancer %s, %s; the Service keeps %s on Balancer %s",
			p.Name, a, p.Balancer, s.Claims.foreign(p.Balancer, svc), a, s.Balancer.Name)
	}
	return ""
}

// foreign says why a Service does not move to a Balancer, and what to do.
func (c Claims) foreign(balancer string, svc *corev1.Service) string {
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
func (a *Assignments) waitsForAddress(svc *corev1.Service) bool {
	holders := a.holders(svc)
	return len(holders) > 0 && holders[0] != a.balancer
}

// parked are the files of addresses that another Balancer's hosts may still have.
// Our hosts listen there and wait: an address on two hosts is worse than one that
// is on none for a moment.
func (a *Assignments) parked() (paths []string) {
	ours := map[netip.Addr]bool{} // of Services that no other Balancer holds: they are here
	for _, svc := range a.Carried {
		if slices.Equal(a.holders(svc), []string{a.balancer}) && len(Published(svc)) > 0 {
			for _, address := range a.ByService[svc.UID].Addresses {
				ours[address] = true
			}
		}
	}
	for _, svc := range a.Carried {
		if a.waitsForAddress(svc) {
			for _, address := range a.ByService[svc.UID].Addresses {
				if !ours[address] {
					paths = append(paths, AddressPath(address))
				}
			}
		}
	}
	return paths
}

// addMove says of a Service how far its move is.
func (s *Snapshot) addMove(view *Service, a *Assignments) {
	svc := view.Object
	holders := a.holders(svc)
	switch a.roles[svc.UID] {
	case arriving:
		view.From = Carrier(holders, svc)
		view.Kept = cmp.Or(s.kept(svc), view.lostPorts(s.Claims.all[view.From], s.Balancer))
	case staying:
		view.Staying = true
	}
	view.Others = slices.DeleteFunc(holders, func(name string) bool { return name == a.balancer })
}

// Ready are the arriving Services that can be taken over, of those that are
// proved, and why the others of these cannot. Services that share an address go
// together: the traffic for it goes to one place.
func (p *Plan) Ready(proved func(*Service) bool) (ready map[*Service]bool, blocked map[types.UID]string) {
	ready, blocked = map[*Service]bool{}, map[types.UID]string{}
	stays := map[netip.Addr]string{}
	for _, svc := range p.Elsewhere {
		for _, a := range occupied(svc) {
			stays[a] = svc.Namespace + "/" + svc.Name
		}
	}
	for _, svc := range p.Services {
		switch {
		case svc.From == "":
		case !proved(svc):
			svc.block(stays)
		case svc.Kept != "":
			blocked[svc.Object.UID] = svc.Kept
			svc.block(stays)
		default:
			ready[svc] = true
		}
	}
	for again := true; again; {
		again = false
		for _, svc := range p.Services { // in their order, for what they are told
			i := slices.IndexFunc(svc.Addresses, func(a netip.Addr) bool { return stays[a] != "" })
			if !ready[svc] || i < 0 {
				continue
			}
			blocked[svc.Object.UID] = fmt.Sprintf("it waits for Service %s, which has the address %s, too, and is not ready: see there",
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

// InWords joins names of Balancers.
func InWords(balancers []string) string { return "Balancer " + strings.Join(balancers, " and ") }
