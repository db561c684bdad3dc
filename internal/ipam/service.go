package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// maxHeld bounds how many addresses a Service holds: one per family, and a few more
// that hosts are about to let go of. A user who asks for another one again and again
// must not hold a whole pool where a host cannot be reached.
const maxHeld = 16

// service is one request while it is settled.
type service struct {
	*Request
	families []family             // asked for, in order, each once
	recorded []netip.Addr         // Request.Recorded, each once
	held     []netip.Addr         // claimed, in that order
	current  [families]netip.Addr // held, and the one of its family; the zero Addr: none
}

func newService(r *Request) *service {
	s := &service{Request: r}
	for _, name := range r.Families {
		if f, ok := parseFamily(name); ok && !slices.Contains(s.families, f) {
			s.families = append(s.families, f)
		}
	}
	for _, a := range r.Recorded {
		if plain(a) && !slices.Contains(s.recorded, a) {
			s.recorded = append(s.recorded, a)
		}
	}
	return s
}

// byAge orders Services: the older first.
func byAge(a, b *service) int {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

// assigned is the address of a family that the record says is assigned: the
// first, for those behind it are being left.
func (s *service) assigned(f family) netip.Addr {
	for _, a := range s.recorded {
		if familyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// leaves reports whether an address on record is not the one of a family that the
// Service asks for.
func (s *service) leaves(a netip.Addr) bool {
	f := familyOf(a)
	return a != s.assigned(f) || !slices.Contains(s.families, f)
}

// keep makes a held address the one of its family, if the Service asks for that
// family and has none yet.
func (s *service) keep(a netip.Addr) {
	f := familyOf(a)
	if !s.current[f].IsValid() && slices.Contains(s.families, f) {
		s.current[f] = a
	}
}

// keepTold leaves only what users were told, nothing that is merely on record.
func (s *service) keepTold() {
	told := slices.Concat(s.Published, s.Shown)
	for f, a := range s.current {
		if slices.Contains(told, a) {
			continue
		}
		s.current[f] = netip.Addr{}
		for _, p := range told {
			if familyOf(p) == family(f) && slices.Contains(s.held, p) {
				s.keep(p)
			}
		}
	}
}

// plain reports whether an address read from an object can be one of ours.
func plain(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6()
}
