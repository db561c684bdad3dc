package lb

import (
	"net/netip"

	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

func (r *reader) endpoints(all []*lbpb.Endpoint) []Endpoint {
	var out []Endpoint
	for _, m := range all {
		e := Endpoint{netip.AddrPortFrom(r.addr("pod", m.GetAddress()), r.port("pod's port", m.GetPort())), m.GetDraining()}
		if !e.Address.Addr().IsValid() || e.Address.Port() == 0 {
			r.fail("a pod without an address or a port")
		}
		out = append(out, e)
	}
	return out
}

// pods checks the Endpoints of a Service.
func (r *reader) pods(s *Service) {
	if nodes := s.IPv4.Targets.All || s.IPv6.Targets.All || len(s.IPv4.Targets.Nodes)+len(s.IPv6.Targets.Nodes)+len(s.Servers) > 0; s.Pods && (s.Direct || nodes) {
		r.fail("pods and nodes at once")
	}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		for k, e := range f.Endpoints {
			switch {
			case !s.Pods:
				r.fail("frontend %s has pods, and nodes answer for it", f.Listener)
			case e.Address.Addr().Is4() != f.Listener.Address.Is4():
				r.fail("frontend %s has the pod %s, of the other family", f.Listener, e.Address)
			case k > 0 && f.Endpoints[k-1].Address.Addr().Compare(e.Address.Addr()) >= 0:
				r.fail("the pods of frontend %s are not sorted, or one is there twice", f.Listener)
			}
		}
	}
}
