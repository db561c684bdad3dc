package admit

import (
	"net/netip"
	"slices"
)

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // SIIT
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// plain are the IPv4 addresses that another one may stand for.
func plain(a netip.Addr) []netip.Addr {
	a = a.WithZone("")
	b := a.As16()
	at := func(i ...int) netip.Addr { return netip.AddrFrom4([4]byte{b[i[0]], b[i[1]], b[i[2]], b[i[3]]}) }
	last := at(12, 13, 14, 15)
	switch {
	case a.Is4In6(), a.Is6() && (nat64.Contains(a) || translated.Contains(a) || compatible.Contains(a)):
		return []netip.Addr{last}
	case sixToFour.Contains(a):
		return []netip.Addr{at(2, 3, 4, 5)}
	case !localNAT64.Contains(a):
		return nil
	}
	// A site takes as much of its prefix as it likes, up to 48, 56, 64 or 96 bits (RFC 6052).
	// Most of what this reads begins with 0, as no address of a machine does.
	all := slices.DeleteFunc([]netip.Addr{at(6, 7, 9, 10), at(7, 9, 10, 11), at(9, 10, 11, 12), last}, func(a netip.Addr) bool { return a.As4()[0] == 0 })
	if len(all) == 0 {
		all = append(all, last)
	}
	return all
}

// inAnyForm reports whether something is so of an address, or of one that it may stand for.
func inAnyForm(a netip.Addr, is func(netip.Addr) bool) bool {
	return is(a) || slices.ContainsFunc(plain(a), is)
}

// never says what an address is that nobody may listen on or send to, whatever the
// rules say; "" if it is none.
func never(a netip.Addr) string {
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.Is4() && a.As4()[0] == 0:
		return "no address of one machine"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "a multicast address"
	}
	for _, p := range plain(a) {
		if what := never(p); what != "" {
			return what + " in another form"
		}
	}
	if a.Is4In6() {
		return "an IPv4 address in another form"
	}
	if a.Zone() != "" {
		return "an address with a zone"
	}
	return ""
}
