package metallb

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// maxRanges that an AddressPool has.
const maxRanges = 256

// span of addresses, both ends in it.
type span struct{ from, to netip.Addr }

func parseSpan(text string) (span, error) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		a, err1 := netip.ParseAddr(strings.TrimSpace(from))
		b, err2 := netip.ParseAddr(strings.TrimSpace(to))
		if err1 != nil || err2 != nil || a.Unmap().Is4() != b.Unmap().Is4() || b.Unmap().Less(a.Unmap()) {
			return span{}, fmt.Errorf("%q is not a range of addresses", text)
		}
		return span{a.Unmap(), b.Unmap()}, nil
	}
	p, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return span{}, fmt.Errorf("%q is not a range of addresses", text)
	}
	p = p.Masked()
	return span{p.Addr(), lastOf(p)}, nil
}

// lastOf a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b) // as long as it was
	return a
}

func (s span) contains(a netip.Addr) bool {
	return a.Is4() == s.from.Is4() && !a.Less(s.from) && !s.to.Less(a)
}

// without an address: nothing, one or two spans are left.
func (s span) without(a netip.Addr) (out []span) {
	if !s.contains(a) {
		return []span{s}
	}
	if s.from != a {
		out = append(out, span{s.from, a.Prev()})
	}
	if s.to != a {
		out = append(out, span{a.Next(), s.to})
	}
	return out
}

// withoutBuggy leaves out IPv4 addresses that end in .0 or .255. It stops at more than are allowed.
func (s span) withoutBuggy() (out []span) {
	if !s.from.Is4() {
		return []span{s}
	}
	for from := s.from; len(out) <= maxRanges; {
		p := netip.PrefixFrom(from, 24).Masked()
		low, high := p.Addr(), lastOf(p)
		part := span{from, high.Prev()}
		if from == low {
			part.from = low.Next()
		}
		if s.to.Less(part.to) {
			part.to = s.to
		}
		if !part.to.Less(part.from) {
			out = append(out, part)
		}
		if !high.Less(s.to) {
			break
		}
		from = high.Next()
	}
	return out
}

// text as an AddressPool has it.
func (s span) text() v1alpha1.AddressRange {
	if s.from == s.to {
		return v1alpha1.AddressRange(s.from.String())
	}
	for bits := s.from.BitLen() - 1; bits >= 0; bits-- {
		p := netip.PrefixFrom(s.from, bits)
		if p.Masked().Addr() != s.from || s.to.Less(lastOf(p)) {
			break
		}
		if lastOf(p) == s.to {
			return v1alpha1.AddressRange(p.String())
		}
	}
	return v1alpha1.AddressRange(s.from.String() + "-" + s.to.String())
}
