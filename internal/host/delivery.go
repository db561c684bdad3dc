package host

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/lb"
)

// delivery is a model on its way to the daemons: what of it is admitted, and what
// they refused so far.
type delivery struct {
	rules   *admit.Rules
	machine admit.Machine
	room    admit.Room
	parts   map[lb.Key]any           // decoded, by Key; or the error why not
	sums    lb.Sums                  // of the bytes of which parts were made
	own     items                    // the owner's, which is among the parts
	live    lb.Sums                  // what was carried before
	older   func(lb.Key, lb.Sum) any // what was sent once; nil if it cannot be read
	closed  map[refused]bool         // listeners that the last delivery did not open

	refused map[refused]lb.Refusal // by the daemons and the machine
	stays   map[lb.Key]bool        // an older version is in the place of what is wanted, or was

	settled  bool         // nothing was refused since config was worked out
	config   *lb.Config   // admitted, without what is refused
	refusals []lb.Refusal // by the owner's rules
	podless  []lb.Refusal // of these: see admit.Admitted
}

// refused is an Item, or one of its listeners.
type refused struct {
	key      lb.Key
	listener lb.Listener
}

// delivery of a model.
func (a *Agent) delivery(of *wanted) (*delivery, error) {
	shown, err := a.carried()
	if err != nil {
		return nil, err
	}
	live := mayStay(shown, a.model.wanted.sums)
	machine, err := ownAddresses(live)
	if err != nil {
		return nil, failed("the addresses of this machine cannot be read: %v", err)
	}
	on := &delivery{
		rules: &a.settings.Admit, machine: machine, room: a.settings.room(),
		parts: maps.Clone(of.parts), sums: of.sums.Sums(), live: live, older: a.model.older,
		closed: map[refused]bool{}, refused: map[refused]lb.Refusal{}, stays: map[lb.Key]bool{},
	}
	on.addOwn(of.own)
	for _, r := range a.model.refusals() {
		on.closed[refused{r.Key, r.Listener}] = !r.OfItem()
	}
	if a.moves() == nil {
		on.refuseAddresses()
	}
	return on, nil
}

// ownAddresses are those of this machine, but for those that are brought to it.
func ownAddresses(live lb.Sums) (admit.Machine, error) {
	m := admit.Machine{Addresses: map[netip.Addr]bool{}}
	interfaces, err := net.Interfaces()
	if err != nil {
		return m, err
	}
	for _, i := range interfaces {
		all, err := i.Addrs()
		if err != nil {
			return m, err
		}
		for _, a := range all {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			address := prefix.Addr().Unmap()
			if _, brought := live[lb.AddressKey(address)]; !brought {
				m.Addresses[address] = true
			}
			if i.Flags&net.FlagLoopback != 0 && !prefix.IsSingleIP() { // the kernel takes all of it for its own
				m.Networks = append(m.Networks, prefix.Masked())
			}
		}
	}
	return m, nil
}

// settle works out what is carried.
func (d *delivery) settle() {
	if d.settled {
		return
	}
	for key, part := range d.parts {
		switch part := part.(type) {
		case error: // what is newer than this program leaves what it knew in its place
			if e, ok := errors.AsType[*lb.UnknownError](part); ok {
				d.keepOlder(key, e.Known, lb.RefusedUnknown, e.Error())
			}
		case *lb.Service: // a slip of a policy's pen takes no port away; what else is not admitted must not go on
			if why := d.rules.LacksSource(part); why != "" {
				d.keepOlder(key, part, lb.RefusedNotAdmitted, why)
			}
		}
	}
	for d.admit(); d.keepPodless() || d.crowded(); {
		d.admit()
	}
	d.settled = true
}

// admit what the owner's rules allow, without what is refused already.
func (d *delivery) admit() {
	admitted := d.rules.Admit(d.parts, d.machine)
	d.refusals, d.podless = admitted.Refused, admitted.Podless
	cfg := *admitted.Config
	cfg.Services = nil
	for _, s := range admitted.Config.Services {
		if s = d.left(s); s != nil {
			cfg.Services = append(cfg.Services, s)
		}
	}
	if d.gone(lb.VRRPKey) {
		cfg.VRRP = nil
	}
	cfg.Nodes = slices.DeleteFunc(cfg.Nodes, func(n lb.Node) bool { return d.gone(lb.NodeKey(n.Name)) })
	cfg.Addresses = slices.DeleteFunc(cfg.Addresses, func(a netip.Addr) bool { return d.gone(lb.AddressKey(a)) })
	d.config = &cfg
	if cfg.VRRP == nil {
		d.refuseUnmoved()
	}
}

