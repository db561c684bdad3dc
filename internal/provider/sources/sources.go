// Package sources has the networks of clients as clouds have them, whose lists have no word for
// nobody: an empty one is everybody.
package sources

import (
	"net/netip"
	"slices"
)

// Everybody, of IPv4, and a network of no client, which stands for nobody.
var (
	Everybody = netip.MustParsePrefix("0.0.0.0/0")
	Nobody    = netip.MustParsePrefix("255.255.255.255/32")
)

// List is what a cloud is told, in order: nothing for everybody, and Nobody for nobody.
func List(of []netip.Prefix) []string {
	out := []string{}
	for _, n := range of {
		if n.Bits() == 0 {
			return []string{}
		}
		out = append(out, n.String())
	}
	if len(out) == 0 {
		out = append(out, Nobody.String())
	}
	slices.Sort(out)
	return out
}

// Read is the reverse of it. It returns false for what no List has.
func Read(list []string) (out []netip.Prefix, ok bool) {
	if len(list) == 0 {
		return []netip.Prefix{Everybody}, true
	}
	for _, text := range list {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, false
		}
		if n != Nobody {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out, true
}

// Same reports whether two lists are of the same networks.
func Same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
