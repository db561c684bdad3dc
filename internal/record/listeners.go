package record

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// maxListeners that are on record: more do not fit into a condition. The others of a
// Service are its own, too, but an older Service can take them.
const maxListeners = 400

// formatListeners prints those of some addresses: 53/UDP,80/TCP@192.0.2.1;80/TCP@2001:db8::1.
func formatListeners(all []lb.Listener, of []netip.Addr) string {
	kept := sorted(slices.DeleteFunc(slices.Clone(all), func(l lb.Listener) bool { return !slices.Contains(of, l.Address) }))
	kept = kept[:min(len(kept), maxListeners)]
	var out strings.Builder
	for i, l := range kept {
		out.WriteString(strconv.Itoa(int(l.Port)) + "/" + string(l.Protocol))
		switch {
		case i+1 == len(kept):
			out.WriteString("@" + l.Address.String())
		case kept[i+1].Address != l.Address:
			out.WriteString("@" + l.Address.String() + ";")
		default:
			out.WriteString(",")
		}
	}
	return out.String()
}

// parseListeners is the inverse of formatListeners.
func parseListeners(text string, of []netip.Addr) (out []lb.Listener) {
	for group := range strings.SplitSeq(text, ";") {
		ports, address, _ := strings.Cut(group, "@")
		a, err := netip.ParseAddr(address)
		if err != nil || !slices.Contains(of, a) {
			continue
		}
		for s := range strings.SplitSeq(ports, ",") {
			number, protocol, _ := strings.Cut(s, "/")
			port, err := strconv.ParseUint(number, 10, 16)
			if err == nil && len(out) < maxListeners {
				out = append(out, lb.Listener{Address: a, Port: uint16(port), Protocol: lb.Protocol(protocol)})
			}
		}
	}
	return sorted(out)
}

// sorted listeners, each once.
func sorted(all []lb.Listener) []lb.Listener {
	slices.SortFunc(all, lb.Listener.Compare)
	return slices.Compact(all)
}
