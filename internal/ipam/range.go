package ipam

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// maxCapacity is the largest count that a JSON number holds exactly.
const maxCapacity = 1 << 53

// addrRange is a range of addresses of one family, both ends included.
type addrRange struct{ first, last netip.Addr }

func (s addrRange) String() string {
	if s.first == s.last {
		return s.first.String()
	}
	return s.first.String() + "-" + s.last.String()
}

func (s addrRange) contains(a netip.Addr) bool {
	return !a.Less(s.first) && !s.last.Less(a)
}

func (s addrRange) overlaps(o addrRange) bool {
	return !s.last.Less(o.first) && !o.last.Less(s.first)
}

// size is the number of addresses, at most maxCapacity.
func (s addrRange) size() int64 {
	first, last := s.first.As16(), s.last.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(last[8:]), binary.BigEndian.Uint64(first[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(last[:8]), binary.BigEndian.Uint64(first[:8]), borrow)
	if high > 0 || low >= maxCapacity {
		return maxCapacity
	}
	return int64(low) + 1
}

// parseRange parses 192.0.2.0/28, 192.0.2.64-192.0.2.80 or 198.51.100.7.
func parseRange(entry string) (addrRange, error) {
	s, err := parseEnds(strings.TrimSpace(entry))
	if err != nil {
		return addrRange{}, err
	}
	for _, special := range specials {
		if s.overlaps(special.addrRange) {
			return addrRange{}, fmt.Errorf("has %s addresses (%s), which no client can be sent to: leave them out", special.what, special.addrRange)
		}
	}
	return s, nil
}

func parseEnds(entry string) (addrRange, error) {
	if strings.Contains(entry, "/") {
		return parsePrefix(entry)
	}
	from, to, isRange := strings.Cut(entry, "-")
	first, err := parseAddr(from)
	if err != nil || !isRange {
		return addrRange{first, first}, err
	}
	last, err := parseAddr(to)
	switch {
	case err != nil:
		return addrRange{}, err
	case first.Is4() != last.Is4():
		return addrRange{}, fmt.Errorf("goes from one family to the other: write one entry for each")
	case last.Less(first):
		return addrRange{}, fmt.Errorf("is reversed: write %s-%s", last, first)
	}
	return addrRange{first, last}, nil
}

func parseAddr(s string) (netip.Addr, error) {
	s = strings.TrimSpace(s)
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is no address: write an address (198.51.100.7), a prefix (192.0.2.0/28) or a range (192.0.2.64-192.0.2.80)", s)
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("has a zone, which means something on one machine only: write %s", a.WithZone(""))
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("is an IPv4 address written as IPv6: write %s", a.Unmap())
	}
	return a, nil
}

func parsePrefix(s string) (addrRange, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return addrRange{}, fmt.Errorf("is no prefix: write an address, a slash and a number of bits (192.0.2.0/28)")
	case p.Addr().Is4In6():
		return addrRange{}, fmt.Errorf("is an IPv4 prefix written as IPv6: write %s", p.Addr().Unmap())
	case p != p.Masked():
		return addrRange{}, fmt.Errorf("has bits behind its %d: write %s for the prefix, or %s for the one address", p.Bits(), p.Masked(), p.Addr())
	}
	return rangeOf(p), nil
}

func rangeOf(p netip.Prefix) addrRange {
	first := p.Masked().Addr()
	bytes := first.AsSlice()
	for i := range bytes {
		host := 8 - min(max(p.Bits()-8*i, 0), 8)
		bytes[i] |= byte(1<<host - 1)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return addrRange{first, last}
}

// specials are the addresses that no balancer can offer to clients.
var specials = []struct {
	addrRange
	what string
}{
	{rangeOf(netip.MustParsePrefix("0.0.0.0/8")), "unspecified"},
	{rangeOf(netip.MustParsePrefix("127.0.0.0/8")), "loopback"},
	{rangeOf(netip.MustParsePrefix("169.254.0.0/16")), "link-local"},
	{rangeOf(netip.MustParsePrefix("224.0.0.0/4")), "multicast"},
	{rangeOf(netip.MustParsePrefix("255.255.255.255/32")), "broadcast"},
	{rangeOf(netip.MustParsePrefix("::/128")), "unspecified"},
	{rangeOf(netip.MustParsePrefix("::1/128")), "loopback"},
	{rangeOf(netip.MustParsePrefix("::ffff:0:0/96")), "IPv4-mapped"},
	{rangeOf(netip.MustParsePrefix("fe80::/10")), "link-local"},
	{rangeOf(netip.MustParsePrefix("ff00::/8")), "multicast"},
}

// merge sorts ranges and joins those that overlap or touch.
func merge(ranges []addrRange) []addrRange {
	slices.SortFunc(ranges, func(a, b addrRange) int { return a.first.Compare(b.first) })
	var out []addrRange
	for _, s := range ranges {
		if n := len(out); n > 0 && out[n-1].reaches(s) {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// reaches reports whether a range that does not start before s ends there or later,
// or just before it.
func (s addrRange) reaches(o addrRange) bool {
	return s.contains(o.first) || s.last.Next() == o.first
}
