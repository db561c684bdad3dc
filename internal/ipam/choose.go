package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// chooser gives new addresses.
type chooser struct {
	ledger *ledger
	byName map[string]*Pool
	pools  []*Pool // in the order of their use
}

func newChooser(pools []*Pool, l *ledger) *chooser {
	c := &chooser{
		ledger: l,
		byName: make(map[string]*Pool, len(pools)),
		pools:  slices.DeleteFunc(slices.Clone(pools), func(p *Pool) bool { return p.Foreign }),
	}
	slices.SortFunc(c.pools, func(a, b *Pool) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range c.pools {
		c.byName[p.Name] = p
	}
	return c
}

// choose finds what a Service lacks and what it wants to move to, by family. No
// choice of one family depends on another's, so nothing is claimed yet.
func (c *chooser) choose(s *service, told *problems) (chosen [families]netip.Addr) {
	requested, problem := s.requested()
	if problem != nil {
		told.add(problem)
		return chosen
	}
	if len(s.held) >= maxHeld {
		told.add(holdsTooMany(len(s.held)))
		return chosen
	}
	var candidates []*Pool
	var noCandidates *Problem
	var asked bool
	missing := false
	for _, f := range s.families {
		have := s.current[f]
		var problem *Problem
		switch {
		case requested[f].IsValid() && requested[f] != have:
			if problem = c.refuses(requested[f], s); problem == nil {
				chosen[f] = requested[f]
			} else if have.IsValid() {
				problem.Message += "; until then the Service keeps " + name(have)
			}
		case !have.IsValid():
			if !asked {
				candidates, noCandidates = c.candidates(s)
				asked = true
			}
			if problem = noCandidates; problem == nil {
				chosen[f], problem = c.lowest(f, candidates, s)
			}
		}
		told.add(problem)
		missing = missing || !have.IsValid() && !chosen[f].IsValid()
	}
	if s.RequireAll && missing {
		told.requireAll()
		s.keepTold()
		return [families]netip.Addr{}
	}
	return chosen
}

// requested are the addresses that the user names, by family.
func (s *service) requested() (requested [families]netip.Addr, problem *Problem) {
	if len(s.families) == 0 {
		return requested, noFamilies()
	}
	for _, a := range s.Requested {
		f := familyOf(a)
		switch {
		case !plain(a):
			return requested, notReal(a)
		case !slices.Contains(s.families, f):
			return requested, otherFamily(a, f)
		case requested[f].IsValid() && requested[f] != a:
			return requested, twoOfFamily(requested[f], a, f)
		}
		requested[f] = a
	}
	return requested, nil
}

// refuses says why a Service cannot have an address that its user names, nil if
// it can.
func (c *chooser) refuses(a netip.Addr, s *service) *Problem {
	p := c.ledger.pools.find(a)
	if p == nil || p.Foreign {
		return inNoPool(a, c.ledger.given)
	}
	if s.Pool != "" && s.Pool != p.Name {
		return inOtherPool(a, p, s.Request)
	}
	if why := p.forbids(s.Request); why != "" {
		return forbidden(a, why)
	}
	return c.taken(a, p, s)
}

// taken says who keeps a Service from getting an address of a pool.
func (c *chooser) taken(a netip.Addr, p *Pool, s *service) *Problem {
	holder := c.ledger.holder(a, s)
	if holder == nil {
		return nil
	}
	if !p.SharePorts {
		return heldBy(a, p, holder)
	}
	if sl := c.ledger.slots[a]; sl.whole != nil && sl.whole != s {
		return heldWhole(a, sl.whole)
	}
	if conflicts := c.ledger.conflicts(a, s); len(conflicts) > 0 {
		return listenerHeld(conflicts[0])
	}
	return nil
}

// candidates are the pools that may give a Service an address it did not name.
func (c *chooser) candidates(s *service) ([]*Pool, *Problem) {
	if s.Pool != "" {
		p := c.byName[s.Pool]
		if p == nil {
			return nil, noSuchPool(s.Request)
		}
		if why := p.forbids(s.Request); why != "" {
			return nil, poolForbids(why, s.Request)
		}
		return []*Pool{p}, nil
	}
	var out []*Pool
	for _, p := range c.pools {
		if p.AutoAssign && p.forbids(s.Request) == "" {
			out = append(out, p)
		}
	}
	if out == nil {
		return nil, noPool(c.pools)
	}
	return out, nil
}

// lowest is the lowest address of the first pool that has one: one that nobody
// holds, or, where there is none and the pool shares, one whose ports do not
// collide.
func (c *chooser) lowest(f family, candidates []*Pool, s *service) (netip.Addr, *Problem) {
	for _, p := range candidates {
		if p.gives[f] {
			return f.given(), nil
		}
		list := c.ledger.tallies[p].free[f]
		if a := list.lowestFree(c.ledger); a.IsValid() {
			return a, nil
		}
		if !p.SharePorts {
			continue
		}
		if a := list.lowestShared(c.ledger, s); a.IsValid() {
			return a, nil
		}
	}
	return netip.Addr{}, c.exhausted(f, candidates, s)
}

// exhausted says what is wrong where no candidate has an address.
func (c *chooser) exhausted(f family, candidates []*Pool, s *service) *Problem {
	candidates = slices.DeleteFunc(slices.Clone(candidates), func(p *Pool) bool { return len(p.ranges[f]) == 0 })
	if len(candidates) == 0 {
		return noneOfFamily(f, s.Pool)
	}
	var size int64
	for _, p := range candidates {
		size = min(size+p.capacity(f), maxCapacity)
	}
	first := candidates[0].ranges[f][0].first
	problem := c.taken(first, candidates[0], s)
	if size > 1 || problem == nil {
		return allHeld(f, candidates, problem)
	}
	return problem
}
