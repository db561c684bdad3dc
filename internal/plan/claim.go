package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Class is the loadBalancerClass that a Balancer serves.
func Class(b *v1alpha1.Balancer) string {
	if b.Spec.LoadBalancerClass != "" {
		return b.Spec.LoadBalancerClass
	}
	return v1alpha1.DefaultClassPrefix + b.Name
}

// Claims says which Balancer serves which Service.
type Claims struct {
	byName    map[string]*v1alpha1.Balancer
	byClass   map[string]*v1alpha1.Balancer
	byDefault *v1alpha1.Balancer
	byAge     []*v1alpha1.Balancer
}

// NewClaims settles who serves what: of two Balancers with one class, or two
// defaults, the older one does. A Balancer that is being deleted serves nothing.
func NewClaims(balancers []*v1alpha1.Balancer) Claims {
	c := Claims{byName: map[string]*v1alpha1.Balancer{}, byClass: map[string]*v1alpha1.Balancer{}}
	byAge := slices.SortedFunc(slices.Values(balancers), func(a, b *v1alpha1.Balancer) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, b := range byAge {
		if b.DeletionTimestamp != nil {
			continue
		}
		c.byAge = append(c.byAge, b)
		if _, taken := c.byClass[Class(b)]; taken {
			continue
		}
		c.byClass[Class(b)] = b
		c.byName[b.Name] = b
		if b.Spec.Default && c.byDefault == nil {
			c.byDefault = b
		}
	}
	return c
}

// ClassHolder is the Balancer that serves a class, nil if none does.
func (c Claims) ClassHolder(class string) *v1alpha1.Balancer { return c.byClass[class] }

// Named is the Balancer of a name, nil if it serves nothing.
func (c Claims) Named(name string) *v1alpha1.Balancer { return c.byName[name] }

// Default is the Balancer that serves Services without a class, nil if none does.
func (c Claims) Default() *v1alpha1.Balancer { return c.byDefault }

// SameRouter is another Balancer with the same virtual router ID, nil if none has
// it: on one network segment, the hosts of both would take each other for their own.
func (c Claims) SameRouter(b *v1alpha1.Balancer) *v1alpha1.Balancer {
	id := routerID(b)
	i := slices.IndexFunc(c.byAge, func(other *v1alpha1.Balancer) bool { return other.Name != b.Name && id != 0 && routerID(other) == id })
	if i < 0 {
		return nil
	}
	return c.byAge[i]
}

// routerID is 0 without VRRP.
func routerID(b *v1alpha1.Balancer) int32 {
	if v := b.Spec.VirtualAddresses.VRRP; b.Spec.VirtualAddresses.Mode == v1alpha1.VRRP && v != nil {
		return v.VirtualRouterID
	}
	return 0
}

// Of is the Balancer that a Service asks for, nil if none serves it.
func (c Claims) Of(svc *corev1.Service) *v1alpha1.Balancer {
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if svc.Spec.LoadBalancerClass == nil {
			return c.byDefault
		}
		return c.byClass[*svc.Spec.LoadBalancerClass]
	case corev1.ServiceTypeNodePort:
		return c.byName[svc.Annotations[v1alpha1.BalancerAnnotation]]
	default:
		return nil
	}
}

// AsksFor is the name of the Balancer that a Service names, "" if it names none
// in a way that is ours.
func AsksFor(svc *corev1.Service) string {
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if name, ours := strings.CutPrefix(ptr.Deref(svc.Spec.LoadBalancerClass, ""), v1alpha1.DefaultClassPrefix); ours {
			return name
		}
		return ""
	case corev1.ServiceTypeNodePort:
		return svc.Annotations[v1alpha1.BalancerAnnotation]
	default:
		return ""
	}
}

// Held reports whether a Service may be live on some Balancer's hosts: it has
// our finalizer from before anything was programmed until it was withdrawn.
func Held(svc *corev1.Service) bool {
	return slices.Contains(svc.Finalizers, v1alpha1.CleanupFinalizer)
}

// HeldBy names the Balancer that holds a Service, "" if it is not held or
// somebody removed the record.
func HeldBy(svc *corev1.Service) string {
	if !Held(svc) {
		return ""
	}
	return svc.Annotations[v1alpha1.HeldByAnnotation]
}

// HeldAddresses are the addresses on record for a Service. What does not parse
// is somebody else's writing and is left out.
func HeldAddresses(svc *corev1.Service) []netip.Addr {
	if !Held(svc) {
		return nil
	}
	return ParseAddresses(svc.Annotations[v1alpha1.HeldAddressesAnnotation])
}

// Published are the addresses that users of a Service were told.
func Published(svc *corev1.Service) []netip.Addr {
	if svc.Spec.Type == corev1.ServiceTypeNodePort {
		if !Held(svc) {
			return nil
		}
		return ParseAddresses(svc.Annotations[v1alpha1.AssignedAddressesAnnotation])
	}
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// ParseAddresses reads a comma separated list and leaves out what is no address.
func ParseAddresses(list string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.SplitSeq(list, ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// FormatAddresses is the inverse of ParseAddresses.
func FormatAddresses(addresses []netip.Addr) string {
	s := make([]string, len(addresses))
	for i, a := range addresses {
		s[i] = a.String()
	}
	return strings.Join(s, ",")
}
