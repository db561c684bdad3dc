package plan

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/record"
)

// Class is the loadBalancerClass that a Balancer serves.
func Class(b *v1alpha1.Balancer) string {
	if b.Spec.LoadBalancerClass != "" {
		return b.Spec.LoadBalancerClass
	}
	return v1alpha1.DefaultClassPrefix + b.Name
}

// Claims says which Balancer serves which Service. A Balancer that is being
// deleted serves nothing.
type Claims struct {
	byAge      []*v1alpha1.Balancer
	byClass    map[string][]*v1alpha1.Balancer
	byDefault  []*v1alpha1.Balancer
	all        map[string]*v1alpha1.Balancer // also those that are being deleted
	pools      []*ipam.Pool                  // of every Balancer
	namespaces map[string]labels.Set
	misplaced  map[string]*ipam.Problem // why no cloud gives the addresses of a pool that wants that
}

// NewClaims settles who serves what, from every Balancer, every pool that is in
// force and the labels of namespaces.
func NewClaims(balancers []*v1alpha1.Balancer, pools []*ipam.Pool, namespaces map[string]labels.Set) Claims {
	c := Claims{byClass: map[string][]*v1alpha1.Balancer{}, namespaces: namespaces}
	c.byAge = slices.SortedFunc(slices.Values(balancers), ByAge)
	c.byAge = slices.DeleteFunc(c.byAge, func(b *v1alpha1.Balancer) bool { return b.DeletionTimestamp != nil })
	c.all = make(map[string]*v1alpha1.Balancer, len(balancers))
	for _, b := range balancers {
		c.all[b.Name] = b
	}
	c.pools, c.misplaced = given(pools, c.all)
	for _, b := range c.byAge {
		c.byClass[Class(b)] = append(c.byClass[Class(b)], b)
		if b.Spec.Default {
			c.byDefault = append(c.byDefault, b)
		}
	}
	return c
}

// ByAge sorts Balancers: of two that want the same, the first has it.
func ByAge(a, b *v1alpha1.Balancer) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// OfClass are the Balancers that serve a class, the oldest first.
func (c Claims) OfClass(class string) []*v1alpha1.Balancer { return c.byClass[class] }

// Defaults are the Balancers that serve Services without a class, the oldest first.
func (c Claims) Defaults() []*v1alpha1.Balancer { return c.byDefault }

// exists reports whether there is a Balancer of a name, also one that is being deleted.
func (c Claims) exists(name string) bool { return c.all[name] != nil }

// Named is the Balancer of a name, nil if it serves nothing.
func (c Claims) Named(name string) *v1alpha1.Balancer { return named(c.byAge, name) }

func named(balancers []*v1alpha1.Balancer, name string) *v1alpha1.Balancer {
	if i := slices.IndexFunc(balancers, func(b *v1alpha1.Balancer) bool { return b.Name == name }); i >= 0 {
		return balancers[i]
	}
	return nil
}

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
	if v := b.Spec.VirtualAddresses.VRRP; b.Spec.UsesVRRP() && v != nil {
		return v.VirtualRouterID
	}
	return 0
}

// MayServe are the Balancers that a Service asks for, the oldest first.
func (c Claims) MayServe(svc *corev1.Service) []*v1alpha1.Balancer {
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if svc.Spec.LoadBalancerClass == nil {
			return c.Defaults()
		}
		return c.OfClass(*svc.Spec.LoadBalancerClass)
	case corev1.ServiceTypeNodePort:
		if b := c.Named(svc.Annotations[v1alpha1.BalancerAnnotation]); b != nil {
			return []*v1alpha1.Balancer{b}
		}
	}
	return nil
}

// Of is the Balancer that serves a Service, nil if none does. Of several that it
// asks for, it is the one whose pools have its addresses, else the one that
// carries it already; for a Service that has none of this, the oldest that has a
// pool for it.
func (c Claims) Of(svc *corev1.Service) *v1alpha1.Balancer {
	may := c.MayServe(svc)
	if len(may) < 2 {
		return first(may)
	}
	for _, name := range []string{c.owner(svc), record.Carrier(record.Holders(svc), svc)} {
		if b := named(may, name); b != nil {
			return b
		}
	}
	fitting := slices.IndexFunc(may, func(b *v1alpha1.Balancer) bool {
		requested := c.requested(b, svc)
		return slices.ContainsFunc(c.pools, func(p *ipam.Pool) bool { return p.Balancer == b.Name && p.Fits(requested) })
	})
	return may[max(0, fitting)]
}

func first[T any](list []*T) *T {
	if len(list) == 0 {
		return nil
	}
	return list[0]
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
