package lvs

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// ipvsTable is what the kernel carries. Any user can read it.
const ipvsTable = "/proc/net/ip_vs"

// kernelServer is a virtual server of the kernel's.
type kernelServer struct {
	realServers []netip.AddrPort // sorted, each once
	closed      int              // how many of them get no new connections
}

// ipvsCarries is what the kernel carries.
func ipvsCarries() (map[fileset.Socket]kernelServer, error) {
	data, err := os.ReadFile(ipvsTable)
	if err != nil {
		return nil, err
	}
	return parseIPVS(string(data)), nil
}

// parseIPVS reads lines such as "TCP  CB007105:0050 rr" and "TCP  [2001:…]:0050 rr",
// each followed by its real servers: "  -> C6120102:7580 Masq 1 0 0".
func parseIPVS(text string) map[fileset.Socket]kernelServer {
	all := map[fileset.Socket]kernelServer{}
	walkIPVS(text, func(of fileset.Socket) { all[of] = kernelServer{} }, func(of fileset.Socket, at netip.AddrPort, fields []string) {
		v := all[of]
		v.realServers = append(v.realServers, at)
		if len(fields) > 3 && fields[3] == "0" {
			v.closed++
		}
		all[of] = v
	})
	for at, v := range all {
		v.realServers = sortedOnce(v.realServers)
		all[at] = v
	}
	return all
}

// walkIPVS looks at each virtual server, and at each of its real ones with the fields of its line.
func walkIPVS(text string, virtual func(fileset.Socket), real func(of fileset.Socket, at netip.AddrPort, fields []string)) {
	var of *fileset.Socket // nil: of none that is ours to know
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		at, ok := parseIPVSAddress(fields[1])
		switch network := strings.ToLower(fields[0]); {
		case network == "->" && ok && of != nil:
			real(*of, at, fields)
		case network == "->":
		case ok && slices.Contains(fileset.Networks, network):
			of = &fileset.Socket{Network: network, Address: at}
			virtual(*of)
		default:
			of = nil
		}
	}
}

// parseIPVSAddress reads an address and a port, all in hexadecimal digits.
func parseIPVSAddress(text string) (netip.AddrPort, bool) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(text[colon+1:], 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	if inner, ok := strings.CutPrefix(text[:colon], "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return netip.AddrPortFrom(a, uint16(port)), err == nil
	}
	raw, err := hex.DecodeString(text[:colon])
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(port)), err == nil && ok
}

// differs says how the kernel's table is not as it should be; "" if it is. What was
// there before must be gone.
func differs(want, before map[fileset.Socket]virtualServer) string {
	have, err := ipvsCarries()
	if err != nil {
		return noIPVS
	}
	return compareIPVS(want, before, have)
}

func compareIPVS(want, before map[fileset.Socket]virtualServer, have map[fileset.Socket]kernelServer) string {
	var lacking, other []string
	for at, v := range want {
		is, there := have[at]
		switch {
		case len(v.realServers) == 0:
		case !there:
			lacking = append(lacking, at.String())
		case !slices.Equal(is.realServers, v.realServers) && !(at.Network == "udp" && containsAll(v.realServers, is.realServers)):
			other = append(other, at.String())
		}
	}
	for at, was := range before {
		if _, there := have[at]; there && len(was.realServers) > 0 && len(want[at].realServers) == 0 {
			other = append(other, at.String())
		}
	}
	switch {
	case len(lacking) > 0:
		return fmt.Sprintf("IPVS lacks %d of %d virtual servers, such as %s", len(lacking), len(want), slices.Min(lacking))
	case len(other) > 0:
		return fmt.Sprintf("IPVS has other real servers for %d virtual servers, such as %s", len(other), slices.Min(other))
	}
	return ""
}

// containsAll: keepalived takes a server that fails its check away from UDP clients.
func containsAll(all, some []netip.AddrPort) bool {
	return !slices.ContainsFunc(some, func(a netip.AddrPort) bool { return !slices.Contains(all, a) })
}

// allClosed says when no node gets connections for any of the virtual servers: then
// nothing answers, and more often than not it is the check that does not get through.
func allClosed(want map[fileset.Socket]virtualServer, have map[fileset.Socket]kernelServer) string {
	port := uint16(0)
	for at, v := range want {
		if is := have[at]; is.closed < len(is.realServers) {
			return ""
		}
		if len(v.realServers) > 0 {
			port = max(port, v.checkPort)
		}
	}
	if port == 0 {
		return "" // no check
	}
	return fmt.Sprintf("every node fails its health check on port %d, so nothing answers: %s", port, engine.CheckAdvice)
}

const noIPVS = "this machine's kernel has no IPVS: modprobe ip_vs as root; if there is no such module, the machine needs another kernel, or the Balancer another engine"
