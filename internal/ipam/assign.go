package ipam

import (
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// settleAll settles Services, of which nobody holds anything yet.
func (c *chooser) settleAll(services []*service, settled func(*service, Assignment)) {
	slices.SortFunc(services, byAge)
	l := c.ledger
	for _, told := range []bool{true, false} {
		for _, s := range services {
			l.adoptListeners(s, told)
		}
	}
	for _, adopt := range []func(*service){l.adoptPublished, l.adoptAssigned, l.adoptLeft, l.adoptShown} {
		for _, s := range services {
			adopt(s)
		}
	}
	for _, s := range services {
		settled(s, c.settle(s))
	}
}

// adoptListeners holds the listeners that are on record as a Service's own, before anybody
// else can ask for them: else an older Service could take what a younger one serves by a
// change of its ports. Those that users were told of come before the others.
func (l *ledger) adoptListeners(s *service, told bool) {
	for _, at := range s.Listeners {
		a := at.Address
		switch p := l.pools.find(a); {
		case slices.Contains(s.Published, a) != told:
		case !told && (p == nil || !p.SharePorts): // nobody gets in by an address that somebody else may have
		case slices.Contains(s.recorded, a) && slices.Contains(s.Ports, Port{at.Protocol, at.Port}) && l.listeners[at] == nil:
			l.listeners[at] = s
		}
	}
}

// adoptPublished holds what users were told, also where no pool has it any more or its
// pool would not give it now.
func (l *ledger) adoptPublished(s *service) {
	for _, a := range s.Published {
		if !slices.Contains(s.recorded, a) {
			continue
		}
		l.claim(a, s)
		if a == s.assigned(familyOf(a)) { // else it is being left
			s.keep(a)
		}
	}
}

// adoptAssigned holds what was assigned and perhaps never published. The Service keeps
// it as far as it would get it now.
func (l *ledger) adoptAssigned(s *service) {
	for _, a := range s.recorded {
		if !s.leaves(a) {
			l.adoptRecorded(a, s)
		}
	}
}

// adoptLeft holds what is on record and being left.
func (l *ledger) adoptLeft(s *service) {
	for _, a := range s.recorded {
		if s.leaves(a) {
			l.adoptRecorded(a, s)
		}
	}
}

func (l *ledger) adoptRecorded(a netip.Addr, s *service) {
	keeps := slices.Contains(s.held, a) || l.entitled(a, s)
	l.claim(a, s)
	if keeps {
		s.keep(a)
	}
}

// entitled reports whether a Service may have an address that users were not told.
func (l *ledger) entitled(a netip.Addr, s *service) bool {
	if lb.Given(a) {
		return slices.ContainsFunc(l.given, func(p *Pool) bool {
			return p.gives[familyOf(a)] && (s.Pool == "" || s.Pool == p.Name) && p.forbids(s.Request) == ""
		})
	}
	p := l.pools.find(a)
	if p == nil || s.Pool != "" && s.Pool != p.Name || p.forbids(s.Request) != "" {
		return false
	}
	return l.hasRoom(a, p, s)
}

// hasRoom reports whether a Service can stay at an address of a pool (nil: of
// none). As with what is published, listeners that another holds are no reason
// to move, as long as one is left.
func (l *ledger) hasRoom(a netip.Addr, p *Pool, s *service) bool {
	if p == nil || !p.SharePorts {
		return l.holder(a, s) == nil
	}
	conflicts := len(l.conflicts(a, s))
	return conflicts == 0 || conflicts < len(s.Ports)
}

// adoptShown holds what a Service without a record shows, unless somebody has it. What
// we have shown stays like what is published; another provider's is what the Service
// may have got from the pools.
func (l *ledger) adoptShown(s *service) {
	for _, a := range s.Shown {
		p := l.pools.find(a)
		if given := familyOf(a).given(); p == nil && s.ShownByUs && l.entitled(given, s) {
			a = given // the cloud gave it
		}
		ours, mayHave := s.ShownByUs && l.hasRoom(a, p, s), p != nil && !p.Foreign && l.entitled(a, s)
		if plain(a) && (ours || mayHave) {
			l.claim(a, s)
			s.keep(a)
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
		switch a := s.current[f]; {
		case chosen[f].IsValid():
			c.ledger.claim(chosen[f], s)
			out.Addresses = append(out.Addresses, chosen[f])
			if a.IsValid() {
				out.Withheld = append(out.Withheld, c.ledger.conflicts(a, s)...)
			}
		case a.IsValid():
			out.Addresses = append(out.Addresses, a)
			out.Conflicts = append(out.Conflicts, c.ledger.conflicts(a, s)...)
			notices = append(notices, c.notice(a, s)...)
		}
	}
	for _, a := range s.held {
		if !slices.Contains(out.Addresses, a) {
			out.Leaving = append(out.Leaving, a)
		}
	}
	slices.SortFunc(out.Conflicts, func(a, b Conflict) int { return a.Listener.Compare(b.Listener) })
	told.conflicts(out.Conflicts)
	out.Problem, out.Notice = told.one(), join(notices)
	out.Listeners = c.ledger.own(s)
	return out
}
