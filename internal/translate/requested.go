package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// RequestedAddresses are the addresses that a Service asks for by annotation or, in
// the older way, by spec.loadBalancerIP, at most one of each family. Both may be
// set if the annotation names the older one, too.
func RequestedAddresses(svc *corev1.Service) ([]netip.Addr, *Problem) {
	const annotation, field = "the annotation " + v1alpha1.AddressesAnnotation, "spec.loadBalancerIP"
	text, older := strings.TrimSpace(svc.Annotations[v1alpha1.AddressesAnnotation]), strings.TrimSpace(svc.Spec.LoadBalancerIP)
	if text == "" && older == "" {
		return nil, nil
	}
	if text == "" {
		return parseRequested(older, field, v1alpha1.ReasonInvalidSpec)
	}
	requested, problem := parseRequested(text, annotation, v1alpha1.ReasonInvalidAnnotation)
	if problem != nil || older == "" {
		return requested, problem
	}
	if a, ok := unicast(older); !ok || !slices.Contains(requested, a) {
		return nil, &Problem{Reason: v1alpha1.ReasonInvalidAnnotation, Message: fmt.Sprintf("%s and %s ask for different addresses: remove one of them", annotation, field)}
	}
	return requested, nil
}

func parseRequested(text, where, reason string) ([]netip.Addr, *Problem) {
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, ok := unicast(strings.TrimSpace(part))
		if !ok {
			return nil, &Problem{Reason: reason, Message: fmt.Sprintf("%s: %s is not an address; want at most one of each family, separated by a comma", where, quoted(part))}
		}
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			return nil, &Problem{Reason: reason, Message: where + " names two addresses of one family"}
		}
		out = append(out, a)
	}
	return out, nil
}
