package metallb

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// making of our objects.
type making struct {
	importer.Options
	notes    importer.Notes
	pools    []*pool
	services []*service
}

// pool is an IPAddressPool while it is turned into ours.
type pool struct {
	*object
	spans      []span
	shared     []netip.Addr // that several Services have
	advertised bool
}

// Make the objects that carry on what MetalLB does.
func Make(objects []Object, services []*corev1.Service, options importer.Options) (*importer.Result, error) {
	m := &making{Options: options}
	var advertisements []*object
	for _, from := range objects {
		o, err := parse(from)
		if err != nil {
			return nil, err
		}
		switch o.Kind {
		case "IPAddressPool":
			m.pools = append(m.pools, m.pool(o))
		case "L2Advertisement", "BGPAdvertisement":
			advertisements = append(advertisements, o)
		case "BGPPeer":
			m.notes.Add(o.place, "%s has no equal: the hosts do not speak BGP. Let the router %s (AS %d) route the addresses to the hosts, "+
				"or let a routing daemon on the hosts announce them", o.name(), o.Spec.PeerAddress, o.Spec.PeerASN)
		default:
			m.notes.Add(o.place, "%s has no equal: it belongs to BGP", o.name())
		}
		if o.unknown != "" {
			m.notes.Add(o.place, "%s: %s: it is not carried over", o.name(), o.unknown)
		}
	}
	slices.SortFunc(m.pools, func(a, b *pool) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	for _, o := range advertisements {
		m.advertisement(o)
	}
	m.take(services)
	return m.result(), nil
}

func (m *making) result() *importer.Result {
	out := &importer.Result{}
	if b := m.balancer(); b != nil {
		out.Objects = append(out.Objects, b)
	}
	ranks := m.ranks()
	for _, p := range m.pools {
		for _, made := range m.made(p, ranks[p]) {
			out.Objects = append(out.Objects, made)
		}
	}
	for _, s := range m.services {
		if patch := m.patch(s); patch != nil {
			out.Objects = append(out.Objects, patch)
		}
	}
	if len(m.pools) == 0 {
		m.notes.Add(importer.Place{}, "nothing is imported: there is no IPAddressPool")
	}
	out.Notes = m.notes.Sorted()
	return out
}

func (m *making) balancer() *v1alpha1.Balancer {
	b := importer.Balancer(m.Options, &m.notes)
	if b == nil {
		return nil
	}
	var classes []string
	for _, s := range m.services {
		switch class := s.Spec.LoadBalancerClass; {
		case class == nil:
			b.Spec.Default = true
		case !slices.Contains(classes, *class):
			classes = append(classes, *class)
		}
	}
	slices.Sort(classes)
	if len(classes) > 0 {
		b.Spec.LoadBalancerClass = classes[0]
	}
	for _, class := range classes[min(1, len(classes)):] {
		m.notes.Add(importer.Place{}, "Services of the class %s are not served: a Service cannot change its class, and a Balancer has "+
			"one. Make another Balancer for it, with hosts and pools of its own", class)
	}
	return b
}

func (m *making) pool(o *object) *pool {
	p := &pool{object: o}
	for _, text := range o.Spec.Addresses {
		s, err := parseSpan(text)
		if err != nil {
			m.notes.Add(o.place, "%s: %v", o.name(), err)
			continue
		}
		if o.Spec.AvoidBuggyIPs {
			p.spans = append(p.spans, s.withoutBuggy()...)
		} else {
			p.spans = append(p.spans, s)
		}
	}
	if len(p.spans) > maxRanges {
		m.notes.Add(o.place, "%s: avoidBuggyIPs makes more than %d ranges of it, and an AddressPool has no more: all its addresses are "+
			"used", o.name(), maxRanges)
		p.spans = nil
		for _, text := range o.Spec.Addresses {
			if s, err := parseSpan(text); err == nil {
				p.spans = append(p.spans, s)
			}
		}
	}
	return p
}

// ranks are the priorities of ours, where more comes first. With MetalLB, pools that are for
// some come first, and of these the lower number, where 0 is none.
func (m *making) ranks() map[*pool]int32 {
	var ranked []*pool
	for _, p := range m.pools {
		if a := p.Spec.ServiceAllocation; a.pinned() || a != nil && a.Priority != 0 {
			ranked = append(ranked, p)
		}
	}
	order := func(a, b *pool) int {
		x, y := a.Spec.ServiceAllocation, b.Spec.ServiceAllocation
		if x.pinned() != y.pinned() {
			return map[bool]int{true: 1, false: -1}[x.pinned()]
		}
		return cmp.Compare(uint(y.Priority)-1, uint(x.Priority)-1) // 0 is last
	}
	slices.SortStableFunc(ranked, order)
	out := map[*pool]int32{}
	rank := int32(0)
	for i, p := range ranked {
		if i == 0 || order(p, ranked[i-1]) != 0 {
			rank++
		}
		out[p] = rank
	}
	return out
}

// made are our pools for one of MetalLB: one, and one for the addresses that are shared.
func (m *making) made(p *pool, priority int32) (out []*v1alpha1.AddressPool) {
	spans := p.spans
	for _, a := range p.shared {
		var left []span
		for _, s := range spans {
			left = append(left, s.without(a)...)
		}
		spans = left
	}
	base := v1alpha1.AddressPool{TypeMeta: importer.Kind("AddressPool"), ObjectMeta: metav1.ObjectMeta{Name: p.Metadata.Name}}
	base.Spec = v1alpha1.AddressPoolSpec{Balancer: m.Balancer, Priority: priority, AutoAssign: p.Spec.AutoAssign}
	if p.Spec.AutoAssign != nil && *p.Spec.AutoAssign {
		base.Spec.AutoAssign = nil
	}
	m.allocate(p, &base)
	if len(spans) > 0 {
		one := base.DeepCopy()
		for _, s := range spans {
			one.Spec.Addresses = append(one.Spec.Addresses, s.text())
		}
		if len(spans) > maxRanges {
			m.notes.Add(p.place, "%s: its addresses are more than %d ranges: put some into another AddressPool", p.name(), maxRanges)
		}
		out = append(out, one)
	}
	if len(p.shared) > 0 {
		two, no := base.DeepCopy(), false
		two.Name += "-shared"
		two.Spec.Sharing, two.Spec.AutoAssign = v1alpha1.SharingPorts, &no
		for _, a := range p.shared {
			two.Spec.Addresses = append(two.Spec.Addresses, v1alpha1.AddressRange(a.String()))
		}
		m.notes.Add(p.place, "%s: the addresses that Services share are in AddressPool %s. Every Service that asks for one of them, and "+
			"whose ports are free there, gets it: there is no key", p.name(), two.Name)
		out = append(out, two)
	}
	return out
}

// advertisement says how addresses come to clients, which is the hosts' matter now.
func (m *making) advertisement(o *object) {
	for _, p := range m.pools {
		all := len(o.Spec.IPAddressPools)+len(o.Spec.IPAddressPoolSelectors) == 0
		if all || slices.Contains(o.Spec.IPAddressPools, p.Metadata.Name) || selected(p, o) {
			p.advertised = true
		}
	}
	bgp := o.Kind == "BGPAdvertisement"
	switch {
	case bgp:
		m.notes.Add(o.place, "%s has no equal: nodes announced its addresses. Let your routers route them to the hosts "+
			"(virtualAddresses.mode: Static)", o.name())
	case m.VRRP == nil:
		m.notes.Add(o.place, "%s: a node answered for its addresses. Say --interface and --router-id, and keepalived brings them to one "+
			"of the hosts; without it the hosts must have them already", o.name())
	}
	for what, set := range map[string]bool{
		"communities": len(o.Spec.Communities) > 0, "localPref": o.Spec.LocalPref != 0, "peers": len(o.Spec.Peers) > 0,
		"aggregationLength":   o.Spec.AggregationLength != nil && *o.Spec.AggregationLength != 32,
		"aggregationLengthV6": o.Spec.AggregationLengthV6 != nil && *o.Spec.AggregationLengthV6 != 128,
	} {
		if set {
			m.notes.Add(o.place, "%s: %s is not carried over: set it where the routes to the hosts are made", o.name(), what)
		}
	}
	if len(o.Spec.NodeSelectors) > 0 {
		m.notes.Add(o.place, "%s: nodeSelectors is not carried over: the hosts have the addresses. spec.nodes of the Balancer says which "+
			"nodes get traffic", o.name())
	}
	if len(o.Spec.Interfaces) > 0 {
		m.notes.Add(o.place, "%s: interfaces (%s) is not carried over: those of the nodes are not those of the "+
			"hosts", o.name(), strings.Join(o.Spec.Interfaces, ", "))
	}
}

// selected reports whether an advertisement may be for a pool by its labels.
func selected(p *pool, o *object) bool {
	for i := range o.Spec.IPAddressPoolSelectors {
		s, err := metav1.LabelSelectorAsSelector(&o.Spec.IPAddressPoolSelectors[i])
		if err == nil && s.Matches(labelsOf(p)) {
			return true
		}
	}
	return false
}

func describe(list []metav1.LabelSelector) string {
	var out []string
	for i := range list {
		out = append(out, metav1.FormatLabelSelector(&list[i]))
	}
	return strings.Join(out, "; ")
}
