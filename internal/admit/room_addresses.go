package admit

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// addresses for which there is no room. They are shared as listeners and backends are, see shares:
// an address is of the namespace of the first Service that is listened for there.
func (r Room) addresses(cfg *lb.Config, carried Carried) (out []lb.Refusal) {
	half := r.Addresses / 2
	if len(cfg.Addresses) <= half {
		return nil
	}
	of := namespaces(cfg)
	used, have, wants := 0, map[string]int{}, map[string]int{}
	stays := func(a netip.Addr) bool { return of[a] == controlPlane || carried.Has(lb.AddressKey(a)) }
	for _, a := range cfg.Addresses {
		wants[of[a]]++
		if stays(a) {
			used++
			have[of[a]]++
		}
	}
	delete(wants, controlPlane)
	each := level(half, slices.Collect(maps.Values(wants)))
	for _, a := range cfg.Addresses {
		name, why := of[a], ""
		switch {
		case stays(a):
			continue
		case used >= r.Addresses:
			why = fmt.Sprintf("the hosts bring %d addresses at most: spread the Services over more Balancers", r.Addresses)
		case used >= half && have[name] >= each:
			if name == "" {
				name = "whose Services are refused"
			}
			why = fmt.Sprintf("there is no room for another address of the namespace %s: it has %d, its share is %d, and half of the %d that the hosts bring at most is kept for namespaces with less: spread the Services over more Balancers",
				name, have[of[a]], each, r.Addresses)
		default:
			used++
			have[name]++
			continue
		}
		out = append(out, lb.Refusal{Key: lb.AddressKey(a), Reason: lb.RefusedNotAdmitted, Message: why})
	}
	return out
}

// controlPlane stands for the namespace of the API servers: no namespace is called so.
const controlPlane = "/"

// namespaces of addresses. Of those that are not here nothing is carried.
func namespaces(cfg *lb.Config) map[netip.Addr]string {
	of := map[netip.Addr]string{}
	for _, s := range cfg.Services {
		for i := range s.Frontends {
			a := s.Frontends[i].Listener.Address
			switch _, known := of[a]; {
			case s.ID == lb.ControlPlane:
				of[a] = controlPlane
			case !known:
				of[a] = s.ID.Namespace
			}
		}
	}
	return of
}
