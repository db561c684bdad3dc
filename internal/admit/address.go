package admit

import "net/netip"

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64 = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// plain is the IPv4 address that another one stands for; the zero Addr: for none.
func plain(a netip.Addr) netip.Addr {
	b := a.As16()
	switch a = a.WithZone(""); {
	case a.Is4In6(), a.Is6() && (nat64.Contains(a) || localNAT64.Contains(a) || compatible.Contains(a)):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
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
	if p := plain(a); p.IsValid() {
		if what := never(p); what != "" {
			return what + " in another form"
		}
		if a.Is4In6() {
			return "an IPv4 address in another form"
		}
	}
	if a.Zone() != "" {
		return "an address with a zone"
	}
	return ""
}
