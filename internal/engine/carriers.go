package engine

import (
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// Carriers are what carries the traffic of a Balancer, or of a host.
type Carriers struct {
	Main      *Engine
	Datagrams *Engine // carries all that is not TCP; nil: Main does, as far as it can
}

// All of them, that of TCP first.
func (c Carriers) All() []*Engine {
	if c.Datagrams == nil {
		return []*Engine{c.Main}
	}
	return []*Engine{c.Main, c.Datagrams}
}

// For is the Engine that carries a protocol, or says that it cannot.
func (c Carriers) For(p lb.Protocol) *Engine {
	if c.Datagrams != nil && p != lb.TCP {
		return c.Datagrams
	}
	return c.Main
}

// Carries reports whether a protocol can be carried.
func (c Carriers) Carries(p lb.Protocol) bool { return c.For(p).Carries(p) }

// Ports says behind a reason which ports it is about; "" where one Engine carries all.
func (c Carriers) Ports(p lb.Protocol) string {
	switch {
	case c.Datagrams == nil:
		return ""
	case p == lb.TCP:
		return " (TCP ports)"
	}
	return " (UDP and SCTP ports)"
}

// String names what a host must be prepared for: haproxy, or haproxy+lvs.
func (c Carriers) String() string {
	if c.Datagrams == nil {
		return c.Main.Name
	}
	return c.Main.Name + "+" + c.Datagrams.Name
}

// Part is what one of them carries of a Config. Nodes, certificates and addresses are for
// both. Without Datagrams it is the Config itself.
func (c Carriers) Part(e *Engine, cfg *lb.Config) *lb.Config {
	if c.Datagrams == nil {
		return cfg
	}
	part := *cfg
	part.Services = nil
	for _, s := range cfg.Services {
		if s = c.partOf(e, s); s != nil {
			part.Services = append(part.Services, s)
		}
	}
	return &part
}

// partOf a Service; nil: nothing. Nodes that drain mean nothing to who keeps connections
// by itself.
func (c Carriers) partOf(e *Engine, s *lb.Service) *lb.Service {
	part := *s
	part.Frontends = nil
	for _, f := range s.Frontends {
		if c.For(f.Listener.Protocol) == e {
			part.Frontends = append(part.Frontends, f)
		}
	}
	if len(part.Frontends) == 0 {
		return nil
	}
	if e.KeepsConnections {
		for i := range part.Frontends {
			f := &part.Frontends[i]
			f.Endpoints = slices.DeleteFunc(slices.Clone(f.Endpoints), func(e lb.Endpoint) bool { return e.Draining })
		}
		part.IPv4.Targets.Nodes = staying(s.IPv4.Targets.Nodes)
		part.IPv6.Targets.Nodes = staying(s.IPv6.Targets.Nodes)
	}
	return &part
}

// staying are the nodes that do not drain.
func staying(all []lb.Target) []lb.Target {
	out := make([]lb.Target, 0, len(all))
	for _, t := range all {
		if !t.Draining {
			out = append(out, t)
		}
	}
	return out
}
