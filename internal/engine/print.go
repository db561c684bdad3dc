package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// kube-proxy says on this port how a node is.
const (
	KubeProxyPort = 10256
	KubeProxyPath = "/healthz"
)

// ServiceName is unique among all Services: no part has a dot in it.
func ServiceName(id lb.ID) string {
	return strings.Join([]string{id.Namespace, id.Name, id.UID}, ".")
}

// FrontendName is unique among the ports of all Services.
func FrontendName(id lb.ID, address netip.AddrPort, network string) string {
	ip := dashes.Replace(address.Addr().String())
	return strings.Join([]string{ServiceName(id), ip, strconv.Itoa(int(address.Port())), network}, ".")
}

var dashes = strings.NewReplacer(".", "-", ":", "-")

// ParseFrontendName is the inverse of FrontendName. ok is false for the name of anything else, such as one with
// words behind it that a daemon would take for another command.
func ParseFrontendName(name string) (id lb.ID, address netip.AddrPort, network string, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 6 {
		return id, address, "", false
	}
	separator := ":" // an IPv6 address has two in a row, or seven
	if !strings.Contains(parts[3], "--") && strings.Count(parts[3], "-") == 3 {
		separator = "."
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(parts[3], "-", separator))
	if err != nil {
		return id, address, "", false
	}
	port, err := strconv.ParseUint(parts[4], 10, 16)
	if err != nil {
		return id, address, "", false
	}
	id, err = lb.NewID(parts[0], parts[1], parts[2])
	address, network = netip.AddrPortFrom(ip, uint16(port)), parts[5]
	known := network == "tcp" || network == "udp" || network == "sctp"
	return id, address, network, err == nil && known && ip.Zone() == "" && FrontendName(id, address, network) == name
}

// Sources are the ranges of clients, sorted; none where everybody may connect. A range that is
// the broadcast address alone is nobody's, and nginx would look for a machine of that name.
func Sources(a lb.Clients) []netip.Prefix {
	if a.Everybody {
		return nil
	}
	nobody := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 32)
	all := slices.SortedFunc(slices.Values(a.Sources), netip.Prefix.Compare)
	return slices.DeleteFunc(all, func(p netip.Prefix) bool { return p == nobody })
}

// Source is the address of the host from which connections to the nodes come; the zero Addr:
// the kernel chooses.
func (f *Frontend) Source() netip.Addr { return f.Settings.Source.Of(f.Listener.Address.Is4()).Addr() }

// Milliseconds prints a duration as 10s or 1500ms, rounded up.
func Milliseconds(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", (d+time.Millisecond-1)/time.Millisecond)
}

// Seconds are those of a duration, rounded up.
func Seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// Probes is how many questions of TCP in a row a peer may leave without an answer.
const Probes = 3

// ProbeEvery is how many seconds are between two of them, where the first one comes after
// so much silence: the kernel's 75 would be long.
func ProbeEvery(keepAlive time.Duration) int64 { return min(Seconds(keepAlive), 10) }
