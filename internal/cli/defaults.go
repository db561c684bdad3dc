package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// setDefaults fills in what an API server would, where plans depend on it. It
// reports whether they depend on the object at all.
func setDefaults(obj runtime.Object, namespace string) bool {
	switch o := obj.(type) {
	case *v1alpha1.Balancer:
		if o.Spec.Engine == "" {
			o.Spec.Engine = v1alpha1.Engine(engines.Table.Default())
		}
	case *v1alpha1.UpstreamPolicy:
		setDefault(&o.Namespace, namespace)
	case *corev1.Service:
		setDefault(&o.Namespace, namespace)
		setServiceDefaults(o)
	case *discoveryv1.EndpointSlice:
		setDefault(&o.Namespace, namespace)
	case *corev1.Pod:
		setDefault(&o.Namespace, namespace)
	case *corev1.Secret:
		setDefault(&o.Namespace, namespace)
		setSecretDefaults(o)
	case *v1alpha1.AddressPool, *corev1.Node, *corev1.Namespace:
	default:
		return false
	}
	return true
}

func setServiceDefaults(o *corev1.Service) {
	if o.UID == "" {
		sum := sha256.Sum256([]byte(o.Namespace + "/" + o.Name))
		o.UID = types.UID(hex.EncodeToString(sum[:8]))
	}
	if o.Spec.Type == "" {
		o.Spec.Type = corev1.ServiceTypeClusterIP
	}
	for i := range o.Spec.Ports {
		if o.Spec.Ports[i].Protocol == "" {
			o.Spec.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
}

// setSecretDefaults puts what is written as text where an API server keeps it.
func setSecretDefaults(o *corev1.Secret) {
	for key, text := range o.StringData {
		if o.Data == nil {
			o.Data = map[string][]byte{}
		}
		o.Data[key] = []byte(text)
	}
	o.StringData = nil
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// complete gives Services the families that a cluster with these nodes would.
func complete(o *objects) {
	primary, secondary := corev1.IPv4Protocol, corev1.IPv6Protocol
	has := map[corev1.IPFamily]bool{}
	for _, n := range o.nodes {
		for _, a := range n.Status.Addresses {
			if ip, ok := parseIP(a); ok {
				has[familyOf(ip)] = true
			}
		}
	}
	if has[secondary] && !has[primary] {
		primary, secondary = secondary, primary
	}
	for _, svc := range o.services {
		if len(svc.Spec.IPFamilies) > 0 {
			continue
		}
		svc.Spec.IPFamilies = []corev1.IPFamily{primary}
		policy := corev1.IPFamilyPolicySingleStack
		if svc.Spec.IPFamilyPolicy != nil {
			policy = *svc.Spec.IPFamilyPolicy
		}
		if policy == corev1.IPFamilyPolicyRequireDualStack || policy == corev1.IPFamilyPolicyPreferDualStack && has[secondary] {
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, secondary)
		}
	}
}

func parseIP(a corev1.NodeAddress) (netip.Addr, bool) {
	if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
		return netip.Addr{}, false
	}
	ip, err := netip.ParseAddr(a.Address)
	return ip, err == nil
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}
