package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/lb"
)

// of a namespace, such as shop/web.
func of(name string, ports int) *lb.Service {
	namespace, name, _ := strings.Cut(name, "/")
	s := tenant(namespace+"-"+name, ports)
	s.ID.Namespace = namespace
	return s
}

// A namespace that wants the whole host has a half of it, and leaves the rest to others, also to
// those that come later.
func TestS18_NoNamespaceTakesTheWholeHost(t *testing.T) {
	two := []string{"n1", "n2"}
	wide := Room{Listeners: 1000, Backends: 200, Addresses: 3}
	greedy := func(from, to int) (all []*lb.Service) {
		for i := from; i < to; i++ {
			all = append(all, of(fmt.Sprintf("greedy/%02d", i), 5)) // ten backends each
		}
		return all
	}
	is := func(all ...*lb.Service) map[string]*lb.Service {
		m := map[string]*lb.Service{}
		for _, s := range all {
			m[s.ID.Name] = s
		}
		return m
	}
	with := func(some []*lb.Service, more ...*lb.Service) []*lb.Service {
		return append(slices.Clone(some), more...)
	}
	key := func(i int) string { return fmt.Sprintf("Service greedy/greedy-%02d", i) }
	for name, tc := range map[string]struct {
		crowding
		room Room
		want []string
		says string
	}{
		"alone, it may have all": {crowding{nodes: two, services: greedy(0, 20)}, wide, nil, ""},
		"a half, beside another, though there is room for both": {crowding{nodes: two, services: with(greedy(0, 12), of("shop/web", 5))}, wide, []string{key(10), key(11)},
			"there is no room for 10 backends more of the namespace greedy: it has 100 (ports of Services, each times its nodes or pods), its share is 90, and half of what this host has is kept for namespaces with less: have fewer carry each Service"},
		"no more than its half":      {crowding{nodes: two, services: with(greedy(0, 9), of("shop/web", 5))}, wide, nil, ""},
		"what it has already, stays": {crowding{nodes: two, services: with(greedy(0, 17), of("shop/web", 5)), was: is(greedy(0, 16)...)}, wide, []string{key(16)}, "it has 160"},
		"who comes later has the rest": {crowding{nodes: two, services: with(greedy(0, 10), of("zoo/a", 10), of("zoo/b", 10)),
			was: is(greedy(0, 10)...)}, wide, nil, ""},
		"the rest is shared, too": {crowding{nodes: two, services: with(greedy(0, 10), of("late/a", 10), of("late/b", 10), of("shop/a", 10), of("zoo/a", 10)),
			was: is(greedy(0, 10)...)}, wide, []string{"Service late/late-b"}, "its share is 30, and half"},
		"new ports, and not those that were there": {crowding{nodes: two, services: with(greedy(0, 10), of("greedy/x", 3), of("shop/a", 5)),
			was: is(with(greedy(0, 10), of("greedy/x", 2))...)}, wide, []string{"Service greedy/greedy-x 3"}, "there is no room for 2 backends more of the namespace greedy: it has 104"},
		"listeners": {crowding{nodes: two, services: with(greedy(0, 6), of("shop/web", 5))}, Room{Listeners: 50, Backends: 1000}, []string{key(5)},
			"there is no room for 5 listeners more of the namespace greedy: it has 25, its share is 20, and half of what a host has is kept"},
		"the API servers are nobody's": {crowding{nodes: two, services: with(greedy(0, 20), apiServers())}, Room{Listeners: 1000, Backends: 201}, nil, ""},
		"and come first":               {crowding{nodes: two, services: with(greedy(0, 1), of("shop/a", 1), apiServers())}, Room{Listeners: 6, Backends: 1000}, []string{key(0)}, "more of the namespace greedy"},
	} {
		got, says := tc.beyond(tc.room)
		if !slices.Equal(got, tc.want) || !strings.Contains(says, tc.says) {
			t.Errorf("%s: %v: %s, want %v and %s", name, got, says, tc.want, tc.says)
		}
	}
}

