package lvs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/fileset"
)

// FuzzKernelsTable: what is read of the kernel's table has the form in which it is
// compared.
func FuzzKernelsTable(f *testing.F) {
	f.Add("IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n" +
		"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n" +
		"TCP  CB007105:0050 rr\n  -> C6120102:7580      Masq    1      0          0\n  -> C6120103:7580      Masq    0      0          0\n")
	f.Add("UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 sh\n  -> [fe80::1%a]:0035 Route 1 0 0\nFWM 1 rr\n  -> C6120102:7580 Masq 1 0 0")
	f.Fuzz(func(t *testing.T, text string) {
		for at, s := range parseIPVS(text) {
			if !slices.Contains(fileset.Networks, at.Network) || !at.Address.IsValid() {
				t.Errorf("%v out of %q", at, text)
			}
			once := slices.Compact(slices.Clone(s.realServers))
			if !slices.IsSortedFunc(s.realServers, netip.AddrPort.Compare) || len(once) != len(s.realServers) {
				t.Errorf("real servers %v", s.realServers)
			}
			if s.closed > strings.Count(text, "->") {
				t.Errorf("%d are closed", s.closed)
			}
		}
	})
}

// FuzzVirtualServers: what a file prints is kept on a disk.
func FuzzVirtualServers(f *testing.F) {
	f.Add(`{"Frontends":[{"Listener":"192.0.2.1:80","Protocol":"TCP","Method":"NAT",
		"Backends":[{"Address":"10.0.0.1:30080"}],"Check":{"Port":10256}}]}`)
	f.Add(`{"Frontends":[{},{"Backends":[{}],"Sources":["::/0"]}]}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, view string) {
		all, err := virtualServersOf(setOf(map[string]string{"services/a.b.c.conf": view}))
		if err != nil {
			return
		}
		for at, v := range all {
			if at != v.Socket || !slices.IsSortedFunc(v.realServers, netip.AddrPort.Compare) {
				t.Errorf("%v is %+v", at, v)
			}
		}
	})
}

// FuzzFacts: an address more is found behind whatever a template makes.
func FuzzFacts(f *testing.F) {
	f.Add("virtual_server 192.0.2.1 80 {\n  protocol TCP\n  lvs_method NAT\n  real_server 10.0.0.1 30080 {\n    inhibit_on_failure\n  }\n} # x\n")
	f.Fuzz(func(t *testing.T, file string) {
		have := factsOf([]byte(file))
		if words := have.Against(have); words != "" {
			t.Errorf("it differs from itself: %s", words)
		}
		if have.Against(factsOf([]byte(file+"\nvirtual_server 192.0.2.9 9 {\n"))) == "" {
			t.Error("a listener more is not found")
		}
	})
}
