package ipam

import "net/netip"

// freeList finds the lowest address of one family of one pool that would do. It
// never looks again at what was taken before, so that filling a pool costs its
// size once, and a huge prefix costs what is held of it.
type freeList struct {
	ranges []addrRange
	free   cursor          // every address before it is held
	share  map[Port]cursor // every address before it has this port taken
}

func newFreeList(ranges []addrRange) *freeList {
	return &freeList{ranges: ranges, free: start(ranges), share: map[Port]cursor{}}
}

// lowestFree is the lowest address that nobody holds, the zero Addr if there is none.
func (fl *freeList) lowestFree(l *ledger) netip.Addr {
	for fl.free.valid() && l.slots[fl.free.address] != nil {
		fl.free = fl.free.next(fl.ranges)
	}
	return fl.free.address
}

// lowestShared is, once no address is free, the lowest one on which no listener
// of s is taken, the zero Addr if there is none.
func (fl *freeList) lowestShared(l *ledger, s *service) netip.Addr {
	c := start(fl.ranges)
	for _, p := range s.Ports {
		if known, ok := fl.share[p]; ok && c.before(known) {
			c = known
		}
	}
	for ; c.valid(); c = c.next(fl.ranges) {
		sl := l.slots[c.address]
		taken := sl.whole != nil && sl.whole != s
		for _, p := range s.Ports {
			if owner := l.listeners[p.at(c.address)]; owner != nil && owner != s {
				taken = true
				fl.pass(p, c)
			}
		}
		if !taken {
			return c.address
		}
	}
	return netip.Addr{}
}

// pass remembers that a port is taken at a cursor.
func (fl *freeList) pass(p Port, c cursor) {
	known, ok := fl.share[p]
	if !ok {
		known = start(fl.ranges)
	}
	if known == c {
		fl.share[p] = c.next(fl.ranges)
	}
}

// cursor is a place in sorted ranges; with the zero Addr, their end.
type cursor struct {
	index   int // of its range
	address netip.Addr
}

func start(ranges []addrRange) cursor {
	if len(ranges) == 0 {
		return cursor{}
	}
	return cursor{address: ranges[0].first}
}

func (c cursor) valid() bool { return c.address.IsValid() }

func (c cursor) next(ranges []addrRange) cursor {
	if c.address != ranges[c.index].last {
		return cursor{index: c.index, address: c.address.Next()}
	}
	if c.index+1 < len(ranges) {
		return cursor{index: c.index + 1, address: ranges[c.index+1].first}
	}
	return cursor{}
}

func (c cursor) before(o cursor) bool {
	return c.valid() && (!o.valid() || c.address.Less(o.address))
}
