package metallb

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// prefixes of MetalLB's annotations, the newer one first.
var prefixes = []string{"metallb.io/", "metallb.universe.tf/"}

// service that MetalLB serves.
type service struct {
	*corev1.Service
	addresses []netip.Addr // that it has, or asks for
	pool      string       // that it asks for
	key       string       // that it shares by
}

func (s *service) place() importer.Place {
	return importer.Place{File: "Service " + s.Namespace + "/" + s.Name}
}

func annotation(svc *corev1.Service, name string) string {
	for _, prefix := range prefixes {
		if value := svc.Annotations[prefix+name]; value != "" {
			return value
		}
	}
	return ""
}

// take the Services that MetalLB serves: those of type LoadBalancer with its annotations, with addresses of its pools, or without class.
func (m *making) take(all []*corev1.Service) {
	holders := map[netip.Addr]int{}
	for _, svc := range all {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		s := &service{Service: svc, pool: annotation(svc, "address-pool"), key: annotation(svc, "allow-shared-ip")}
		m.addresses(s)
		ours := slices.ContainsFunc(s.addresses, func(a netip.Addr) bool { return m.poolOf(a) != nil })
		if !ours && s.pool == "" && s.key == "" && svc.Spec.LoadBalancerClass != nil {
			continue
		}
		for _, a := range s.addresses {
			holders[a]++
		}
		m.services = append(m.services, s)
	}
	for _, s := range m.services {
		for _, a := range s.addresses {
			p := m.poolOf(a)
			if p == nil {
				m.notes.Add(s.place(), "its address %s is in no IPAddressPool: it will not keep it", a)
			} else if (holders[a] > 1 || s.key != "") && !slices.Contains(p.shared, a) {
				p.shared = append(p.shared, a)
			}
		}
	}
	for _, p := range m.pools {
		slices.SortFunc(p.shared, netip.Addr.Compare)
	}
}

// addresses that a Service has, or asks for as long as it has none.
func (m *making) addresses(s *service) {
	var texts []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		texts = append(texts, in.IP)
	}
	if len(texts) == 0 {
		if asked := annotation(s.Service, "loadBalancerIPs"); asked != "" {
			texts = strings.Split(asked, ",")
		} else if s.Spec.LoadBalancerIP != "" {
			texts = []string{s.Spec.LoadBalancerIP}
		}
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			s.addresses = append(s.addresses, a.Unmap())
		} else if text != "" {
			m.notes.Add(s.place(), "%q is not an address", text)
		}
	}
}

// poolOf an address.
func (m *making) poolOf(a netip.Addr) *pool {
	for _, p := range m.pools {
		if slices.ContainsFunc(p.spans, func(s span) bool { return s.contains(a) }) {
			return p
		}
	}
	return nil
}

// patch is what a Service needs, nil if it needs nothing: its addresses as a request, so that it
// keeps them whatever becomes of its status.
func (m *making) patch(s *service) *corev1.Service {
	out := importer.Service(s.Namespace, s.Name)
	out.Annotations = map[string]string{}
	if len(s.addresses) > 0 {
		out.Annotations[v1alpha1.AddressesAnnotation] = importer.Join(s.addresses)
	} else if s.pool != "" {
		out.Annotations[v1alpha1.AddressPoolAnnotation] = s.pool
	}
	if s.key != "" && len(s.addresses) == 0 {
		m.notes.Add(s.place(), "it shares by the key %q, and has no address yet: make an AddressPool with sharing: Ports, and name an "+
			"address of it in %s",
			s.key, v1alpha1.AddressesAnnotation)
	}
	for name := range s.Annotations {
		for _, prefix := range prefixes {
			switch what, ours := strings.CutPrefix(name, prefix); {
			case !ours, what == "loadBalancerIPs", what == "address-pool", what == "allow-shared-ip", what == "ip-allocated-from-pool":
			default:
				m.notes.Add(s.place(), "the annotation %s is not carried over: it has no equal", name)
			}
		}
	}
	if len(out.Annotations) == 0 {
		return nil
	}
	return out
}

// allocate says who gets addresses of our pool.
func (m *making) allocate(p *pool, out *v1alpha1.AddressPool) {
	if !p.advertised {
		m.notes.Add(p.place, "%s is in no L2Advertisement or BGPAdvertisement: its addresses were not reached before, and will be", p.name())
	}
	a := p.Spec.ServiceAllocation
	if !a.pinned() {
		return
	}
	var spaces []metav1.LabelSelector
	if len(a.Namespaces) > 0 {
		spaces = append(spaces, metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: a.Namespaces}}})
	}
	spaces = append(spaces, a.NamespaceSelectors...)
	m.one(p, "namespaces and namespaceSelectors", spaces, &out.Spec.NamespaceSelector)
	m.one(p, "serviceSelectors", a.ServiceSelectors, &out.Spec.ServiceSelector)
}

// one selector of several that are alternatives: nobody gets more than before.
func (m *making) one(p *pool, what string, list []metav1.LabelSelector, into *v1alpha1.LabelSelector) {
	if len(list) > 1 {
		m.notes.Add(p.place, "%s: %s are alternatives, and an AddressPool has one selector: the first is taken, and these are not: %s. "+
			"Give them one label, or make a pool for each", p.name(), what, describe(list[1:]))
	}
	if len(list) > 0 {
		*into = selector(list[0])
	}
}

func selector(from metav1.LabelSelector) (out v1alpha1.LabelSelector) {
	for key, value := range from.MatchLabels {
		if out.MatchLabels == nil {
			out.MatchLabels = map[string]v1alpha1.LabelValue{}
		}
		out.MatchLabels[key] = v1alpha1.LabelValue(value)
	}
	for _, r := range from.MatchExpressions {
		is := v1alpha1.LabelSelectorRequirement{Key: r.Key, Operator: r.Operator}
		for _, value := range r.Values {
			is.Values = append(is.Values, v1alpha1.LabelValue(value))
		}
		out.MatchExpressions = append(out.MatchExpressions, is)
	}
	return out
}

func labelsOf(p *pool) labels.Set { return p.Metadata.Labels }
