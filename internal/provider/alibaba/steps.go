package alibaba

import (
	"maps"
	"slices"

	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// step is a call that can be made now. That of a listener costs nobody else anything.
type step struct {
	call
	listener *provider.Listener
}

func (s step) of(r provider.Refusal) bool {
	return s.listener != nil && s.listener.Port == r.Port && s.listener.Protocol == r.Protocol
}

// steps are the calls that lead from what there is towards what is wanted, and can be made now.
// waiting: others follow when the cloud has finished something. Members come before settings:
// nodePorts that are gone may be somebody else's.
func (s *session) steps(t *tree, want provider.Spec, nodes map[string]server) (out []step, waiting bool) {
	switch {
	case t.lb == nil:
		return []step{{call: once(t.id, s.create(t.id, want), s.since(t.id))}}, false
	case t.lb.state != provider.Live:
		return nil, true
	case t.lb.off && s.elsewhere(t.lb) == "":
		if on := s.switchOn(t.lb.id); on != nil {
			out = append(out, step{call: *on})
		}
	}
	for i := range t.lb.listeners {
		at := &t.lb.listeners[i]
		switch {
		case slices.ContainsFunc(want.Listeners, func(l provider.Listener) bool { return t.at(l) == at }):
		case at.busy:
			waiting = true
		default:
			out = append(out, step{call: s.removeListener(t.lb.id, at)})
		}
	}
	lists, listed := s.sources(t, want)
	for i := range want.Listeners {
		of, more := s.listener(t, want, want.Listeners[i], nodes, listed)
		for _, c := range of {
			out = append(out, step{call: c, listener: &want.Listeners[i]})
		}
		waiting = waiting || more
	}
	for _, c := range lists { // after members: one that is refused is to hold up none
		out = append(out, step{call: c})
	}
	unused, more := s.unused(t, want)
	for _, c := range unused {
		out = append(out, step{call: c})
	}
	return out, waiting || more
}

// sources are the calls for the list of networks that may connect. A listener may have it when
// it is as it is wanted, and not before: a list without entries lets everybody in.
func (s *session) sources(t *tree, want provider.Spec) (out []call, listed bool) {
	entries := sources.List(want.Families[0].Sources)
	list := t.acl()
	switch {
	case len(entries) == 0:
		return nil, true
	case list == nil:
		return []call{s.Options.createACL(t)}, false
	}
	out = changeACL(list, entries)
	return out, len(out) == 0
}

// listener is the calls for one port: of its group, the members of that, then of itself.
func (s *session) listener(t *tree, want provider.Spec, l provider.Listener, nodes map[string]server, listed bool) (out []call, waiting bool) {
	g, at := t.group(l), t.at(l)
	switch {
	case g == nil:
		return []call{s.createGroup(t, l)}, false
	case g.busy:
		return nil, true
	}
	if out = s.members(g, wanted(g, want, l, nodes)); len(out) > 0 && s.oneByOne() {
		return out[:1], false
	}
	if !maps.Equal(g.fields, s.groupFields(l)) {
		if out = append(out, s.updateGroup(g, l)); s.oneByOne() {
			return out, false
		}
	}
	if !listed {
		return out, false
	}
	fields := s.listenerFields(t, at, want, l, g.id)
	switch {
	case at == nil:
		return append(out, s.createListener(t, l, fields)), false
	case at.busy:
		return out, true
	case !maps.Equal(at.fields, fields):
		return append(out, s.updateListener(t, at, fields)), false
	case at.stopped && s.elsewhere(t.lb) == "":
		return append(out, s.startListener(t, at)), false
	}
	return out, false
}

// wanted are the members of a listener's group. Where the cloud does not say which instances some nodes
// are, those that the group has and it says nothing of stay: who may not read instances is told of none.
func wanted(g *group, want provider.Spec, l provider.Listener, nodes map[string]server) (out []server) {
	for _, m := range want.Families[0].Members {
		if n, there := nodes[m.Address.String()]; there {
			out = append(out, server{id: n.id, ip: m.Address, port: l.NodePort, weight: m.Weight})
		}
	}
	if len(nodes) < len(want.Families[0].Members) {
		for _, h := range g.servers {
			if !h.ip.IsValid() && h.port == l.NodePort {
				out = append(out, h)
			}
		}
	}
	return out
}

// unused groups and lists go when no listener has them.
func (s *session) unused(t *tree, want provider.Spec) (out []call, waiting bool) {
	for i := range t.groups {
		g := &t.groups[i]
		switch {
		case slices.ContainsFunc(want.Listeners, func(l provider.Listener) bool { return t.group(l) == g }):
		case g.busy || slices.ContainsFunc(t.lb.listeners, func(at listener) bool { return at.group == g.id }):
			waiting = true
		default:
			out = append(out, s.removeGroup(g.id))
		}
	}
	closed := len(sources.List(want.Families[0].Sources)) > 0
	for i, list := range t.acls {
		switch {
		case closed && i == 0:
		case slices.ContainsFunc(t.lb.listeners, func(at listener) bool { return at.acl == list.id }):
			waiting = true
		default:
			out = append(out, removeACL(list.id))
		}
	}
	return out, waiting
}

// leftovers are what stays of a load balancer, and can go when that is gone.
func (s *session) leftovers(t *tree) (out []step) {
	for i := range t.groups {
		if !t.groups[i].busy {
			out = append(out, step{call: s.removeGroup(t.groups[i].id)})
		}
	}
	for _, list := range t.acls {
		out = append(out, step{call: removeACL(list.id)})
	}
	return out
}

// difference between the servers of a group and those that are wanted: which go, come, and have another weight.
func difference(have, want []server) (gone, come, weigh []server) {
	same := func(a server) func(server) bool {
		return func(b server) bool { return a.id == b.id && a.port == b.port && a.ip == b.ip }
	}
	for _, h := range have {
		if !slices.ContainsFunc(want, same(h)) {
			gone = append(gone, h)
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(have, same(w))
		switch {
		case i < 0:
			come = append(come, w)
		case have[i].weight != w.weight:
			weigh = append(weigh, w)
		}
	}
	return gone, come, weigh
}
