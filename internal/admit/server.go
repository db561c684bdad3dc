package admit

import (
	"fmt"

	"github.com/external-lb/external-lb/internal/lb"
)

// The API servers are judged as nodes are, and refused one by one: a node of the same name
// may carry Services all the same.

// controlPlane is a Service with the API servers that may be sent to, or why nothing is
// carried of it.
func (j *judge) controlPlane(s *lb.Service) (*lb.Service, string) {
	if s.Direct || s.IPv4.Targets.All || s.IPv6.Targets.All || len(s.IPv4.Targets.Nodes)+len(s.IPv6.Targets.Nodes) > 0 {
		return nil, "nodes answer for it, in the place of API servers"
	}
	part := *s
	part.Servers = nil
	for _, n := range s.Servers {
		if why := j.server(s, n); why != "" {
			j.whole(lb.ServerKey(n.Name), lb.RefusedNotAdmitted, why)
		} else {
			part.Servers = append(part.Servers, n)
		}
	}
	if len(s.Servers) > 0 && len(part.Servers) == 0 {
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
