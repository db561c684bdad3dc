package ipam

import (
	"container/heap"
	"net/netip"
	"sort"
)

// freeList finds the lowest address of one family of one pool that would do. It
// never looks again at what was taken before and is still, so that filling a pool costs
// its size once, and a huge prefix costs what is held of it.
type freeList struct {
	ranges []addrRange
	free   cursor              // every address before it is held, or was freed
	freed  addrHeap            // before free, each once; some may be held again
	known  map[netip.Addr]bool // what is in freed
	share  map[Port]cursor     // every address before it has this port taken
}

func newFreeList(ranges []addrRange) *freeList {
	return &freeList{ranges: ranges, free: start(ranges), known: map[netip.Addr]bool{}, share: map[Port]cursor{}}
}

// lowestFree is the lowest address that nobody holds, the zero Addr if there is none.
func (fl *freeList) lowestFree(l *ledger) netip.Addr {
	for len(fl.freed) > 0 {
		if a := fl.freed[0]; l.slots[a] == nil {
			return a
		}
		delete(fl.known, heap.Pop(&fl.freed).(netip.Addr))
	}
	for fl.free.valid() && l.slots[fl.free.address] != nil {
		fl.free = fl.free.next(fl.ranges)
	}
	return fl.free.address
}

// release notes that an address is free again, and that a holder had some ports there.
func (fl *freeList) release(a netip.Addr, ports []Port) {
	at := fl.at(a)
	if at.before(fl.free) && !fl.known[a] {
		fl.known[a] = true
		heap.Push(&fl.freed, a)
	}
	for _, p := range ports {
		if known, ok := fl.share[p]; ok && at.before(known) {
			fl.share[p] = at
		}
	}
}

// at is the cursor at an address of the ranges.
func (fl *freeList) at(a netip.Addr) cursor {
	i := sort.Search(len(fl.ranges), func(i int) bool { return !fl.ranges[i].last.Less(a) })
	return cursor{index: i, address: a}
}

// addrHeap is a heap.Interface, the lowest address first.
type addrHeap []netip.Addr

func (h addrHeap) Len() int           { return len(h) }
func (h addrHeap) Less(i, j int) bool { return h[i].Less(h[j]) }
func (h addrHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *addrHeap) Push(a any)        { *h = append(*h, a.(netip.Addr)) }
func (h *addrHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
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
