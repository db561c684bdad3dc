package admit

import (
	"fmt"

	"github.com/external-lb/external-lb/internal/lb"
)

// The API servers are judged as nodes are, and refused one by one: a node of the same name
// may carry Services all the same.

// MaxServers and maxDoors bound what is carried whether there is room for it or not.
const MaxServers, maxDoors = 64, 4

// controlPlane is a Service with the API servers that may be sent to, or why nothing is
// carried of it.
func (j *judge) controlPlane(s *lb.Service) (*lb.Service, string) {
	if s.Direct || s.Pods || s.IPv4.Targets.All || s.IPv6.Targets.All || len(s.IPv4.Targets.Nodes)+len(s.IPv6.Targets.Nodes) > 0 {
		return nil, "nodes or pods answer for it, in the place of API servers"
	}
	if len(s.Frontends) > maxDoors {
		return nil, fmt.Sprintf("it has %d listeners: a control plane has %d at most", len(s.Frontends), maxDoors)
	}
	part := *s
	part.Servers = nil
	for _, n := range s.Servers {
		if len(part.Servers) == MaxServers {
			j.whole(lb.ServerKey(n.Name), lb.RefusedNotAdmitted, fmt.Sprintf("a host carries %d API servers at most", MaxServers))
			continue
		}
		if why := j.server(s, n); why != "" {
			j.whole(lb.ServerKey(n.Name), lb.RefusedNotAdmitted, why)
		} else {
			part.Servers = append(part.Servers, n)
		}
	}
	switch {
	case len(s.Servers) == 0: // all of the API would go, and whoever could say where it is
		return nil, "it has no API servers"
	case len(part.Servers) == 0:
		return nil, "nothing may be sent to any of its API servers"
	}
	return &part, ""
}

// server notes that an API server is sent to, or says why it may not.
func (j *judge) server(s *lb.Service, n lb.Node) (why string) {
	var groups [2]group
	for i, ipv4 := range [...]bool{true, false} {
		a := n.Address(ipv4)
		if !a.IsValid() {
			continue
		}
		if groups[i], why = j.groupAt(a); why != "" {
			return why
		}
		for k := range s.Frontends {
			f := &s.Frontends[k]
			if _, wrong := groups[i].wrong(s, f); wrong != 0 && f.Listener.Address.Is4() == ipv4 {
				return fmt.Sprintf("%s: %s", a, groups[i].describe(s, f))
			}
		}
	}
	for i, ipv4 := range [...]bool{true, false} {
		if a := n.Address(ipv4); a.IsValid() {
			j.nodes.sent(a, groups[i])
		}
	}
	return ""
}
