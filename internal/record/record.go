package record

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Record is what is written down on a Service before it is programmed, until
// its withdrawal is confirmed.
type Record struct {
	// Holders are the Balancers on whose hosts it may be live, in the order in
	// which they came. Where the hosts bring the addresses themselves, the first
	// one's have them.
	Holders []string
	// Carrier is the holder that proved it last and tells its status.
	Carrier string
	// Addresses that it has and, behind them, those that it is leaving.
	Addresses []netip.Addr
}

// Bounds of what a record is believed to say: a user can write it, too. One that
// external-lb wrote is far below them.
const (
	maxHolders   = 16
	maxAddresses = 64
)

// Held reports whether a Service may be live on some Balancer's hosts: it has
// our finalizer from before anything was programmed until it was withdrawn.
func Held(svc *corev1.Service) bool {
	return slices.Contains(svc.Finalizers, v1alpha1.CleanupFinalizer)
}

// Holders are the Balancers on record for a Service, none if it is not held or
// somebody removed the record.
func Holders(svc *corev1.Service) []string {
	if !Held(svc) {
		return nil
	}
	var out []string
	for name := range strings.SplitSeq(svc.Annotations[v1alpha1.HeldByAnnotation], ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
		if len(out) == maxHolders {
			break
		}
	}
	return out
}

// Carrier is the one of a Service's holders that tells its status, "" if there
// is none.
func Carrier(holders []string, svc *corev1.Service) string {
	if name := svc.Annotations[v1alpha1.CarriedByAnnotation]; slices.Contains(holders, name) {
		return name
	}
	if len(holders) == 0 {
		return ""
	}
	return holders[0]
}

// Addresses on record for a Service. What does not parse is somebody else's
// writing and is left out.
func Addresses(svc *corev1.Service) []netip.Addr {
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

// Occupied are the addresses on which a Service may be live.
func Occupied(svc *corev1.Service) []netip.Addr {
	if !Held(svc) {
		return nil
	}
	return append(Addresses(svc), Published(svc)...)
}

// ParseAddresses reads a comma separated list and leaves out what is no address.
func ParseAddresses(list string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.SplitSeq(list, ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(s)); err == nil && a.Zone() == "" {
			out = append(out, a.Unmap())
		}
		if len(out) == maxAddresses {
			break
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

// Write returns a Service as it is once a record is written on it.
func (r Record) Write(svc *corev1.Service) *corev1.Service {
	svc = svc.DeepCopy()
	for _, f := range finalizers(svc) {
		if !slices.Contains(svc.Finalizers, f) {
			svc.Finalizers = append(svc.Finalizers, f)
		}
	}
	annotations := maps.Clone(svc.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	for key, value := range r.annotations() {
		if value == nil {
			delete(annotations, key)
		} else {
			annotations[key] = *value
		}
	}
	svc.Annotations = annotations
	return svc
}
