package keepalived

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// Source is keepalived.
var Source = importer.Source{
	Name: "keepalived", Engine: v1alpha1.EngineLVS,
	Reads:   "keepalived.conf with what it includes",
	Example: "external-lb import keepalived /etc/keepalived/keepalived.conf --host lb1=192.0.2.5",
	Parse:   Parse,
}

// reading of a configuration.
type reading struct {
	out    *importer.Configuration
	groups map[string]directive
	routed map[netip.Addr]importer.Place // addresses that VRRP brings
	kinds  map[bool]bool                 // of forwarding: DR or not
}

// Parse reads the files as one configuration.
func Parse(files []importer.File, include importer.Include) (*importer.Configuration, error) {
	r := &reading{
		out:    &importer.Configuration{},
		groups: map[string]directive{}, routed: map[netip.Addr]importer.Place{}, kinds: map[bool]bool{},
	}
	p := &parser{include: include, notes: &r.out.Notes}
	var all []directive
	for _, f := range files {
		list, err := p.parse(f, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	for _, d := range all {
		if d.words[0] == "virtual_server_group" {
			r.groups[d.word(1)] = d
		}
	}
	for _, d := range all {
		r.top(d)
	}
	r.finish()
	return r.out, nil
}

// top is a directive of the outermost level.
func (r *reading) top(d directive) {
	switch d.words[0] {
	case "virtual_server":
		r.virtualServer(d)
	case "vrrp_instance":
		r.router(d)
	case "global_defs", "static_ipaddress", "static_routes", "static_rules", "virtual_server_group":
	case "vrrp_script", "vrrp_track_process", "track_file":
		r.out.Notes.Add(d.place, "%s %s is not carried over: external-lb moves the addresses when the daemon that carries the traffic "+
			"ends", d.words[0], d.word(1))
	case "vrrp_sync_group":
		r.out.Notes.Add(d.place, "vrrp_sync_group %s is not carried over: a Balancer has one virtual router, which moves all addresses "+
			"together", d.word(1))
	default:
		r.out.Notes.Add(d.place, "%s is not understood", strings.Join(d.words[:min(2, len(d.words))], " "))
	}
}

// finish settles what depends on several blocks.
func (r *reading) finish() {
	r.out.Direct = r.kinds[true]
	for i := range r.out.Frontends {
		f := &r.out.Frontends[i]
		if len(r.kinds) == 2 {
			f.Problem = cmp.Or(f.Problem, "some virtual servers have lb_kind DR and others NAT, and a Balancer has one: import them from "+
				"copies with one kind each")
		}
		for _, l := range f.Listeners {
			delete(r.routed, l.Address)
		}
	}
	for a, place := range r.routed {
		r.out.Notes.Add(place, "%s has no virtual server here: it is in no AddressPool. Import what listens on it, or let it stay in "+
			"your own file", a)
	}
}

// router is a vrrp_instance; the first that is read becomes the Balancer's.
func (r *reading) router(d directive) {
	v := &v1alpha1.VRRPSettings{}
	var err error
	for _, in := range d.block {
		switch in.words[0] {
		case "interface":
			v.Interface = in.word(1)
		case "virtual_router_id":
			var id *int32
			if id, err = importer.Number(in.word(1), 1, 255); err == nil {
				v.VirtualRouterID = *id
			}
		case "advert_int":
			seconds, failed := strconv.ParseFloat(in.word(1), 64)
			if err = failed; err == nil && seconds > 0 && seconds <= 40 {
				v.AdvertisementInterval, err = importer.Duration(time.Duration(seconds*100) * 10 * time.Millisecond)
			}
		case "virtual_ipaddress", "virtual_ipaddress_excluded":
			r.addresses(in)
		case "state", "priority", "nopreempt", "preempt_delay":
			r.out.Notes.Add(in.place, "%s is not carried over: the first of spec.hosts that works has the addresses", in.words[0])
		case "authentication":
			r.out.Notes.Add(in.place, "authentication is not carried over: version 3 of the protocol has none")
		case "unicast_peer", "unicast_src_ip":
			r.out.Notes.Add(in.place, "%s is not carried over: the hosts speak multicast, so they must share a network segment", in.words[0])
		case "dont_track_primary", "garp_master_delay", "garp_master_refresh", "garp_master_repeat", "version", "use_vmac":
		default:
			r.out.Notes.Add(in.place, "%s is not carried over: it has no equal", in.words[0])
		}
		if err != nil {
			r.out.Notes.Add(in.place, "%s: %v", in.words[0], err)
			err = nil
		}
	}
	switch {
	case v.Interface == "" || v.VirtualRouterID == 0:
		r.out.Notes.Add(d.place, "vrrp_instance %s is not imported: it has no interface or no virtual_router_id", d.word(1))
	case r.out.VRRP != nil:
		r.out.Notes.Add(d.place, "vrrp_instance %s is not imported: a Balancer has one virtual router, and another one was read first. "+
			"Import it as a Balancer of its own", d.word(1))
	default:
		r.out.VRRP = v
		r.out.Notes.Add(d.place, "virtual_router_id %d is kept: no two routers of a network segment may have it, so take this "+
			"vrrp_instance out before these hosts bring the addresses, or choose another ID", v.VirtualRouterID)
	}
}

// addresses that a router brings.
func (r *reading) addresses(d directive) {
	for _, in := range d.block {
		text, _, _ := strings.Cut(in.words[0], "/")
		a, err := netip.ParseAddr(text)
		if err != nil {
			r.out.Notes.Add(in.place, "%s is not an address", in.words[0])
			continue
		}
		r.routed[a.Unmap()] = in.place
	}
}

// listeners of a virtual server: an address and a port, or those of a group.
func (r *reading) listeners(d directive, protocol corev1.Protocol) ([]importer.Listener, string) {
	var pairs [][]string
	switch d.word(1) {
	case "group":
		g, ok := r.groups[d.word(2)]
		if !ok {
			return nil, "there is no virtual_server_group " + d.word(2)
		}
		for _, in := range g.block {
			pairs = append(pairs, in.words)
		}
	default:
		pairs = [][]string{d.words[1:]}
	}
	var out []importer.Listener
	for _, pair := range pairs {
		if first := append(pair, "")[0]; first == "fwmark" || len(pair) < 2 {
			return nil, fmt.Sprintf("%q has no address and port: what a firewall marks has no equal", strings.Join(pair, " "))
		}
		a, err1 := netip.ParseAddr(pair[0])
		port, err2 := strconv.ParseUint(pair[1], 10, 16)
		if err1 != nil || err2 != nil || port == 0 || a.IsUnspecified() {
			return nil, fmt.Sprintf("%q is not an address and a port", strings.Join(pair, " "))
		}
		out = append(out, importer.Listener{Address: a.Unmap(), Port: uint16(port), Protocol: protocol})
	}
	return out, ""
}

var protocols = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}

func parseProtocol(text string) (corev1.Protocol, bool) {
	i := slices.Index(protocols, corev1.Protocol(strings.ToUpper(text)))
	if i < 0 {
		return "", false
	}
	return protocols[i], true
}
