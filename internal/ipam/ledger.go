package ipam

import (
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// ledger knows who holds what. Claims are only ever added, which is what lets
// free lists remember how far they are taken.
type ledger struct {
	pools     index
	given     []*Pool // whose addresses a cloud gives
	slots     map[netip.Addr]*slot
	listeners map[lb.Listener]*service
}

// slot is an address that somebody holds.
type slot struct {
	holders []*service // in the order of their claims
	// whole holds every listener: a Service that leaves and whose ports are not
	// known any more (it became an ExternalName) may be live on any, and one that
	// another Balancer has makes the address be elsewhere.
	whole *service
}

// holder is somebody else than s, nil if there is none.
func (l *ledger) holder(a netip.Addr, s *service) *service {
	if sl := l.slots[a]; sl != nil {
		for _, h := range sl.holders {
			if h != s {
				return h
			}
		}
	}
	return nil
}

// claim gives an address to a Service, with those of its listeners that nobody
// holds yet.
func (l *ledger) claim(a netip.Addr, s *service) {
	if slices.Contains(s.held, a) {
		return
	}
	if lb.Given(a) { // each Service has one of its own
		s.held = append(s.held, a)
		return
	}
	sl := l.slots[a]
	if sl == nil {
		sl = &slot{}
		l.slots[a] = sl
	}
	sl.holders = append(sl.holders, s)
	s.held = append(s.held, a)
	if (len(s.Ports) == 0 || s.Apart) && sl.whole == nil {
		sl.whole = s
	}
	for _, p := range s.Ports {
		if at := p.at(a); l.listeners[at] == nil {
			l.listeners[at] = s
		}
	}
}

// conflicts are the listeners of s at an address that others hold, as far as
// they are known.
func (l *ledger) conflicts(a netip.Addr, s *service) []Conflict {
	var out []Conflict
	for _, p := range s.Ports {
		if owner := l.listeners[p.at(a)]; owner != nil && owner != s {
			out = append(out, Conflict{Listener: p.at(a), Holder: owner.Name})
		}
	}
	return out
}

func (p Port) at(a netip.Addr) lb.Listener {
	return lb.Listener{Address: a, Port: p.Port, Protocol: p.Protocol}
}

// usage counts what is held in each pool, but for foreign ones.
func (l *ledger) usage(pools []*Pool) map[string]Usage {
	assigned := map[*Pool]*[families]int64{}
	for a := range l.slots {
		p := l.pools.find(a)
		if p == nil {
			continue
		}
		if assigned[p] == nil {
			assigned[p] = &[families]int64{}
		}
		assigned[p][familyOf(a)]++
	}
	out := make(map[string]Usage, len(pools))
	for _, p := range pools {
		if p.Foreign {
			continue
		}
		n := assigned[p]
		if n == nil {
			n = &[families]int64{}
		}
		out[p.Name] = Usage{
			IPv4: FamilyUsage{Capacity: p.capacity(ipv4), Assigned: n[ipv4]},
			IPv6: FamilyUsage{Capacity: p.capacity(ipv6), Assigned: n[ipv6]},
		}
	}
	return out
}
