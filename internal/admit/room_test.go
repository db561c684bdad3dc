package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
)

// tenant is a Service with so many ports, which all nodes carry.
func tenant(name string, ports int) *lb.Service {
	s := &lb.Service{ID: lb.ID{Namespace: "default", Name: name, UID: "uid"}}
	s.IPv4.Targets.All = true
	for i := range ports {
		s.Frontends = append(s.Frontends, lb.Frontend{
			Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: uint16(1 + i), Protocol: lb.TCP}, NodePort: 30080})
	}
	return s
}

// apiServers are the control plane at one port.
func apiServers() *lb.Service {
	s := tenant("kubernetes", 1)
	s.ID, s.IPv4.Targets.All, s.Servers = lb.ControlPlane, false, []lb.Node{{Name: "cp1", IPv4: netip.MustParseAddr("10.0.0.9")}}
	return s
}

// crowding is what a host carries, and what it is to carry.
type crowding struct {
	nodes     []string // four, of which the first two are carried
	services  []*lb.Service
	addresses int
	was       map[string]*lb.Service // carried, by name
	brought   int                    // addresses, the last ones
}

// beyond is what there is no room for.
func (c *crowding) beyond(r Room) (names []string, messages string) {
	cfg := &lb.Config{Services: c.services}
	for i, name := range c.nodes {
		cfg.Nodes = append(cfg.Nodes, lb.Node{Name: name, IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i)})})
	}
	has := map[lb.Key]bool{lb.NodeKey("n1"): true, lb.NodeKey("n2"): true}
	for i := range c.addresses {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		cfg.Addresses = append(cfg.Addresses, a)
		has[lb.AddressKey(a)] = i >= c.addresses-c.brought
	}
	for _, f := range r.Beyond(cfg, Carried{
		Has: func(k lb.Key) bool { return has[k] },
		Older: func(s *lb.Service) *lb.Service {
			if was := c.was[s.ID.Name]; was == nil || len(was.Frontends) != len(s.Frontends) {
				return was
			}
			return s
		},
	}) {
		name := f.Key.Describe()
		if !f.OfItem() {
			name += fmt.Sprintf(" %d", f.Listener.Port)
		}
		names = append(names, name)
		messages += f.Message + "\n"
	}
	return names, messages
}

// Whoever comes when a host is full waits, whatever the name is.
func TestS18_WhatIsCarriedIsNotPushedOut(t *testing.T) {
	two := []string{"n1", "n2"}
	is := func(all ...*lb.Service) map[string]*lb.Service {
		m := map[string]*lb.Service{}
		for _, s := range all {
			m[s.ID.Name] = s
		}
		return m
	}
	room := Room{Listeners: 10, Backends: 20, Addresses: 3}
	for name, tc := range map[string]struct {
		crowding
		room Room
		want string
		says string
	}{
		"there is room":           {crowding{nodes: two, services: []*lb.Service{tenant("a", 5), tenant("b", 5)}}, room, "[]", ""},
		"listeners":               {crowding{nodes: two, services: []*lb.Service{tenant("a", 5), tenant("b", 6)}}, room, "[Service default/b]", "room for 6 listeners more, a host has 10 at most"},
		"a smaller one fits":      {crowding{nodes: two, services: []*lb.Service{tenant("a", 8), tenant("b", 3), tenant("c", 2)}}, room, "[Service default/b]", ""},
		"backends":                {crowding{nodes: two, services: []*lb.Service{tenant("a", 5), tenant("b", 5)}}, Room{10, 18, 0}, "[Service default/b]", "room for 10 backends more, this host has 18 at most"},
		"the older one stays":     {crowding{nodes: two, services: []*lb.Service{tenant("a", 5), tenant("b", 6)}, was: is(tenant("b", 6))}, room, "[Service default/a]", ""},
		"one that grows waits":    {crowding{nodes: two, services: []*lb.Service{tenant("a", 6), tenant("b", 5)}, was: is(tenant("a", 4), tenant("b", 5))}, room, "[Service default/a 5 Service default/a 6]", ""},
		"before new ones":         {crowding{nodes: two, services: []*lb.Service{tenant("a", 6), tenant("b", 5)}, was: is(tenant("b", 1))}, room, "[Service default/a]", ""},
		"one that shrinks":        {crowding{nodes: two, services: []*lb.Service{tenant("a", 9), tenant("b", 4)}, was: is(tenant("a", 6), tenant("b", 5))}, room, "[Service default/a 7 Service default/a 8 Service default/a 9]", ""},
		"the owner has less room": {crowding{nodes: two, services: []*lb.Service{tenant("a", 5), tenant("b", 5), tenant("c", 1)}, was: is(tenant("a", 5), tenant("b", 5))}, Room{1, 1, 0}, "[Service default/c]", ""},
		"the API servers":         {crowding{nodes: two, services: []*lb.Service{tenant("a", 10), apiServers()}, was: is(tenant("a", 10))}, room, "[]", ""},
		"before new Services":     {crowding{nodes: two, services: []*lb.Service{tenant("a", 10), apiServers()}}, room, "[Service default/a]", ""},
		"nodes": {crowding{nodes: append(two, "n3", "n4"), services: []*lb.Service{tenant("a", 6)}, was: is(tenant("a", 6))}, room,
			"[node n4]", "room for 6 backends more, this host has 20 at most (ports of Services, each times its nodes or pods): have fewer carry each Service"},
		"nodes that come with Services": {crowding{nodes: append(two, "n3"), services: []*lb.Service{tenant("a", 4), tenant("b", 4)}, was: is(tenant("a", 4))}, room, "[Service default/b]", ""},
		"addresses":                     {crowding{addresses: 5, brought: 2}, room, "[address 192.0.2.1 address 192.0.2.2]", "bring 3 addresses at most"},
		"addresses of which all stay":   {crowding{addresses: 5, brought: 5}, room, "[]", ""},
	} {
		got, says := tc.beyond(tc.room)
		if fmt.Sprint(got) != tc.want || !strings.Contains(says, tc.says) {
			t.Errorf("%s: %v: %s, want %s", name, got, says, tc.want)
		}
	}
}

