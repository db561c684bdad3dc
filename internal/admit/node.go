package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// nodes are those that are carried, by what may be sent to them.
type nodes struct {
	groups []group
	v4, v6 members
	at     map[netip.Addr]int // groups, by the nodes' addresses
	named  map[string][]lb.Target
}

// members are nodes by their address of one family.
type members struct {
	group  map[string]int  // by the node's name
	groups []int           // that have any, sorted
	backup map[string]bool // those that wait for others
}

// group is nodes on which the same ports may be sent to.
type group struct {
	ports []PortRange
	own   bool // at addresses of the host itself
}

func (ns *nodes) of(ipv4 bool) *members {
	if ipv4 {
		return &ns.v4
	}
	return &ns.v6
}

// node admits a node with all addresses that it has, or refuses it.
func (j *judge) node(key lb.Key, n lb.Node) {
	all := [2]netip.Addr{n.IPv4, n.IPv6}
	var groups [2]group
	for i, a := range all {
		if !a.IsValid() {
			continue
		}
		var why string
		if groups[i], why = j.groupAt(a); why == "" && !groups[i].own {
			why = j.claimed(a)
		}
		if why != "" {
			j.whole(key, lb.RefusedNotAdmitted, why)
			return
		}
	}
	j.out.Nodes = append(j.out.Nodes, n)
	for i, a := range all {
		if a.IsValid() {
			j.nodes.add(n, a, groups[i])
		}
	}
}

// groupAt is what may be sent to an address, or why nothing may.
func (j *judge) groupAt(a netip.Addr) (g group, why string) {
	if what := never(a); what != "" {
		return g, fmt.Sprintf("%s is %s", a, what)
	}
	if inAnyForm(a, func(a netip.Addr) bool { return j.brought[a] }) {
		return g, fmt.Sprintf("%s is an address that VRRP moves between the hosts: nothing is sent to a node that claims it", a)
	}
	if g = (group{j.rules.OwnPorts, true}); j.own(a) {
		if len(g.ports) == 0 {
			why = fmt.Sprintf("%s is an address of this host itself: name the ports that may be sent to in admit.ownPorts %s", a, inSettings)
		}
		return g, why
	}
	if g = (group{j.rules.portsOf(a), false}); len(g.ports) == 0 {
		why = fmt.Sprintf("%s is in none of the networks in admit.backends %s", a, inSettings)
	}
	return g, why
}

// claimed says that an address which a node says it has is another's; "": it is not. What a node
// says of itself counts less than what the host's owner and the controller say: the node is
// refused, and takes nothing from the pod or the Service that has the address.
func (j *judge) claimed(a netip.Addr) (why string) {
	switch {
	case inAnyForm(a, j.rules.ofPods):
		return fmt.Sprintf("%s is in a network of pods (admit.pods %s): nothing is sent to a node that claims it. If nodes are there, name their network in admit.backends: the smaller network counts", a, inSettings)
	case inAnyForm(a, j.listensAt):
		return fmt.Sprintf("%s is an address on which a Service is listened for: nothing is sent to a node that claims it", a)
	}
	return ""
}

func (ns *nodes) add(n lb.Node, a netip.Addr, g group) {
	i := ns.sent(a, g)
	m := ns.of(a.Is4())
	if m.group == nil {
		m.group, m.backup = map[string]int{}, map[string]bool{}
	}
	m.group[n.Name] = i
	if n.Backup {
		m.backup[n.Name] = true
	}
	if at, found := slices.BinarySearch(m.groups, i); !found {
		m.groups = slices.Insert(m.groups, at, i)
	}
}

// sent notes that something is sent to an address, and as a part of which group.
func (ns *nodes) sent(a netip.Addr, g group) (i int) {
	i = slices.IndexFunc(ns.groups, func(o group) bool { return o.own == g.own && slices.Equal(o.ports, g.ports) })
	if i < 0 {
		i = len(ns.groups)
		ns.groups = append(ns.groups, g)
	}
	ns.at[a] = i
	for _, p := range plain(a) {
		ns.at[p] = i
	}
	return i
}

// reached are the groups of the nodes that carry a Service for one family.
func (ns *nodes) reached(t *lb.Targets, ipv4 bool) []int {
	m := ns.of(ipv4)
	if t.All || len(m.groups) == 0 {
		return m.groups
	}
	var groups []int
	for _, n := range t.Nodes {
		if g, carried := m.group[n.Node]; carried && !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return groups
}

// count is how many nodes carry a Service for one family.
func (ns *nodes) count(t *lb.Targets, ipv4 bool) int {
	m := ns.of(ipv4)
	switch wait := len(m.backup); {
	case !t.All:
		return len(t.Nodes)
	case t.Limit > 0:
		return min(len(m.group)-wait, t.Limit) + min(wait, t.Limit)
	default:
		return len(m.group)
	}
}

// only are the Targets that are in some groups. Services share what is the same for
// all of them.
func (ns *nodes) only(s *lb.Service, ipv4 bool, groups []int) lb.Targets {
	t, m := s.Family(ipv4).Targets, ns.of(ipv4)
	if !t.All {
		t.Nodes = slices.DeleteFunc(slices.Clone(t.Nodes), func(n lb.Target) bool {
			g, carried := m.group[n.Node]
			return carried && !slices.Contains(groups, g)
		})
		return t
	}
	key := fmt.Sprint(ipv4, groups)
	all, known := ns.named[key]
	if !known {
		for name, g := range m.group {
			if slices.Contains(groups, g) {
				all = append(all, lb.Target{Node: name})
			}
		}
		slices.SortFunc(all, byNode)
		if ns.named == nil {
			ns.named = map[string][]lb.Target{}
		}
		ns.named[key] = all
	}
	if t.Limit == 0 {
		return lb.Targets{Nodes: all}
	}
	chosen := lb.ChooseBoth(all, func(n lb.Target) string { return n.Node }, func(n lb.Target) bool { return m.backup[n.Node] }, s.ID.UID, t.Limit)
	slices.SortFunc(chosen, byNode)
	return lb.Targets{Nodes: chosen}
}

func byNode(a, b lb.Target) int { return strings.Compare(a.Node, b.Node) }
