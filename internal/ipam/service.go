package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// maxRecorded bounds what a record is believed to say. A Service has one address
// per family, and a few more while it moves; but a user can write the record, and
// could hold a whole pool with it.
const maxRecorded = 16

// service is one request while it is settled.
type service struct {
	*Request
	families []family // wanted, in order, each once
	held     []netip.Addr
	kept     [families]kept
}

// kept is an address that a Service had before and keeps.
type kept struct {
	address   netip.Addr // the zero Addr: none
	published bool
	conflicts []Conflict
}

func newService(r *Request) *service {
	s := &service{Request: r}
	for _, name := range r.Families {
		if f, ok := parseFamily(name); ok && !slices.Contains(s.families, f) {
			s.families = append(s.families, f)
		}
	}
	return s
}

// byAge orders Services: the older first.
func byAge(a, b *service) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

func (s *service) recorded() []netip.Addr {
	return s.Recorded[:min(len(s.Recorded), maxRecorded)]
}

// onRecord reports whether the record vouches for a published address. What is
// not on it is somebody else's writing in the status; with nothing of the family
// on it, it was removed and says nothing.
func (s *service) onRecord(a netip.Addr) bool {
	other := false
	for _, r := range s.recorded() {
		if r == a {
			return true
		}
		other = other || familyOf(r) == familyOf(a)
	}
	return !other
}

// keep makes a held address the one of its family, if the Service asks for that
// family and has none yet.
func (s *service) keep(a netip.Addr, published bool, conflicts []Conflict) {
	f := familyOf(a)
	if !s.kept[f].address.IsValid() && slices.Contains(s.families, f) {
		s.kept[f] = kept{a, published, conflicts}
	}
}

// plain reports whether an address read from an object can be one of ours.
func plain(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6()
}
