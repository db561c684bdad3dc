package host

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/lb"
)

// What the machine's owner has set up is carried whatever controllers deliver: the address of
// the API servers must not go with a delivery. In what is delivered the owner's Items have
// the place of those with the same key.

// only some Items.
func (p items) only(keys []lb.Key) items {
	sums, out := lb.Sums{}, noItems()
	for _, key := range keys {
		if sum, there := p.sums.Sum(key); there {
			sums[key], out.parts[key] = sum, p.parts[key]
		}
	}
	out.sums = sums.Manifest()
	return out
}

// describe says where the API servers are carried.
func (p items) describe() string {
	s, ok := p.parts[lb.ServiceKey(lb.ControlPlane)].(*lb.Service)
	if !ok {
		return ""
	}
	var at, to []string
	for _, f := range s.Frontends {
		at = append(at, f.Listener.String())
	}
	for _, n := range s.Servers {
		to = append(to, n.Name)
	}
	return strings.Join(at, ", ") + " to " + cmp.Or(strings.Join(to, ", "), "no API server")
}

// addOwn puts the owner's Items among those that are delivered.
func (d *delivery) addOwn(own items) {
	d.own = own
	for key, owned := range own.parts {
		delivered, there := d.parts[key]
		switch owned := owned.(type) {
		case *lb.Service:
			if s, ok := delivered.(*lb.Service); ok {
				d.parts[key] = joined(owned, s)
				continue
			}
		case *lb.VRRP:
			// The hosts share one router, and a controller knows which of them is drained.
			if v, ok := delivered.(*lb.VRRP); ok && v.Interface == owned.Interface && v.RouterID == owned.RouterID {
				continue
			}
		case netip.Addr:
			if delivered == owned {
				continue
			}
		}
		d.parts[key] = owned
		d.sums[key], _ = own.sums.Sum(key)
		if there {
			d.stays[key], d.refused[refused{key: key}] = true, overruled(key, delivered)
		}
	}
}

// overruled is what is delivered in the place of which the owner's stays.
func overruled(key lb.Key, delivered any) lb.Refusal {
	r := lb.Refusal{Key: key, Reason: lb.RefusedNotAdmitted, OlderStays: true, Message: "this host's owner has set it up in another way with `external-lb host apply`"}
	if err, cannot := delivered.(error); cannot {
		r.Reason, r.Message = lb.RefusedInvalid, err.Error()
		if _, unknown := errors.AsType[*lb.UnknownError](err); unknown {
			r.Reason = lb.RefusedUnknown
		}
	}
	return r
}

// joined is the owner's control plane with the API servers that are delivered beside. Of two
// with one name or address the owner's counts, and nothing delivered weighs more.
func joined(own, delivered *lb.Service) *lb.Service {
	out := *own
	out.Servers = slices.Clone(own.Servers)
	for _, n := range delivered.Servers {
		same := func(o lb.Node) bool {
			return o.Name == n.Name || o.IPv4.IsValid() && o.IPv4 == n.IPv4 || o.IPv6.IsValid() && o.IPv6 == n.IPv6
		}
		if len(out.Servers) < admit.MaxServers && !slices.ContainsFunc(own.Servers, same) {
			out.Servers = append(out.Servers, lb.Node{Name: n.Name, IPv4: n.IPv4, IPv6: n.IPv6})
		}
	}
	slices.SortFunc(out.Servers, func(a, b lb.Node) int { return cmp.Compare(a.Name, b.Name) })
	return &out
}

// madeOf is the sum of the bytes that an Item's files are made of: the owner's, too.
func (d *delivery) madeOf(key lb.Key) lb.Sum {
	sum := d.sums[key]
	if own, is := d.own.sums.Sum(key); is && own != sum {
		sum = sha256.Sum256(slices.Concat(own[:], sum[:]))
	}
	return sum
}

// delivered is what a controller is to hear of what is live: what is only the owner's is
// nothing that it must withdraw.
func (w *wanted) delivered(live lb.Sums) lb.Sums {
	maps.DeleteFunc(live, func(key lb.Key, _ lb.Sum) bool {
		return w.own.sums.Has(key) && !w.sums.Has(key)
	})
	return live
}
