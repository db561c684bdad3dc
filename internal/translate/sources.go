package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// sources are who may connect, by family.
type sources struct {
	everybody bool // no ranges at all
	v4, v6    []netip.Prefix
}

// of is what they mean for one family. Ranges of the other only: closed.
func (s sources) of(ipv4 bool) lb.Allow {
	ranges := s.v6
	if ipv4 {
		ranges = s.v4
	}
	all := func(p netip.Prefix) bool { return p.Bits() == 0 }
	if s.everybody || slices.ContainsFunc(ranges, all) {
		return lb.Allow{Everybody: true}
	}
	return lb.Allow{Sources: ranges}
}

// parseSources reads a Service's source ranges, or those of the older annotation.
// One that cannot be read refuses the whole Service: opening it to everybody, or
// closing it to those that the range meant, would both be guesses.
func parseSources(svc *corev1.Service) (sources, *Problem) {
	list, where := svc.Spec.LoadBalancerSourceRanges, "spec.loadBalancerSourceRanges"
	if len(list) == 0 {
		where = "the annotation " + v1alpha1.SourceRangesAnnotation
		if text := strings.TrimSpace(svc.Annotations[v1alpha1.SourceRangesAnnotation]); text != "" {
			list = strings.Split(text, ",")
		}
	}
	if len(list) == 0 {
		return sources{everybody: true}, nil
	}
	var out sources
	for _, text := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return sources{}, &Problem{Reason: v1alpha1.ReasonInvalidSpec, Message: fmt.Sprintf("%s: %q is not a range such as 192.0.2.0/24", where, text)}
		}
		// A range of IPv4 addresses in IPv6 clothes is one of IPv4.
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		if p = p.Masked(); p.Addr().Is4() {
			out.v4 = append(out.v4, p)
		} else {
			out.v6 = append(out.v6, p)
		}
	}
	out.v4, out.v6 = sorted(out.v4), sorted(out.v6)
	return out, nil
}

func sorted(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges)
}

// WantedAddresses are the addresses that a Service asks for by annotation or, in
// the older way, by spec.loadBalancerIP.
func WantedAddresses(svc *corev1.Service) ([]netip.Addr, *Problem) {
	text, where := svc.Annotations[v1alpha1.AddressesAnnotation], "the annotation "+v1alpha1.AddressesAnnotation
	older := svc.Spec.LoadBalancerIP
	switch {
	case strings.TrimSpace(text) == "" && older == "":
		return nil, nil
	case strings.TrimSpace(text) == "":
		text, where = older, "spec.loadBalancerIP"
	}
	var out []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, ok := unicast(strings.TrimSpace(part))
		if !ok {
			return nil, invalidWish("%s: %q is not an address; want at most one of each family, separated by a comma", where, part)
		}
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			return nil, invalidWish("%s names two addresses of one family", where)
		}
		out = append(out, a)
	}
	if a, ok := unicast(strings.TrimSpace(older)); older != "" && (!ok || !slices.Contains(out, a)) {
		return nil, invalidWish("spec.loadBalancerIP and %s ask for different addresses: remove one of them", where)
	}
	return out, nil
}

func invalidWish(format string, args ...any) *Problem {
	return &Problem{Reason: v1alpha1.ReasonInvalidAnnotation, Message: fmt.Sprintf(format, args...)}
}