// Addresses are shared in the same way, also those whose Services are refused.
func TestS18_NoNamespaceTakesAllAddresses(t *testing.T) {
	at := func(name string, last byte) *lb.Service {
		s := of(name, 1)
		s.Frontends[0].Listener.Address = netip.AddrFrom4([4]byte{192, 0, 2, last})
		return s
	}
	var greedy []*lb.Service
	for i := range byte(8) {
		greedy = append(greedy, at(fmt.Sprintf("greedy/%d", i), i))
	}
	with := func(more ...*lb.Service) []*lb.Service { return append(slices.Clone(greedy), more...) }
	api := apiServers()
	api.Frontends[0].Listener.Address = netip.AddrFrom4([4]byte{192, 0, 2, 9})
	for name, tc := range map[string]struct {
		crowding
		want, says string
	}{
		"alone":                 {crowding{addresses: 8, services: greedy}, "[]", ""},
		"a half beside another": {crowding{addresses: 9, services: with(at("shop/web", 8))}, "[address 192.0.2.5 address 192.0.2.6 address 192.0.2.7]", "another address of the namespace greedy: it has 5, its share is 4, and half of the 10 that the hosts bring"},
		"of nobody":             {crowding{addresses: 9, services: []*lb.Service{at("shop/web", 8)}}, "[address 192.0.2.5 address 192.0.2.6 address 192.0.2.7]", "the namespace whose Services are refused"},
		"what is there, stays":  {crowding{addresses: 9, services: with(at("shop/web", 8)), brought: 9}, "[]", ""},
		"who comes later":       {crowding{addresses: 9, services: []*lb.Service{at("late/a", 0), at("greedy/a", 1), at("greedy/b", 2), at("greedy/c", 3), at("greedy/d", 4), at("greedy/e", 5), at("greedy/f", 6), at("greedy/g", 7), at("greedy/h", 8)}, brought: 8}, "[]", ""},
		"the API servers":       {crowding{addresses: 12, services: with(api), brought: 2}, "[address 192.0.2.2 address 192.0.2.3 address 192.0.2.4 address 192.0.2.5 address 192.0.2.6 address 192.0.2.7 address 192.0.2.8]", ""},
	} {
		got, says := tc.beyond(Room{Listeners: 100, Backends: 1000, Addresses: 10})
		if fmt.Sprint(got) != tc.want || !strings.Contains(says, tc.says) {
			t.Errorf("%s: %v: %s, want %s", name, got, says, tc.want)
		}
	}
}

// Whoever wants no more than his share gets it, whatever others want, in whatever order.
func TestEachNamespaceGetsItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		room := Room{Listeners: rapid.IntRange(20, 200).Draw(t, "listeners"), Backends: rapid.IntRange(20, 200).Draw(t, "backends")}
		c := crowding{nodes: []string{"n1", "n2"}}
		for i := range rapid.IntRange(1, 40).Draw(t, "services") {
			c.services = append(c.services, of(fmt.Sprintf("%s/%02d", rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "namespace"), i), rapid.IntRange(1, 20).Draw(t, "ports")))
		}
		refused, _ := c.beyond(room)
		want, has, sum := map[string]int{}, map[string]int{}, 0
		for _, s := range c.services {
			n := len(s.Frontends)
			want[s.ID.Namespace] += n
			if !slices.Contains(refused, lb.ServiceKey(s.ID).Describe()) {
				has[s.ID.Namespace] += n
				sum += n
			}
		}
		if sum > room.Listeners || 2*sum > room.Backends {
			t.Fatalf("%d listeners are carried", sum)
		}
		// Who wants most can be held to an equal part of a half: nobody to less.
		part := min(room.Listeners/2, room.Backends/2/2) / len(want)
		for namespace, n := range want {
			if n <= part && has[namespace] < n {
				t.Fatalf("%s wants %d and has %d, while each may have %d: %v of %v", namespace, n, has[namespace], part, has, want)
			}
		}
	})
}