// crowded refuses what there is no room for, and reports whether that is anything.
func (d *delivery) crowded() bool {
	beyond := d.room.Beyond(d.config, admit.Carried{
		Has: func(key lb.Key) bool { _, has := d.live[key]; return has },
		Older: func(s *lb.Service) *lb.Service {
			key := lb.ServiceKey(s.ID)
			sum, carried := d.live[key]
			if !carried {
				return nil
			}
			if sum != d.sums[key] {
				s, _ = d.older(key, sum).(*lb.Service) // nil, too, where it cannot be read
			}
			return without(s, func(l lb.Listener) bool { return d.closed[refused{key, l}] })
		},
	})
	for _, r := range beyond {
		if r.OfItem() {
			d.refuse(r.Key, r.Reason, r.Message)
		} else {
			d.refused[refused{r.Key, r.Listener}] = r
		}
	}
	return len(beyond) > 0
}

// refuseUnmoved refuses the addresses that no virtual router brings: the reason is the
// router's.
func (d *delivery) refuseUnmoved() {
	router := lb.Refusal{Reason: lb.RefusedInvalid, Message: "no virtual router was sent that brings it"}
	if i := slices.IndexFunc(d.refusals, func(r lb.Refusal) bool { return r.Key == lb.VRRPKey }); i >= 0 {
		router = d.refusals[i]
	} else if r, ok := d.refused[refused{key: lb.VRRPKey}]; ok {
		router = r
	}
	for _, a := range d.config.Addresses {
		d.refusals = append(d.refusals, lb.Refusal{Key: lb.AddressKey(a), Reason: router.Reason, Message: router.Message})
	}
	d.config.Addresses = nil
}

// left is what is left of a Service without what was refused; nil: nothing.
func (d *delivery) left(s *lb.Service) *lb.Service {
	key := lb.ServiceKey(s.ID)
	if d.gone(key) {
		return nil
	}
	return without(s, func(l lb.Listener) bool { _, gone := d.refused[refused{key, l}]; return gone })
}

// without is a Service without some of its listeners: the same one if it has none of them,
// nil if it has no others.
func without(s *lb.Service, closed func(lb.Listener) bool) *lb.Service {
	if s == nil || !slices.ContainsFunc(s.Frontends, func(f lb.Frontend) bool { return closed(f.Listener) }) {
		return s
	}
	part := *s
	part.Frontends = slices.DeleteFunc(slices.Clone(s.Frontends), func(f lb.Frontend) bool { return closed(f.Listener) })
	if len(part.Frontends) == 0 {
		return nil
	}
	return &part
}

// gone reports whether a part is refused, and no older version of it stays.
func (d *delivery) gone(key lb.Key) bool {
	_, whole := d.refused[refused{key: key}]
	return whole && !d.stays[key]
}

// refuse a part for good, or let its older version stay: then it reports true.
func (d *delivery) refuse(key lb.Key, reason lb.RefusalReason, message string) (stays bool) {
	d.settled = false
	if d.keepOlder(key, d.parts[key], reason, message) {
		return true
	}
	d.stays[key] = false
	maps.DeleteFunc(d.refused, func(r refused, f lb.Refusal) bool { return r.key == key && f.OlderStays })
	d.refused[refused{key: key}] = lb.Refusal{Key: key, Reason: reason, Message: message}
	return false
}

// keepOlder lets what may stay of the version of a part that is live be in the place of
// what is wanted, once.
func (d *delivery) keepOlder(key lb.Key, wanted any, reason lb.RefusalReason, message string) bool {
	sum, carried := d.live[key]
	if _, tried := d.stays[key]; tried || !carried || sum == d.sums[key] {
		return false
	}
	older := staying(d.older(key, sum), wanted, reason)
	if older == nil {
		return false
	}
	if s, ok := older.(*lb.Service); ok {
		d.refuseLacking(key, wanted.(*lb.Service), s, reason)
		s = d.complete(s)
		if own, ok := d.own.parts[key].(*lb.Service); ok {
			s = joined(own, s)
		}
		older = s
	}
	d.stays[key], d.parts[key], d.sums[key] = true, older, sum
	d.refused[refused{key: key}] = lb.Refusal{Key: key, Reason: reason, Message: message, OlderStays: true}
	return true
}

