package ipam

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/lb"
)

// Assigner settles who has which address of one Balancer's pools, again and again. What is
// on record comes first: listeners, then addresses that are published, then those that are
// assigned, then those that are being left. Then comes what Services without a record show,
// then the rest; in each the older Service before the younger. The result depends neither on
// the order of pools or requests nor on what was settled before, but it costs only what has
// changed since the last time, and what is not settled yet. Not for concurrent use.
type Assigner struct {
	chooser     *chooser
	services    map[types.UID]*service
	open        map[types.UID]*service // to be settled anew: changed, or others have a say in them
	assignments map[types.UID]Assignment
	settled     []types.UID
}

// NewAssigner makes an Assigner for pools, to which nothing is assigned yet.
func NewAssigner(pools []*Pool) *Assigner {
	return &Assigner{
		chooser:  newChooser(pools, newLedger(pools)),
		services: map[types.UID]*service{}, open: map[types.UID]*service{}, assignments: map[types.UID]Assignment{},
	}
}

// Set takes what a Service asks for from now on. The request is kept, and not changed.
func (x *Assigner) Set(r *Request) {
	x.Remove(r.UID)
	s := newService(r)
	x.services[r.UID], x.open[r.UID] = s, s
}

// Remove forgets a Service, with what it holds.
func (x *Assigner) Remove(uid types.UID) {
	if s := x.services[uid]; s != nil {
		x.reopen(s)
		delete(x.services, uid)
		delete(x.open, uid)
		delete(x.assignments, uid)
	}
}

// Assign settles what has changed. Every pool but foreign ones has an entry in the usage.
// What it returns is good until the next call.
func (x *Assigner) Assign() (map[types.UID]Assignment, map[string]Usage) {
	for _, s := range x.opened() {
		x.reopen(s)
		for _, a := range s.Published { // the older of those who show an address comes first
			if sl := x.chooser.ledger.slots[a]; sl != nil && slices.Contains(s.recorded, a) {
				x.reopen(sl.holders[0])
			}
		}
	}
	x.settled = x.settled[:0]
	x.chooser.settleAll(x.opened(), func(s *service, a Assignment) {
		x.assignments[s.UID], x.settled = a, append(x.settled, s.UID)
		if s.quiet(&a) {
			delete(x.open, s.UID)
		}
	})
	return x.assignments, x.chooser.ledger.usage()
}

// Settled are the Services that Assign looked at last. All others have what they had before.
func (x *Assigner) Settled() []types.UID { return x.settled }

func (x *Assigner) opened() []*service {
	all := make([]*service, 0, len(x.open))
	for _, s := range x.open {
		all = append(all, s)
	}
	return all
}

// reopen takes back what a Service holds, to settle it anew, and so with all who share an
// address with it.
func (x *Assigner) reopen(s *service) {
	held := s.held
	s.held, s.current = nil, [families]netip.Addr{}
	x.open[s.UID] = s
	for _, a := range held {
		for _, other := range x.chooser.ledger.release(a) {
			if other != s {
				x.reopen(other)
			}
		}
	}
}

// quiet reports whether a Service stays as it is, whatever others ask for: it has all that
// it wants, that is on record, its users were told, and that comes before all else. Only who
// shows one of its addresses, too, matters to it.
func (s *service) quiet(got *Assignment) bool {
	return got.Problem == nil && len(got.Leaving) == 0 && len(got.Conflicts) == 0 && len(s.Shown) == 0 &&
		!s.Apart && len(s.Ports) > 0 &&
		!slices.ContainsFunc(s.held, func(a netip.Addr) bool { return !slices.Contains(s.Published, a) }) &&
		!slices.ContainsFunc(s.recorded, func(a netip.Addr) bool { return !slices.Contains(s.held, a) }) &&
		!slices.ContainsFunc(got.Listeners, func(at lb.Listener) bool { return !slices.Contains(s.Listeners, at) })
}
