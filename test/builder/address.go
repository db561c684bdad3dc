package builder

import (
	"net/netip"
	"strings"
)

// Addresses reads a comma separated list, "" for none.
func Addresses(list string) (out []netip.Addr) {
	for s := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' }) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
