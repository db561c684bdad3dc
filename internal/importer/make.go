package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Options say what the files do not.
type Options struct {
	Balancer  string // its name
	Engine    v1alpha1.Engine
	Hosts     []v1alpha1.Host
	Addresses []netip.Addr // of what listens on every address of the machine
	// VRRP is how the addresses come to the hosts, nil if nothing is said about it.
	VRRP *v1alpha1.VRRPSettings
}

// Result is what is to be applied, and what is to be known.
type Result struct {
	// Objects in the order in which they are wanted. A Service is whole where it is new, and
	// else what changes of it, for server-side apply.
	Objects []any
	Notes   Notes
}

// making of a Result.
type making struct {
	Cluster
	Options
	direct bool
	notes  Notes
	names  map[string]string // of nodes, by host name
	taken  map[string]bool   // names of Services, with their namespace
}

// Make the objects that carry what a Configuration does.
func Make(c *Configuration, cluster Cluster, options Options) *Result {
	m := &making{Cluster: cluster, Options: options, direct: c.Direct, notes: c.Notes, names: map[string]string{}, taken: map[string]bool{}}
	for _, svc := range m.Services {
		m.taken[svc.Namespace+"/"+svc.Name] = true
	}
	groups := group(m.match(c.Frontends))
	out := &Result{}
	if b := m.balancer(c); b != nil {
		out.Objects = append(out.Objects, b)
	}
	for _, pool := range m.pools(groups) {
		out.Objects = append(out.Objects, pool)
	}
	var services []any
	for _, g := range groups {
		svc, name := m.service(g)
		for _, p := range m.policies(g, name) {
			out.Objects = append(out.Objects, p)
		}
		services = append(services, svc)
	}
	out.Objects = append(out.Objects, services...) // policies come before them: a port that no policy names is carried as it is
	if len(groups) == 0 {
		m.notes.Add(Place{}, "nothing is imported: no port of the files leads to a nodePort of a Service")
	}
	out.Notes = m.notes.Sorted()
	return out
}

// balancer with what the files say of it.
func (m *making) balancer(c *Configuration) *v1alpha1.Balancer {
	options := m.Options
	if options.VRRP == nil {
		options.VRRP = c.VRRP
	}
	b := Balancer(options, &m.notes)
	if b != nil && c.Direct && m.Engine == v1alpha1.EngineLVS {
		b.Spec.LVS = &v1alpha1.LVSSettings{Forwarding: v1alpha1.ForwardDR}
	}
	return b
}

// Balancer needs hosts, which only the user knows: nil without.
func Balancer(o Options, notes *Notes) *v1alpha1.Balancer {
	if len(o.Hosts) == 0 {
		notes.Add(Place{}, "no Balancer is made, since no host is named: say --host NAME=ADDRESS for each, or have the Balancer %s "+
			"already", o.Balancer)
		return nil
	}
	b := &v1alpha1.Balancer{TypeMeta: Kind("Balancer"), ObjectMeta: metav1.ObjectMeta{Name: o.Balancer}}
	b.Spec.Engine, b.Spec.Hosts = o.Engine, o.Hosts
	if o.VRRP != nil {
		b.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{Mode: v1alpha1.VRRP, VRRP: o.VRRP}
	}
	return b
}

// Kind is what an object of ours begins with.
func Kind(name string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: name}
}

// service of one group: ports of a Service at addresses of their own.
type service struct {
	of        *corev1.Service
	addresses []netip.Addr
	ports     []port // of the first address
}

// group ports into Services. One has an address of each family at most, and one list of who may connect.
func group(ports []port) (out []*service) {
	type key struct {
		service *corev1.Service
		address netip.Addr
		sources string
	}
	byKey := map[key]*service{}
	for _, p := range ports {
		k := key{p.service, p.listener.Address, fmt.Sprint(p.frontend.Sources)}
		g := byKey[k]
		if g == nil {
			g = &service{of: p.service}
			if k.address.IsValid() {
				g.addresses = []netip.Addr{k.address}
			}
			byKey[k] = g
			out = append(out, g)
		}
		if !slices.ContainsFunc(g.ports, func(o port) bool { return o.index == p.index && o.listener.Port == p.listener.Port }) {
			g.ports = append(g.ports, p)
		}
	}
	return pair(out)
}

