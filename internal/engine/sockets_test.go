package engine

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/lb"
)

// inHexadecimal is how the kernel prints it.
func inHexadecimal(at netip.AddrPort) (out string) {
	raw := at.Addr().AsSlice()
	for i := 0; i < len(raw); i += 4 {
		out += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(raw[i:]))
	}
	return fmt.Sprintf("%s:%04X", out, at.Port())
}

func TestConnectionsAreCounted(t *testing.T) {
	kernels := func(text string) string { return inHexadecimal(netip.MustParseAddrPort(text)) }
	table := "  sl  local_address rem_address   st tx_queue\n"
	for _, line := range [][2]string{
		{"192.0.2.1:80", "01"}, {"192.0.2.1:80", "08"}, {"192.0.2.1:80", "0A"}, {"192.0.2.1:80", "06"}, {"192.0.2.1:443", "01"}, {"[2001:db8::1]:80", "01"},
	} {
		table += fmt.Sprintf("   0: %s %s %s 00000000:00000000\n", kernels(line[0]), kernels("198.51.100.1:40000"), line[1])
	}
	got := map[netip.AddrPort]int64{}
	err := countConnections(strings.NewReader(table+"torn\n 1: xyz:1 y 01\n"), got)
	want := map[netip.AddrPort]int64{
		netip.MustParseAddrPort("192.0.2.1:80"): 2, netip.MustParseAddrPort("192.0.2.1:443"): 1, netip.MustParseAddrPort("[2001:db8::1]:80"): 1,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestConnectionsOfThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	carried := func(p lb.Protocol) Carried {
		return Carried{Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: p}}
	}
	got, err := ConnectionsOf([]Carried{carried(lb.TCP), carried(lb.UDP)})
	if err != nil || got[0].Open != 3 || got[0].Made != Unknown || got[1].Open != Unknown {
		t.Errorf("error %v, %+v", err, got)
	}
}
