package importer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Cluster is what is known of where the traffic goes.
type Cluster struct {
	Services []*corev1.Service
	Nodes    []*corev1.Node // none: not known
}

// port of a Service that a listener leads to.
type port struct {
	listener Listener
	service  *corev1.Service
	index    int // of Spec.Ports
	frontend *Frontend
}

func (p port) spec() corev1.ServicePort { return p.service.Spec.Ports[p.index] }

// match finds the Service's port of every listener.
func (m *making) match(frontends []Frontend) (ports []port) {
	owners, placed := map[Listener][]*Frontend{}, make([][]Listener, len(frontends))
	for i := range frontends {
		placed[i] = m.placed(&frontends[i])
		for _, l := range placed[i] {
			owners[l] = append(owners[l], &frontends[i])
		}
	}
	for i := range frontends {
		f := &frontends[i]
		if f.Problem == "" {
			f.Problem = together(f, placed[i], owners)
		}
		if f.Problem != "" {
			m.notes.Add(f.Place, "not imported: %s", f.Problem)
			continue
		}
		for _, l := range placed[i] {
			svc, index, why := m.find(f, l)
			if why != "" {
				m.notes.Add(f.Place, "port %d/%s is not imported: %s", l.Port, l.Protocol, why)
				continue
			}
			if !slices.ContainsFunc(ports, func(p port) bool { return p.listener == l }) {
				ports = append(ports, port{l, svc, index, f})
			}
		}
		m.checkNodes(f)
	}
	return ports
}

// together says why a frontend cannot be carried beside others that listen where it does: those
// that tell requests apart by name.
func together(f *Frontend, listeners []Listener, owners map[Listener][]*Frontend) string {
	for _, l := range listeners {
		for _, other := range owners[l] {
			same := other.Problem == "" && portOf(other) == portOf(f) && other.Certificate == f.Certificate &&
				slices.Equal(other.Sources, f.Sources)
			if other != f && !same {
				return fmt.Sprintf("what is at %s listens at port %d, too, and is another thing. A Service is one port for all names: let "+
					"an Ingress controller or a Gateway tell requests apart, and give that an address", other.Place, l.Port)
			}
		}
	}
	return ""
}

// portOf all servers; 0 if they differ.
func portOf(f *Frontend) uint16 {
	for _, s := range f.Servers {
		if s.Port != f.Servers[0].Port {
			return 0
		}
	}
	if len(f.Servers) == 0 {
		return 0
	}
	return f.Servers[0].Port
}

// placed are the listeners, where those on every address are on the one that the user said.
func (m *making) placed(f *Frontend) (out []Listener) {
	for _, l := range f.Listeners {
		if l.Address.IsValid() {
			out = append(out, l)
			continue
		}
		for _, a := range m.Addresses {
			l.Address = a
			out = append(out, l)
		}
		if len(m.Addresses) == 0 {
			m.notes.Add(f.Place, "port %d is listened on at every address of the machine: say with --address which of them the Service gets. "+
				"Without it, it gets one of a pool", l.Port)
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Listener) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(out)
}

// find the port of a Service that a frontend sends to.
func (m *making) find(f *Frontend, l Listener) (*corev1.Service, int, string) {
	number := portOf(f)
	switch {
	case l.Address.IsValid() && !l.Address.IsGlobalUnicast():
		return nil, 0, fmt.Sprintf("%s is an address of the machine itself", l.Address)
	case len(f.Servers) == 0:
		return nil, 0, "it has no server"
	case number == 0:
		return nil, 0, fmt.Sprintf("its servers have different ports (%s), and a nodePort is the same on every node", ports(f.Servers))
	}
	for _, svc := range m.Services {
		for i, p := range svc.Spec.Ports {
			there := p.NodePort == int32(number)
			if m.direct {
				there = p.Port == int32(number) && answersAt(svc, l.Address)
			}
			if there && cmp.Or(p.Protocol, corev1.ProtocolTCP) == l.Protocol {
				return svc, i, ""
			}
		}
	}
	if m.direct {
		return nil, 0, fmt.Sprintf("no Service answers at %s, port %d/%s: none has it in spec.externalIPs or in its "+
			"status", l.Address, number, l.Protocol)
	}
	return nil, 0, fmt.Sprintf("no Service has the nodePort %d/%s: what it sends to is no NodePort of this cluster, or the Service's "+
		"manifest names none", number, l.Protocol)
}

// answersAt reports whether nodes take packets to an address for a Service.
func answersAt(svc *corev1.Service, a netip.Addr) bool {
	all := slices.Clone(svc.Spec.ExternalIPs)
	for _, in := range svc.Status.LoadBalancer.Ingress {
		all = append(all, in.IP)
	}
	return slices.ContainsFunc(all, func(text string) bool { ip, err := netip.ParseAddr(text); return err == nil && ip.Unmap() == a })
}

func ports(servers []Server) string {
	var out []string
	for _, s := range servers {
		if text := fmt.Sprint(s.Port); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

// checkNodes tells where a frontend sends to other machines than external-lb will.
func (m *making) checkNodes(f *Frontend) {
	if len(m.Nodes) == 0 {
		return
	}
	known, used := map[netip.Addr]string{}, map[string]bool{}
	for _, n := range m.Nodes {
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				known[ip.Unmap()] = n.Name
			}
			if a.Type == corev1.NodeHostName || a.Type == corev1.NodeInternalDNS {
				m.names[a.Address] = n.Name
			}
		}
	}
	for _, s := range f.Servers {
		name := m.names[s.Host]
		if ip, err := netip.ParseAddr(s.Host); err == nil {
			name = known[ip.Unmap()]
		}
		if name == "" {
			m.notes.Add(s.Place, "%s is no node of this cluster: it gets nothing from external-lb", s.Host)
		}
		used[name] = true
	}
	var more []string
	for _, n := range m.Nodes {
		if !used[n.Name] {
			more = append(more, n.Name)
		}
	}
	if len(more) > 0 && len(used) > 0 {
		m.notes.Add(f.Place, "external-lb sends to every eligible node, so also to %s: set spec.nodes of the Balancer if that is not "+
			"wanted", some(more))
	}
}

func some(list []string) string {
	if len(list) <= 5 {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:5], ", "), len(list)-5)
}
