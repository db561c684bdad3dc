package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// ledger knows who holds what.
type ledger struct {
	pools     index
	given     []*Pool // whose addresses a cloud gives
	tallies   map[*Pool]*tally
	slots     map[netip.Addr]*slot
	listeners map[lb.Listener]*service
}

// tally is what is held of one pool.
type tally struct {
	capacity, held [families]int64
	free           [families]*freeList
}

func newLedger(pools []*Pool) *ledger {
	l := &ledger{
		pools: newIndex(pools), tallies: make(map[*Pool]*tally, len(pools)),
		slots: map[netip.Addr]*slot{}, listeners: map[lb.Listener]*service{},
	}
	for _, p := range pools {
		l.tallies[p] = &tally{
			capacity: [families]int64{p.capacity(ipv4), p.capacity(ipv6)},
			free:     [families]*freeList{newFreeList(p.ranges[ipv4]), newFreeList(p.ranges[ipv6])},
		}
		if p.Given && !p.Foreign {
			l.given = append(l.given, p)
		}
	}
	slices.SortFunc(l.given, func(a, b *Pool) int { return cmp.Compare(a.Name, b.Name) })
	return l
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
		if p := l.pools.find(a); p != nil {
			l.tallies[p].held[familyOf(a)]++
		}
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

// own are the listeners of s where others may share its addresses.
func (l *ledger) own(s *service) (out []lb.Listener) {
	for _, a := range s.held {
		if !l.shared(a) {
			continue
		}
		for _, p := range s.Ports {
			if at := p.at(a); l.listeners[at] == s {
				out = append(out, at)
			}
		}
	}
	slices.SortFunc(out, lb.Listener.Compare)
	return slices.Compact(out)
}

// shared reports whether an address has, or may get, several holders.
func (l *ledger) shared(a netip.Addr) bool {
	sl, p := l.slots[a], l.pools.find(a)
	return sl != nil && (len(sl.holders) > 1 || p != nil && p.SharePorts)
}

func (p Port) at(a netip.Addr) lb.Listener {
	return lb.Listener{Address: a, Port: p.Port, Protocol: p.Protocol}
}

// release takes an address back from all who hold it, and returns them.
func (l *ledger) release(a netip.Addr) []*service {
	sl := l.slots[a]
	if sl == nil {
		return nil
	}
	delete(l.slots, a)
	p, f := l.pools.find(a), familyOf(a)
	if p != nil {
		l.tallies[p].held[f]--
	}
	for _, s := range sl.holders {
		for _, port := range s.Ports {
			delete(l.listeners, port.at(a))
		}
		if p != nil {
			l.tallies[p].free[f].release(a, s.Ports)
		}
	}
	return sl.holders
}

// usage counts what is held in each pool, but for foreign ones.
func (l *ledger) usage() map[string]Usage {
	out := make(map[string]Usage, len(l.tallies))
	for p, t := range l.tallies {
		if p.Foreign {
			continue
		}
		out[p.Name] = Usage{
			IPv4: FamilyUsage{Capacity: t.capacity[ipv4], Assigned: t.held[ipv4]},
			IPv6: FamilyUsage{Capacity: t.capacity[ipv6], Assigned: t.held[ipv6]},
		}
	}
	return out
}
