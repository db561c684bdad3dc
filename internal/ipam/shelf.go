package ipam

import "net/netip"

// shelf finds the lowest address of one family of one pool that would do. It
// never looks again at what was taken before, so that filling a pool costs its
// size once, and a huge prefix costs what is held of it.
type shelf struct {
	spans []span
	free  cursor          // every address before it is held
	share map[Port]cursor // every address before it has this port taken
}

func newShelf(spans []span) *shelf {
	return &shelf{spans: spans, free: start(spans), share: map[Port]cursor{}}
}

// lowestFree is the lowest address that nobody holds, the zero Addr if there is none.
func (sh *shelf) lowestFree(l *ledger) netip.Addr {
	for sh.free.valid() && l.slots[sh.free.address] != nil {
		sh.free = sh.free.next(sh.spans)
	}
	return sh.free.address
}

// lowestShared is, once no address is free, the lowest one on which no listener
// of s is taken, the zero Addr if there is none.
func (sh *shelf) lowestShared(l *ledger, s *service) netip.Addr {
	c := start(sh.spans)
	for _, p := range s.Ports {
		if known, ok := sh.share[p]; ok && c.before(known) {
			c = known
		}
	}
	for ; c.valid(); c = c.next(sh.spans) {
		sl := l.slots[c.address]
		taken := sl.whole != nil && sl.whole != s
		for _, p := range s.Ports {
			if owner := l.listeners[p.at(c.address)]; owner != nil && owner != s {
				taken = true
				sh.pass(p, c)
			}
		}
		if !taken {
			return c.address
		}
	}
	return netip.Addr{}
}

// pass remembers that a port is taken at a cursor.
func (sh *shelf) pass(p Port, c cursor) {
	known, ok := sh.share[p]
	if !ok {
		known = start(sh.spans)
	}
	if known == c {
		sh.share[p] = c.next(sh.spans)
	}
}

// cursor is a place in sorted spans; with the zero Addr, their end.
type cursor struct {
	span    int
	address netip.Addr
}

func start(spans []span) cursor {
	if len(spans) == 0 {
		return cursor{}
	}
	return cursor{address: spans[0].first}
}

func (c cursor) valid() bool { return c.address.IsValid() }

func (c cursor) next(spans []span) cursor {
	if c.address != spans[c.span].last {
		return cursor{span: c.span, address: c.address.Next()}
	}
	if c.span+1 < len(spans) {
		return cursor{span: c.span + 1, address: spans[c.span+1].first}
	}
	return cursor{}
}

func (c cursor) before(o cursor) bool {
	return c.valid() && (!o.valid() || c.address.Less(o.address))
}
