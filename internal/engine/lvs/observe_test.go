package lvs

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestTrafficIsOfTheKernelsTable(t *testing.T) {
	at := func(network, address string) fileset.Socket {
		return fileset.Socket{Network: network, Address: netip.MustParseAddrPort(address)}
	}
	node := func(i byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 1, i}), port)
	}
	id := lb.ID{Namespace: "default", Name: "web", UID: "uid-1"}
	want := map[fileset.Socket]virtualServer{
		at("tcp", "203.0.113.5:80"):      {service: id, judged: map[netip.AddrPort]string{node(2, 30080): "n2", node(3, 30080): "n3"}}, // n1 drains
		at("udp", "203.0.113.5:53"):      {service: id, judged: map[netip.AddrPort]string{node(1, 30053): "n1", node(2, 30053): "n2"}},
		at("sctp", "[2001:db8::1]:9999"): {service: id}, // not checked
		at("tcp", "203.0.113.9:80"):      {service: id, judged: map[netip.AddrPort]string{}},
	}
	const table = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  CB007105:0050 wrr
  -> C6120101:7580      Masq    0      1          9
  -> C6120102:7580      Masq    1      2          9
  -> C6120103:7580      Masq    0      4          9
UDP  CB007105:0035 wrr
  -> C6120101:7565      Masq    1      0          5
SCTP  [2001:0db8:0000:0000:0000:0000:0000:0001]:270F wrr
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:7700      Masq    1      3          0
`
	counts := func(open int64) engine.Counts {
		c := engine.Uncounted
		c.Open = open
		return c
	}
	down := func(node string) []engine.DownNode { return []engine.DownNode{{Node: node, For: engine.Unknown}} }
	expect := []engine.Traffic{
		{Carried: engine.Carried{Service: id, Listener: listenerOf(at("udp", "203.0.113.5:53"))}, Counts: counts(5), Judged: engine.Judged{Up: 1, Down: 1, Named: down("n2")}},
		{Carried: engine.Carried{Service: id, Listener: listenerOf(at("tcp", "203.0.113.5:80"))}, Counts: counts(7), Judged: engine.Judged{Up: 1, Down: 1, Named: down("n3")}},
		{Carried: engine.Carried{Service: id, Listener: listenerOf(at("tcp", "203.0.113.9:80"))}, Counts: engine.Uncounted},
		{Carried: engine.Carried{Service: id, Listener: listenerOf(at("sctp", "[2001:db8::1]:9999"))}, Counts: counts(3)},
	}
	got := trafficOf(want, table)
	slices.SortFunc(got, func(a, b engine.Traffic) int { return a.Listener.Compare(b.Listener) })
	if diff := cmp.Diff(expect, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
