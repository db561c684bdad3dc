package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/lb"
)

// Assign settles who has which address of one Balancer's pools. What is
// published comes first, then what is on record, then the rest; in each the
// older Service before the younger. The result depends on neither the order of
// pools nor that of requests. Every pool has an entry in the usage.
func Assign(pools []*Pool, requests []Request) (map[types.UID]Assignment, map[string]Usage) {
	services := make([]*service, len(requests))
	for i := range requests {
		services[i] = newService(&requests[i])
	}
	slices.SortFunc(services, byAge)
	l := &ledger{
		pools:     newIndex(pools),
		slots:     make(map[netip.Addr]*slot, len(requests)),
		listeners: make(map[lb.Listener]*service, len(requests)),
	}
	for _, adopt := range []func(*service){l.adoptPublished, l.adoptRecorded, l.adoptUnrecorded} {
		for _, s := range services {
			adopt(s)
		}
	}
	c := newChooser(pools, l)
	assignments := make(map[types.UID]Assignment, len(services))
	for _, s := range services {
		assignments[s.UID] = c.settle(s)
	}
	return assignments, l.usage(pools)
}

// adoptPublished holds what users were told, also where no pool has it any more
// or its pool would not give it now.
func (l *ledger) adoptPublished(s *service) {
	for _, a := range s.Published {
		if plain(a) && s.onRecord(a) && !slices.Contains(s.held, a) {
			s.keep(a, true, l.claim(a, s))
		}
	}
}

// adoptRecorded holds what was assigned and perhaps never published, as far as
// the Service could have got it.
func (l *ledger) adoptRecorded(s *service) {
	for _, a := range s.recorded() {
		if !plain(a) || slices.Contains(s.held, a) {
			continue
		}
		entitled := l.entitled(a, s)
		if entitled || s.Withdrawing {
			conflicts := l.claim(a, s)
			if entitled {
				s.keep(a, false, conflicts)
			}
		}
	}
}

// entitled reports whether a Service may have an address that only its record,
// which a user can write, says that it has.
func (l *ledger) entitled(a netip.Addr, s *service) bool {
	p := l.pools.find(a)
	switch {
	case p == nil, s.Pool != "" && s.Pool != p.Name, p.forbids(s.Request) != "":
		return false
	case !p.SharePorts:
		return l.holder(a, s) == nil
	}
	// As with what is published: listeners that another holds are not a reason
	// to move, as long as one is left.
	taken := 0
	for _, port := range s.Ports {
		if owner := l.listeners[port.at(a)]; owner != nil && owner != s {
			taken++
		}
	}
	return taken == 0 || taken < len(s.Ports)
}

// adoptUnrecorded holds published addresses that the record does not vouch for,
// where what is on record was of no use: the record was tampered with.
func (l *ledger) adoptUnrecorded(s *service) {
	for _, a := range s.Published {
		if !plain(a) || slices.Contains(s.held, a) {
			continue
		}
		lost := !s.kept[familyOf(a)].address.IsValid() && l.holder(a, s) == nil
		if !lost && !s.Withdrawing {
			continue
		}
		conflicts := l.claim(a, s)
		if lost {
			s.keep(a, true, conflicts)
		}
	}
}

// settle decides what a Service has, once everybody holds what they had.
func (c *chooser) settle(s *service) Assignment {
	var told problems
	var chosen [families]netip.Addr
	if !s.Withdrawing {
		chosen = c.choose(s, &told)
	}
	var out Assignment
	var notices []string
	for _, f := range s.families {
		k := s.kept[f]
		switch {
		case chosen[f].IsValid():
			c.ledger.claim(chosen[f], s)
			out.Addresses = append(out.Addresses, chosen[f])
		case k.address.IsValid():
			out.Addresses = append(out.Addresses, k.address)
			out.Conflicts = append(out.Conflicts, k.conflicts...)
			notices = append(notices, c.notice(k.address, s)...)
		}
	}
	for _, a := range s.held {
		if !slices.Contains(out.Addresses, a) {
			out.Leaving = append(out.Leaving, a)
		}
	}
	slices.SortFunc(out.Conflicts, func(a, b Conflict) int {
		return cmp.Or(a.Listener.Compare(b.Listener), cmp.Compare(a.Holder, b.Holder))
	})
	told.conflicts(out.Conflicts)
	out.Problem, out.Notice = told.one(), join(notices)
	return out
}