// pair puts what is the same on an IPv4 and an IPv6 address into one Service.
func pair(all []*service) (out []*service) {
	for _, g := range all {
		i := slices.IndexFunc(out, func(o *service) bool {
			return len(o.addresses) == 1 && len(g.addresses) == 1 && o.addresses[0].Is4() != g.addresses[0].Is4() && o.same(g)
		})
		if i < 0 {
			out = append(out, g)
			continue
		}
		out[i].addresses = append(out[i].addresses, g.addresses...)
		slices.SortFunc(out[i].addresses, netip.Addr.Compare)
	}
	return out
}

func (s *service) same(o *service) bool {
	return s.of == o.of && slices.EqualFunc(s.ports, o.ports, func(a, b port) bool {
		return a.index == b.index && a.listener.Port == b.listener.Port && a.frontend == b.frontend
	})
}

// portName of a port in our Service. Several ports need names of their own.
func (s *service) portName(i int) string {
	p := s.ports[i]
	name := p.spec().Name
	if len(s.ports) == 1 {
		return name
	}
	before := slices.ContainsFunc(s.ports[:i], func(o port) bool { return o.index == p.index })
	switch {
	case name == "":
		return fmt.Sprintf("port-%d-%s", p.listener.Port, strings.ToLower(string(p.listener.Protocol)))
	case before:
		return fmt.Sprintf("%s-%d", name[:min(len(name), 50)], p.listener.Port)
	}
	return name
}

// whole reports whether the Service itself has exactly these ports.
func (s *service) whole() bool {
	differs := func(p port) bool { return p.spec().Port != int32(p.listener.Port) }
	return len(s.ports) == len(s.of.Spec.Ports) && !slices.ContainsFunc(s.ports, differs)
}

// pools have the addresses that are listened on: those that several Services have in one of their own.
func (m *making) pools(groups []*service) (out []*v1alpha1.AddressPool) {
	count := map[netip.Addr]int{}
	var addresses []netip.Addr
	for _, g := range groups {
		for _, a := range g.addresses {
			if count[a]++; count[a] == 1 {
				addresses = append(addresses, a)
			}
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	for _, shared := range []bool{false, true} {
		no := false
		pool := &v1alpha1.AddressPool{TypeMeta: Kind("AddressPool"), ObjectMeta: metav1.ObjectMeta{Name: m.Balancer}}
		pool.Spec = v1alpha1.AddressPoolSpec{Balancer: m.Balancer, AutoAssign: &no}
		if shared {
			pool.Name += "-shared"
			pool.Spec.Sharing = v1alpha1.SharingPorts
		}
		for _, a := range addresses {
			if (count[a] > 1) == shared {
				pool.Spec.Addresses = append(pool.Spec.Addresses, v1alpha1.AddressRange(a.String()))
			}
		}
		if len(pool.Spec.Addresses) > 0 {
			out = append(out, pool)
		}
	}
	return out
}

// policies carry the settings of a group: one for the Service where all ports have the same.
func (m *making) policies(g *service, name string) (out []*v1alpha1.UpstreamPolicy) {
	var order []*Frontend
	for _, p := range g.ports {
		if !slices.Contains(order, p.frontend) {
			order = append(order, p.frontend)
		}
	}
	for i, f := range order {
		policy := &v1alpha1.UpstreamPolicy{TypeMeta: Kind("UpstreamPolicy"), ObjectMeta: metav1.ObjectMeta{Namespace: g.of.Namespace, Name: name}}
		if i > 0 {
			policy.Name = fmt.Sprintf("%s-%d", name, i+1)
		}
		policy.Spec.UpstreamSettings = m.able(f, g)
		if f.Certificate != "" {
			policy.Spec.TLS = &v1alpha1.TLS{SecretRef: v1alpha1.SecretReference{Name: policy.Name + "-tls"}}
			m.notes.Add(f.Place, "TLS is terminated with a Secret, which is to be made first: kubectl -n %s create secret tls %s-tls "+
				"--cert=%s --key=%s. The controller needs the right to read it: config/components/tls",
				g.of.Namespace, policy.Name, f.Certificate, cmp.Or(f.Key, f.Certificate))
		}
		if policy.Spec.TLS == nil && len(asMap(&policy.Spec.UpstreamSettings)) == 0 {
			continue
		}
		for i, p := range g.ports {
			ref := v1alpha1.PolicyTargetReference{Kind: "Service", Name: name, SectionName: g.portName(i)}
			if len(order) == 1 {
				ref.SectionName = ""
			}
			if p.frontend == f && !slices.Contains(policy.Spec.TargetRefs, ref) {
				policy.Spec.TargetRefs = append(policy.Spec.TargetRefs, ref)
			}
		}
		out = append(out, policy)
	}
	return out
}

// Join addresses as our annotation has them.
func Join(addresses []netip.Addr) string {
	var out []string
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}
