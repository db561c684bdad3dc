package admit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// source is the address of this host in a range from which nodes are connected to: the first
// that its owner admits. The zero Addr: there is none.
func (r *Rules) source(in netip.Prefix) netip.Addr {
	if i := slices.IndexFunc(r.Sources, in.Contains); i >= 0 {
		return r.Sources[i]
	}
	return netip.Addr{}
}

// LacksSource says that a Service asks for an address that this host has not; "": it does not.
func (r *Rules) LacksSource(s *lb.Service) string {
	for i := range s.Frontends {
		if why := r.noSource(&s.Frontends[i]); why != "" {
			return why
		}
	}
	return ""
}

func (r *Rules) noSource(f *lb.Frontend) string {
	in := *f.Settings.Source.Of(f.Listener.Address.Is4())
	if !in.IsValid() || r.source(in).IsValid() {
		return ""
	}
	what := in.String()
	if in.IsSingleIP() {
		what = in.Addr().String()
	}
	if len(r.Sources) == 0 {
		return fmt.Sprintf("sourceAddresses of its policy asks for %s, and no address of this host may be used for that: name those that may in admit.sources %s", what, inSettings)
	}
	return fmt.Sprintf("sourceAddresses of its policy asks for %s, and that is not in admit.sources %s (%s)", what, inSettings, list(r.Sources))
}

// sourced is a Service that says of each range which address of this host is meant.
func (r *Rules) sourced(s *lb.Service) *lb.Service {
	var frontends []lb.Frontend
	for i := range s.Frontends {
		from := s.Frontends[i].Settings.Source
		if from == (lb.Source{}) {
			continue
		}
		if frontends == nil {
			frontends = slices.Clone(s.Frontends)
		}
		frontends[i].Settings.Source = lb.Source{}
		ipv4 := s.Frontends[i].Listener.Address.Is4()
		if in := from.Of(ipv4); in.IsValid() {
			a := r.source(*in)
			*frontends[i].Settings.Source.Of(ipv4) = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if frontends == nil {
		return s
	}
	part := *s
	part.Frontends = frontends
	return &part
}
