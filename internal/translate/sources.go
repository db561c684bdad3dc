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
func (s sources) of(ipv4 bool) lb.Clients {
	ranges := s.v6
	if ipv4 {
		ranges = s.v4
	}
	all := func(p netip.Prefix) bool { return p.Bits() == 0 }
	if s.everybody || slices.ContainsFunc(ranges, all) {
		return lb.Clients{Everybody: true}
	}
	return lb.Clients{Sources: ranges}
}

// parseSources reads a Service's source ranges, or those of the older annotation.
//
// One that cannot be read, also an old one with leading zeros, refuses the whole
// Service: it is left out of the Config, so its listeners close until its owner
// corrects it. Opening it to everybody, or closing it to whom the range meant,
// would both be guesses, and the ranges from before are not known here.
func parseSources(svc *corev1.Service) (sources, *Problem) {
	list, where, reason := svc.Spec.LoadBalancerSourceRanges, "spec.loadBalancerSourceRanges", v1alpha1.ReasonInvalidSpec
	if len(list) == 0 {
		text := strings.TrimSpace(svc.Annotations[v1alpha1.SourceRangesAnnotation])
		if text == "" {
			return sources{everybody: true}, nil
		}
		list, where, reason = strings.Split(text, ","), "the annotation "+v1alpha1.SourceRangesAnnotation, v1alpha1.ReasonInvalidAnnotation
	}
	var out sources
	for _, text := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return sources{}, &Problem{Reason: reason, Message: fmt.Sprintf("%s: %s is not a range such as 192.0.2.0/24", where, quoted(text))}
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

// sourceList is a list as one word.
func sourceList(all []v1alpha1.SourceAddress) string {
	var words []string
	for _, a := range all {
		words = append(words, string(a))
	}
	return strings.Join(words, ",")
}

// sourceAddresses reads what sourceList wrote: where connections to nodes come from.
func sourceAddresses(into *lb.Source, v string) error {
	var out lb.Source
	for text := range strings.SplitSeq(v, ",") {
		p, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			return fmt.Errorf("%s is neither an address nor a range such as 10.0.0.0/24", quoted(text))
		}
		if p != p.Masked() {
			return fmt.Errorf("%s does not begin with its first address: want %s", quoted(text), p.Masked())
		}
		if of := out.Of(p.Addr().Is4()); !of.IsValid() {
			*of = p
			continue
		}
		return fmt.Errorf("%s is the second one of its address family: a host connects from one", quoted(text))
	}
	*into = out
	return nil
}

func sorted(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges)
}