// staying is what of an older version may stay in the place of what is wanted; nil: nothing.
// Of a Service, these are the ports whose listener and nodePort are the same: a nodePort may
// be somebody else's by now. Of what Services and addresses depend on, all must be the same.
// But a router that this host cannot have leaves the one that it had: a slip of the pen takes
// no address away.
func staying(was, wanted any, reason lb.RefusalReason) any {
	same := false
	switch now := wanted.(type) {
	case *lb.Service:
		if was, ok := was.(*lb.Service); ok && now.Direct == was.Direct && now.HealthCheckNodePort == was.HealthCheckNodePort {
			part := *was
			ports := portsOf(now)
			part.Frontends = slices.DeleteFunc(slices.Clone(was.Frontends), func(f lb.Frontend) bool { return !ports.has(f) })
			if len(part.Frontends) > 0 && withPodsOf(now, &part, reason) {
				return &part
			}
		}
	case *lb.VRRP:
		was, ok := was.(*lb.VRRP)
		same = ok && (*now == *was || reason == lb.RefusedUnavailable)
	case *lb.Certificate:
		was, ok := was.(*lb.Certificate)
		same = ok && now.Equal(was)
	case lb.Node, netip.Addr:
		same = was == wanted
	}
	if !same {
		return nil
	}
	return was
}

// ports of a Service, by listener.
type ports map[lb.Listener]*lb.Frontend

func portsOf(s *lb.Service) ports {
	p := make(ports, len(s.Frontends))
	for i := range s.Frontends {
		p[s.Frontends[i].Listener] = &s.Frontends[i]
	}
	return p
}

// has reports whether there is a port with the same listener and nodePort. A listener that
// is not understood is none: it has no protocol, see lb.UnknownError.
func (p ports) has(f lb.Frontend) bool {
	o := p[f.Listener]
	return o != nil && o.NodePort == f.NodePort
}

// refuseLacking refuses the ports of what is wanted that the older version lacks.
func (d *delivery) refuseLacking(key lb.Key, wanted, older *lb.Service, reason lb.RefusalReason) {
	ports := portsOf(older)
	for _, f := range wanted.Frontends {
		at := refused{key, f.Listener}
		if _, known := d.refused[at]; !known && f.Listener.Protocol != "" && !ports.has(f) {
			d.refused[at] = lb.Refusal{Key: key, Listener: f.Listener, Reason: reason, OlderStays: true,
				Message: "before this change it was not there, or had another nodePort"}
		}
	}
}

// complete is an older version of a Service without nodes that have gone. The
// certificates that it shows are still here.
func (d *delivery) complete(was *lb.Service) *lb.Service {
	s := *was
	for _, f := range []*lb.Family{&s.IPv4, &s.IPv6} {
		f.Targets.Nodes = slices.DeleteFunc(slices.Clone(f.Targets.Nodes), func(t lb.Target) bool {
			_, there := d.parts[lb.NodeKey(t.Node)]
			return !there
		})
	}
	for _, f := range s.Frontends {
		key := lb.CertificateKey(f.Settings.Certificate)
		if sum, carried := d.live[key]; carried && d.parts[key] == nil {
			d.parts[key], d.sums[key] = d.older(key, sum), sum
		}
	}
	return &s
}

// stayed reports whether an address was brought before.
func (d *delivery) stayed(a netip.Addr) bool {
	_, stays := d.live[lb.AddressKey(a)]
	return stays
}

var errNoVRRP = fmt.Errorf("this machine is not prepared to move addresses by VRRP: add the line `vrrp: true` to /etc/external-lb/host.yaml, and run `external-lb host install --vrrp` as root")

// refuseAddresses where no daemon moves any.
func (d *delivery) refuseAddresses() {
	for key, part := range d.parts {
		switch part.(type) {
		case netip.Addr, *lb.VRRP:
			d.parts[key] = errNoVRRP
		}
	}
}
