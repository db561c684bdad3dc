package lvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// packetRules are the rules for virtual servers, as nft reads them. The table is
// replaced as a whole. What comes to the chain "missed", IPVS has not taken, since
// keepalived is about to tell it: refused, the kernel does not remember the
// connection, and a client that goes on asking from the same port is not kept from
// the rule for answers, which counts for the first packet only. Of connections that are to
// end, both sides are told so when they say something; a client may begin a new one from
// the same port, which gets another node.
func packetRules(all map[fileset.Socket]virtualServer, late []string) string {
	elements, over := map[string][]string{}, map[string]bool{}
	for _, name := range late {
		over[name] = true
	}
	add := func(set string, v virtualServer, more ...string) {
		if v.Address.Addr().Is4() {
			set += "4"
		} else {
			set += "6"
		}
		elements[set] = append(elements[set], strings.Join(append([]string{v.Address.Addr().String()}, more...), " . "))
	}
	for _, v := range all {
		port := strconv.Itoa(int(v.Address.Port()))
		if len(v.realServers) > 0 {
			add("carried", v, v.Network, port)
			if !v.direct {
				add("nat", v)
			}
		}
		if v.restricted {
			add("restricted", v, v.Network, port)
		}
		for _, to := range v.leaving {
			if over[v.leavingName(to)] {
				add("ended", v, port, to.Addr().String(), strconv.Itoa(int(to.Port())))
			}
		}
		for _, source := range outermost(v.sources) {
			add("allowed_"+v.Network, v, port, source.String())
		}
	}
	var out strings.Builder
	out.WriteString("# Made by external-lb. Changes are overwritten.\ntable inet external_lb {}\ndelete table inet external_lb\ntable inet external_lb {\n")
	for _, family := range []struct{ digit, kind string }{{"4", "ipv4_addr"}, {"6", "ipv6_addr"}} {
		sets := []struct{ name, kind string }{
			{"nat", family.kind},
			{"carried", family.kind + " . inet_proto . inet_service"},
			{"restricted", family.kind + " . inet_proto . inet_service"},
			{"ended", family.kind + " . inet_service . " + family.kind + " . inet_service"},
		}
		// One for each protocol: of a protocol in a set of intervals, nft 1.0.6 makes what
		// newer kernels refuse (seen with 7.3).
		for _, network := range fileset.Networks {
			sets = append(sets, struct{ name, kind string }{"allowed_" + network, family.kind + " . inet_service . " + family.kind + "\n        flags interval"})
		}
		for _, set := range sets {
			fmt.Fprintf(&out, "    set %s%s {\n        type %s\n", set.name, family.digit, set.kind)
			list := elements[set.name+family.digit]
			slices.Sort(list)
			if list = slices.Compact(list); len(list) > 0 {
				fmt.Fprintf(&out, "        elements = { %s }\n", strings.Join(list, ", "))
			}
			out.WriteString("    }\n")
		}
	}
	out.WriteString(`    chain input {
        type filter hook input priority filter; policy accept;
        tcp flags & (syn | rst) == 0 ip daddr . tcp dport . ct reply ip saddr . ct reply proto-src @ended4 reject with tcp reset
        tcp flags & (syn | rst) == 0 ip6 daddr . tcp dport . ct reply ip6 saddr . ct reply proto-src @ended6 reject with tcp reset
`)
	for _, network := range fileset.Networks {
		fmt.Fprintf(&out, `        meta l4proto %[1]s ip daddr . th dport . ip saddr @allowed_%[1]s4 accept
        meta l4proto %[1]s ip6 daddr . th dport . ip6 saddr @allowed_%[1]s6 accept
`, network)
	}
	out.WriteString(`        ip daddr . meta l4proto . th dport @restricted4 jump refuse
        ip6 daddr . meta l4proto . th dport @restricted6 jump refuse
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        tcp flags & (syn | rst) == 0 ct original ip daddr . ct original proto-dst . ip saddr . tcp sport @ended4 reject with tcp reset
        tcp flags & (syn | rst) == 0 ct original ip6 daddr . ct original proto-dst . ip6 saddr . tcp sport @ended6 reject with tcp reset
    }
    chain missed {
        type filter hook input priority 200; policy accept;
        ip daddr . meta l4proto . th dport @carried4 jump refuse
        ip6 daddr . meta l4proto . th dport @carried6 jump refuse
    }
    chain refuse {
        meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ct original ip daddr @nat4 ip daddr != @nat4 masquerade
        ct original ip6 daddr @nat6 ip6 daddr != @nat6 masquerade
    }
}
`)
	return out.String()
}

// outermost are the prefixes that no other one holds: the packet filter refuses a
// set in which elements overlap.
func outermost(all []netip.Prefix) (kept []netip.Prefix) {
	for _, p := range slices.SortedFunc(slices.Values(all), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	}) {
		if n := len(kept); n == 0 || !kept[n-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}
