package importer

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// service of a group, and its name: what changes of the one that there is, or a new one beside it.
func (m *making) service(g *service) (*corev1.Service, string) {
	if g.of.Spec.Type != corev1.ServiceTypeLoadBalancer && g.whole() && !m.taken["done "+g.of.Namespace+"/"+g.of.Name] {
		m.taken["done "+g.of.Namespace+"/"+g.of.Name] = true
		return m.change(g), g.of.Name
	}
	name := m.free(g.of.Namespace, g.of.Name)
	m.notes.Add(g.ports[0].frontend.Place, "Service %s/%s: %s. The new Service %s has the same pods, and that one stays as it is",
		g.of.Namespace, g.of.Name, whyNew(g), name)
	if len(g.of.Spec.Selector) == 0 {
		m.notes.Add(g.ports[0].frontend.Place, "Service %s/%s has no selector: the new one needs endpoints of its own, as that "+
			"has", g.of.Namespace, g.of.Name)
	}
	return m.fresh(g, name), name
}

func whyNew(g *service) string {
	switch {
	case g.of.Spec.Type == corev1.ServiceTypeLoadBalancer:
		return "it is of type LoadBalancer already, and its class cannot be changed"
	case len(g.ports) < len(g.of.Spec.Ports):
		return "the file has not all of its ports, or not on this address for the same clients"
	case !g.whole():
		p := g.ports[slices.IndexFunc(g.ports, func(p port) bool { return p.spec().Port != int32(p.listener.Port) })]
		return fmt.Sprintf("its port %d is listened on at %d, and clients inside of the cluster may use "+
			"%d", p.spec().Port, p.listener.Port, p.spec().Port)
	}
	return "it is listened on at several addresses of one family, or for different clients"
}

// free finds a name that no Service has.
func (m *making) free(namespace, name string) string {
	base := name[:min(len(name), 55)] + "-lb"
	for i := 1; ; i++ {
		name := base
		if i > 1 {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		if !m.taken[namespace+"/"+name] {
			m.taken[namespace+"/"+name] = true
			return name
		}
	}
}

// change is what becomes different of a Service; its nodePorts stay.
func (m *making) change(g *service) *corev1.Service {
	out := m.head(g, g.of.Name)
	if len(g.of.Spec.ExternalIPs) > 0 {
		m.notes.Add(g.ports[0].frontend.Place, "Service %s/%s has spec.externalIPs: take them out when it has its "+
			"address", g.of.Namespace, g.of.Name)
	}
	if len(g.addresses) == 2 && len(g.of.Spec.IPFamilies) < 2 {
		both := corev1.IPFamilyPolicyPreferDualStack
		out.Spec.IPFamilyPolicy = &both
	}
	return out
}

// Service begins one.
func Service(namespace, name string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
	}
}

// head is what both have.
func (m *making) head(g *service, name string) *corev1.Service {
	class := v1alpha1.DefaultClassPrefix + m.Balancer
	out := Service(g.of.Namespace, name)
	if len(g.addresses) > 0 {
		out.Annotations = map[string]string{v1alpha1.AddressesAnnotation: Join(g.addresses)}
	}
	out.Spec.Type, out.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &class
	first := g.ports[0].frontend
	for _, p := range first.Sources {
		out.Spec.LoadBalancerSourceRanges = append(out.Spec.LoadBalancerSourceRanges, p.String())
	}
	if first.Affinity > 0 && g.of.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		affinity := min(first.Affinity, 86400)
		out.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		out.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &affinity}}
	}
	return out
}

// fresh is a Service of its own, for the same pods.
func (m *making) fresh(g *service, name string) *corev1.Service {
	out := m.head(g, name)
	out.Labels, out.Spec.Selector = g.of.Labels, g.of.Spec.Selector
	out.Spec.ExternalTrafficPolicy = g.of.Spec.ExternalTrafficPolicy
	if out.Spec.SessionAffinity == "" {
		out.Spec.SessionAffinity, out.Spec.SessionAffinityConfig = g.of.Spec.SessionAffinity, g.of.Spec.SessionAffinityConfig
	}
	switch {
	case len(g.addresses) == 2:
		both := corev1.IPFamilyPolicyPreferDualStack
		out.Spec.IPFamilyPolicy = &both
	case len(g.addresses) == 1 && !g.addresses[0].Is4():
		out.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	}
	for i, p := range g.ports {
		spec := p.spec()
		spec.Name, spec.Port, spec.NodePort = g.portName(i), int32(p.listener.Port), 0
		if spec.TargetPort.String() == "0" { // not said: the same
			spec.TargetPort.IntVal = p.spec().Port
		}
		out.Spec.Ports = append(out.Spec.Ports, spec)
	}
	return out
}
