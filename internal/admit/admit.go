package admit

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// Machine is what of the host itself decides.
type Machine struct {
	Addresses map[netip.Addr]bool // its own, but for those that it brings for Services
	Networks  []netip.Prefix      // of which it has every address
}

func (m *Machine) has(a netip.Addr) bool { return m.Addresses[a] || inside(m.Networks, a) }

// Admitted is what a host carries of a model, and what it refuses.
type Admitted struct {
	Config  *lb.Config
	Refused []lb.Refusal // sorted by Key and Listener
	// Podless are those of Refused that are Services to none of whose pods anything may be
	// sent: an older version, which names other backends, may do.
	Podless []lb.Refusal
}

// MaxBackends of one Service: its ports, each times the nodes that carry it. Each is a
// line of a file, and up to 6 KB in a daemon.
const MaxBackends = 1 << 18

// Admit decides about every part of a model: what lb.Decode returned, by Key, or
// the error that it returned instead. The parts are not changed.
func (r *Rules) Admit(parts map[lb.Key]any, m Machine) Admitted {
	j := &judge{
		rules: r, machine: m, named: map[string]bool{}, brought: map[netip.Addr]bool{}, certificates: map[string]bool{},
		nodes: nodes{at: map[netip.Addr]int{}}, listeners: make(map[lb.Listener]lb.Key, len(parts)), parts: parts,
	}
	keys := slices.Sorted(maps.Keys(parts))
	for _, key := range keys {
		j.other(key, parts[key])
	}
	for _, key := range keys {
		if n, ok := parts[key].(lb.Node); ok {
			j.node(key, n)
		}
	}
	j.services(keys, parts)
	slices.SortFunc(j.out.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(j.out.Addresses, netip.Addr.Compare)
	slices.SortStableFunc(j.refused, func(a, b lb.Refusal) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), a.Listener.Compare(b.Listener))
	})
	return Admitted{&j.out, j.refused, j.podless}
}

// services are judged, that of the API servers first: no other takes their listener.
func (j *judge) services(keys []lb.Key, parts map[lb.Key]any) {
	first := lb.ServiceKey(lb.ControlPlane)
	if s, ok := parts[first].(*lb.Service); ok {
		if s, why := j.controlPlane(s); why == "" {
			j.service(first, s)
		} else {
			j.whole(first, lb.RefusedNotAdmitted, why)
		}
	}
	for _, key := range keys {
		s, ok := parts[key].(*lb.Service)
		switch {
		case !ok || key == first:
		case len(s.Servers) > 0:
			j.whole(key, lb.RefusedInvalid, "it has API servers, which only the control plane has")
		default:
			j.service(key, s)
		}
	}
}

// judge goes through one model: what others refer to first.
type judge struct {
	rules        *Rules
	machine      Machine
	out          lb.Config
	refused      []lb.Refusal
	named        map[string]bool     // nodes of the model, also those that are refused or cannot be read
	brought      map[netip.Addr]bool // by the hosts
	certificates map[string]bool     // that are carried
	nodes        nodes               // that are carried
	listeners    map[lb.Listener]lb.Key
	parts        map[lb.Key]any
	listening    map[netip.Addr]bool // addresses that any Service asks for; nil: not looked at yet
	podless      []lb.Refusal
}

func (j *judge) refuse(key lb.Key, l lb.Listener, reason lb.RefusalReason, message string) {
	j.refused = append(j.refused, lb.Refusal{Key: key, Listener: l, Reason: reason, Message: message})
}

func (j *judge) whole(key lb.Key, reason lb.RefusalReason, message string) {
	j.refuse(key, lb.Listener{}, reason, message)
}

// other parts than nodes and Services.
func (j *judge) other(key lb.Key, part any) {
	if name, ok := strings.CutPrefix(string(key), string(lb.NodeKey(""))); ok {
		j.named[name] = true
	}
	switch part := part.(type) {
	case *lb.Certificate:
		j.certificates[part.Name()] = true
		j.out.Certificates = append(j.out.Certificates, part)
	case netip.Addr:
		j.address(key, part)
	case *lb.VRRP:
		j.vrrp(key, part)
	case error:
		reason := lb.RefusedInvalid
		if _, unknown := errors.AsType[*lb.UnknownError](part); unknown {
			reason = lb.RefusedUnknown
		}
		j.whole(key, reason, fmt.Sprintf("%.500s", part))
	}
}

const inSettings = "of /etc/external-lb/host.yaml"

// address is one that the hosts bring. One that the machine has by itself would be
// taken from it together with its other addresses' traffic when another host has it.
func (j *judge) address(key lb.Key, a netip.Addr) {
	why := j.rules.listened(a)
	if j.own(a) {
		why = fmt.Sprintf("%s is an address of this host itself, and would go to another host with its traffic: take it off the machine, or out of the AddressPools", a)
	}
	if why != "" {
		j.whole(key, lb.RefusedNotAdmitted, why)
		return
	}
	j.brought[a] = true
	j.out.Addresses = append(j.out.Addresses, a)
}

// listened says why an address may not be listened on; "" if it may.
func (r *Rules) listened(a netip.Addr) string {
	if what := never(a); what != "" {
		return fmt.Sprintf("%s is %s", a, what)
	}
	if len(r.Addresses) > 0 && !inside(r.Addresses, a) {
		return fmt.Sprintf("%s is not in admit.addresses %s (%s): add it there if this host may have it", a, inSettings, list(r.Addresses))
	}
	return ""
}

// own reports whether the machine has an address, in whatever form.
func (j *judge) own(a netip.Addr) bool {
	return inAnyForm(a, j.machine.has)
}

func (j *judge) vrrp(key lb.Key, v *lb.VRRP) {
	r := j.rules
	switch {
	case len(r.RouterIDs) > 0 && !slices.Contains(r.RouterIDs, int(v.RouterID)):
		j.whole(key, lb.RefusedNotAdmitted, fmt.Sprintf("the virtual router ID %d is not in admit.routerIDs %s", v.RouterID, inSettings))
	case len(r.Interfaces) > 0 && !slices.Contains(r.Interfaces, v.Interface):
		j.whole(key, lb.RefusedNotAdmitted, fmt.Sprintf("the interface %s is not in admit.interfaces %s", v.Interface, inSettings))
	default:
		j.out.VRRP = v
	}
}
