package record

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Record is what is written down in a Service's status before it is programmed, until
// its withdrawal is confirmed. Only external-lb can write it there.
type Record struct {
	// Holders are the Balancers on whose hosts it may be live, in the order in
	// which they came. Where the hosts bring the addresses themselves, the first
	// one's have them.
	Holders []string
	// Carrier is the holder that proved it last and tells its status.
	Carrier string
	// Addresses that it has and, behind them, those that it is leaving.
	Addresses []netip.Addr
	// Published are those of them that users of a Service of type NodePort were told:
	// its status has no room for them.
	Published []netip.Addr
	// Listeners of Addresses that are its own, where other Services may have the address,
	// too: nobody takes them from it. They are sorted.
	Listeners []lb.Listener
}

// Of is the record of a Service, empty if there is none.
func Of(svc *corev1.Service) Record {
	holders := Holders(svc)
	return Record{holders, Carrier(holders, svc), Addresses(svc), told(svc), Listeners(svc)}
}

// Held reports whether a Service may be live on some Balancer's hosts: it is on record
// from before anything was programmed until it was withdrawn.
func Held(svc *corev1.Service) bool {
	_, held := text(svc)
	return held
}

// Marked reports whether a Service looks like one that is held. What only looks so,
// since it was copied with its finalizers or its status, is to be let go.
func Marked(svc *corev1.Service) bool {
	return slices.Contains(svc.Finalizers, v1alpha1.CleanupFinalizer) ||
		meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionRecord) != nil
}

// Told reports whether a Service has conditions of ours: also one that never had an
// address, and so no record.
func Told(svc *corev1.Service) bool {
	return slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionServiceProgrammed || c.Type == v1alpha1.ConditionMoving
	})
}

// Holders are the Balancers on record for a Service, none if it is not held.
func Holders(svc *corev1.Service) []string { return list(svc, holders) }

// Carrier is the one of a Service's holders that tells its status, "" if there
// is none.
func Carrier(holders []string, svc *corev1.Service) string {
	if name := value(svc, carrier); slices.Contains(holders, name) {
		return name
	}
	if len(holders) == 0 {
		return ""
	}
	return holders[0]
}

// Addresses on record for a Service.
func Addresses(svc *corev1.Service) []netip.Addr { return parseAddresses(value(svc, addresses)) }

// Listeners on record for a Service.
func Listeners(svc *corev1.Service) []lb.Listener {
	return parseListeners(value(svc, listeners), Addresses(svc))
}

// told are the addresses on record that users of a Service of type NodePort were told, or
// what a cloud gave for them.
func told(svc *corev1.Service) []netip.Addr {
	has := Addresses(svc)
	return slices.DeleteFunc(parseAddresses(value(svc, published)), func(a netip.Addr) bool {
		return !slices.ContainsFunc(has, func(h netip.Addr) bool { return h == a || lb.Given(h) && h.Is4() == a.Is4() })
	})
}

// Given are the addresses on record which a cloud gives, and of which users were told what the
// cloud gave: an address of that family, or a hostname.
func Given(svc *corev1.Service) []netip.Addr {
	has, shown := Addresses(svc), Published(svc)
	named := slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool { return in.Hostname != "" })
	return slices.DeleteFunc(slices.Clone(has), func(a netip.Addr) bool {
		of := func(s netip.Addr) bool { return s.Is4() == a.Is4() && !slices.Contains(has, s) }
		return !lb.Given(a) || !named && !slices.ContainsFunc(shown, of)
	})
}

// Shows are the addresses that users of a Service were told, and the hostnames.
func Shows(svc *corev1.Service) (out []string) {
	for _, a := range Published(svc) {
		out = append(out, a.String())
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if in.Hostname != "" {
				out = append(out, in.Hostname)
			}
		}
	}
	return out
}

// Published are the addresses that users of a Service were told, by whomever where
// it is not held.
func Published(svc *corev1.Service) []netip.Addr {
	if svc.Spec.Type == corev1.ServiceTypeNodePort {
		return told(svc)
	}
	return ingress(svc)
}

func ingress(svc *corev1.Service) (out []netip.Addr) {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Occupied are the addresses on which a Service may be live.
func Occupied(svc *corev1.Service) []netip.Addr {
	if !Held(svc) {
		return nil
	}
	return append(Addresses(svc), Published(svc)...)
}

// Shown are the addresses that a Service shows though nothing is on record. They are
// ours where its status says that they answer: then they are by a version of external-lb
// that kept its record elsewhere, or somebody who may write statuses has dropped the
// record. Else they are another provider's; or, of one of type NodePort, what its author
// could have written as well, and no more than a wish, for one address of each family.
func Shown(svc *corev1.Service) (shown []netip.Addr, ours bool) {
	if Held(svc) {
		return nil, false
	}
	programmed := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	switch svc.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		return ingress(svc), programmed != nil && programmed.Status == metav1.ConditionTrue
	case corev1.ServiceTypeNodePort:
		if programmed != nil { // else it was copied
			return oneOfEach(parseAddresses(svc.Annotations[v1alpha1.AssignedAddressesAnnotation])), false
		}
	}
	return nil, false
}

// oneOfEach family, the first.
func oneOfEach(addresses []netip.Addr) (first []netip.Addr) {
	for _, a := range addresses {
		if !slices.ContainsFunc(first, func(other netip.Addr) bool { return other.Is4() == a.Is4() }) {
			first = append(first, a)
		}
	}
	return first
}