// Nodes that a Service names, and those of the other family, are counted as they carry it.
func TestBackendsAreCounted(t *testing.T) {
	named, limited := tenant("named", 3), tenant("limited", 3)
	limited.IPv4.Clients.Sources = slices.Repeat(prefixes("192.0.2.0/24"), 6) // 18, as 2 backends
	named.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n1"}, {Node: "gone"}}}
	limited.IPv4.Targets.Limit = 1
	other := tenant("other", 9)
	for i := range other.Frontends {
		other.Frontends[i].Listener.Address = netip.MustParseAddr("2001:db8::1")
	}
	all := []*lb.Service{named, limited, other, tenant("all", 2)}
	nodes := slices.Repeat([]string{""}, 4)
	for i := range nodes {
		nodes[i] = fmt.Sprintf("n%d", 1+i)
	}
	c := crowding{nodes: nodes, services: all} // 3 + 3 + 2 + 0 + 8
	if got, says := c.beyond(Room{Listeners: 100, Backends: 16}); got != nil {
		t.Errorf("%v: %s", got, says)
	}
	if got, _ := c.beyond(Room{Listeners: 100, Backends: 15}); fmt.Sprint(got) != "[Service default/all]" {
		t.Error(got)
	}
}

// Of nodes that wait for others a Service may have as many beside them: who counts, counts both.
func TestNodesThatWaitAreCounted(t *testing.T) {
	s := tenant("web", 2)
	s.IPv4.Targets.Limit = 2
	cfg := &lb.Config{Services: []*lb.Service{s}}
	ns := nodes{at: map[netip.Addr]int{}}
	for i, waits := range []bool{false, false, false, true} {
		n := lb.Node{Name: fmt.Sprint("n", i), IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Backup: waits}
		cfg.Nodes = append(cfg.Nodes, n)
		ns.add(n, n.IPv4, group{})
	}
	c := newCrowd(cfg)
	if got := c.need(s).backends; got != 2*(2+1) {
		t.Errorf("it needs room for %d backends, want two nodes and one that waits, for each of two ports", got)
	}
	if got := ns.count(&s.IPv4.Targets, true); got != 2+1 {
		t.Errorf("%d nodes carry it, want 3", got)
	}
	only := ns.only(s, true, []int{0}).Nodes
	if len(only) != 3 || only[2].Node != "n3" {
		t.Errorf("it is on %+v, want two nodes and the one that waits", only)
	}
	c.remove(cfg.Nodes[3])
	if got := c.need(s).backends; got != 2*2 {
		t.Errorf("without the one that waits it needs room for %d backends", got)
	}
}
