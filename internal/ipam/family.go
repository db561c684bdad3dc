package ipam

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// family is an IP family, as an index.
type family int

const (
	ipv4 family = iota
	ipv6
	families
)

func (f family) String() string {
	if f == ipv4 {
		return "IPv4"
	}
	return "IPv6"
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// given stands for an address that a cloud gives.
func (f family) given() netip.Addr {
	if f == ipv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func parseFamily(f corev1.IPFamily) (family, bool) {
	switch f {
	case corev1.IPv4Protocol:
		return ipv4, true
	case corev1.IPv6Protocol:
		return ipv6, true
	default:
		return 0, false
	}
}
