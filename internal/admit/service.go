package admit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

func (j *judge) service(key lb.Key, s *lb.Service) {
	for _, f := range []*lb.Family{&s.IPv4, &s.IPv6} {
		for _, t := range f.Targets.Nodes {
			if !j.named[t.Node] {
				j.whole(key, lb.RefusedInvalid, fmt.Sprintf("it names the node %s, which was not sent", t.Node))
				return
			}
		}
	}
	if s.Pods {
		part, why := j.pods(key, s)
		if part == nil {
			j.whole(key, lb.RefusedNotAdmitted, why)
			j.podless = append(j.podless, j.refused[len(j.refused)-1])
			return
		}
		s = part
	}
	if why := j.nodes.tooMany(s); why != "" {
		j.whole(key, lb.RefusedInvalid, why)
		return
	}
	v4 := j.nodes.reached(&s.IPv4.Targets, true)
	v6 := j.nodes.reached(&s.IPv6.Targets, false)
	left := families{v4, v6}
	refused := len(j.refused)
	for i := range s.Frontends {
		f := &s.Frontends[i]
		if reason, why := j.frontend(s, f, left.of(f.Listener.Address.Is4())); why != "" {
			j.refuse(key, f.Listener, reason, why)
			continue
		}
		j.listeners[f.Listener] = key
	}
	if part := *s; len(j.refused) > refused || len(left.v4) < len(v4) || len(left.v6) < len(v6) {
		part.Frontends = without(s.Frontends, j.refused[refused:])
		if len(left.v4) < len(v4) {
			part.IPv4.Targets = j.nodes.only(s, true, left.v4)
		}
		if len(left.v6) < len(v6) {
			part.IPv6.Targets = j.nodes.only(s, false, left.v6)
		}
		s = &part
	}
	if len(s.Frontends) > 0 {
		j.out.Services = append(j.out.Services, j.rules.sourced(s))
	}
}

// tooMany says that a Service has too many backends; "": it has not.
func (ns *nodes) tooMany(s *lb.Service) string {
	v4, v6 := ns.count(&s.IPv4.Targets, true), ns.count(&s.IPv6.Targets, false)
	backends := 0
	for i := range s.Frontends {
		if s.Frontends[i].Listener.Address.Is4() {
			backends += v4
		} else {
			backends += v6
		}
	}
	if s.Pods || backends <= MaxBackends { // pods are bounded by the model
		return ""
	}
	return fmt.Sprintf("%d ports on %d nodes are %d backends, more than %d: have fewer nodes carry it, see nodes.maxPerService of the Balancer",
		len(s.Frontends), max(v4, v6), backends, MaxBackends)
}

// families are groups of nodes that carry a Service, by family.
type families struct{ v4, v6 []int }

func (f *families) of(ipv4 bool) *[]int {
	if ipv4 {
		return &f.v4
	}
	return &f.v6
}

// without are the Frontends that were not refused; both lists are in one order.
func without(all []lb.Frontend, refused []lb.Refusal) []lb.Frontend {
	left := make([]lb.Frontend, 0, len(all)-len(refused))
	for _, f := range all {
		if len(refused) > 0 && refused[0].Listener == f.Listener {
			refused = refused[1:]
			continue
		}
		left = append(left, f)
	}
	return left
}

// frontend says why a Frontend is not carried; "" if it is, by the groups that are left.
func (j *judge) frontend(s *lb.Service, f *lb.Frontend, groups *[]int) (lb.RefusalReason, string) {
	l, r := f.Listener, j.rules
	if why := r.listened(l.Address); why != "" {
		return lb.RefusedNotAdmitted, why
	}
	if len(r.Ports) > 0 && !within(r.Ports, l.Port) {
		return lb.RefusedNotAdmitted, fmt.Sprintf("port %d is not in admit.ports %s (%s)", l.Port, inSettings, list(r.Ports))
	}
	if i := slices.IndexFunc(r.Held, func(h Held) bool { return h.holds(l) }); i >= 0 {
		return lb.RefusedNotAdmitted, fmt.Sprintf("%s is a port of this host's own %.40q: see admit.held %s", l, cmp.Or(r.Held[i].By, "daemons"), inSettings)
	}
	if g, isNode := j.nodes.at[l.Address]; isNode && (l.Port == HealthPort || within(j.nodes.groups[g].ports, l.Port)) {
		return lb.RefusedNotAdmitted, fmt.Sprintf("%s is an address of a node, too, and port %d of nodes is sent to: what is sent there would come back. Use another port or address", l.Address, l.Port)
	}
	if why := r.noSource(f); why != "" {
		return lb.RefusedNotAdmitted, why
	}
	if c := f.Settings.Certificate; c != "" && !j.certificates[c] {
		return lb.RefusedInvalid, "its certificate was not sent, or was refused"
	}
	if other, taken := j.listeners[l]; taken {
		return lb.RefusedInvalid, fmt.Sprintf("%s has it already", other.Describe())
	}
	left := j.nodes.sendable(s, f, *groups)
	if len(left) == 0 && len(*groups) > 0 {
		return lb.RefusedNotAdmitted, j.nodes.groups[(*groups)[0]].describe(s, f)
	}
	*groups = left
	return "", ""
}

// sendable finds those of some groups that may be sent all that a Frontend sends.
func (ns *nodes) sendable(s *lb.Service, f *lb.Frontend, groups []int) []int {
	for i, g := range groups {
		if _, wrong := ns.groups[g].wrong(s, f); wrong == 0 {
			continue
		}
		left := slices.Clone(groups[:i])
		for _, g := range groups[i+1:] {
			if _, wrong := ns.groups[g].wrong(s, f); wrong == 0 {
				left = append(left, g)
			}
		}
		return left
	}
	return groups
}

// wrong is the first port that may not be sent to, and what it is; 0: all may.
func (g *group) wrong(s *lb.Service, f *lb.Frontend) (what string, port uint16) {
	switch listener, h := f.Listener.Port, f.Settings.HealthCheck.Port; {
	case f.NodePort != 0 && !g.takes(f.NodePort, s.Direct):
		return "nodePort", f.NodePort
	case h != 0 && !g.takes(h, true):
		return "the health check's port", h
	case s.HealthCheckNodePort != 0 && !g.takes(s.HealthCheckNodePort, true):
		return "healthCheckNodePort", s.HealthCheckNodePort
	case s.Direct && !g.takes(listener, false) && (g.own || within(Reserved, listener)):
		return "port", listener
	}
	return "", 0
}

func (g *group) takes(port uint16, onlyChecks bool) bool {
	return within(g.ports, port) || onlyChecks && port == HealthPort
}

func (g *group) describe(s *lb.Service, f *lb.Frontend) string {
	what, port := g.wrong(s, f)
	where := "admit.backends"
	if g.own {
		where = "admit.ownPorts"
	}
	return fmt.Sprintf("%s %d is not among the ports that may be sent to (%s): see %s %s", what, port, list(g.ports), where, inSettings)
}
