package admit

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
)

// large is a model of 10,000 Services that 1,000 nodes carry, and of which each has
// two listeners.
func large() map[lb.Key]any {
	parts := map[lb.Key]any{}
	for i := range 1000 {
		n := lb.Node{Name: fmt.Sprintf("n%04d", i), IPv4: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		parts[lb.NodeKey(n.Name)] = n
	}
	for i := range 10_000 {
		s := &lb.Service{ID: lb.ID{Namespace: "default", Name: fmt.Sprintf("s%05d", i), UID: fmt.Sprintf("uid-%05d", i)}}
		s.IPv4.Targets.All = true
		for port := range uint16(2) {
			l := lb.Listener{Address: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), Port: 80 + port, Protocol: lb.TCP}
			s.Frontends = append(s.Frontends, lb.Frontend{Listener: l, NodePort: uint16(30000 + i%2767)})
		}
		parts[lb.ServiceKey(s.ID)] = s
	}
	return parts
}

var someRules = map[string]Rules{
	"open": {},
	"strict": {
		Addresses: prefixes("192.0.0.0/16", "2001:db8::/32"), Ports: []PortRange{{80, 80}, {443, 443}, {81, 90}},
		Backends: []Backends{{Networks: prefixes("10.0.0.0/8")}}, Held: held("0.0.0.0:22", lb.TCP),
	},
	"two groups": {Backends: []Backends{{Networks: prefixes("10.0.0.0/23")}, {Networks: prefixes("10.0.2.0/23"), Ports: ports(30000, 30999)}}},
}

// The memory is that of Services plus nodes.
func TestMemoryIsOfServicesPlusNodes(t *testing.T) {
	parts := large()
	for name, r := range someRules {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := r.Admit(parts, Machine{})
		runtime.ReadMemStats(&after)
		if len(got.Config.Services) != 10_000 || len(got.Config.Nodes) != 1000 {
			t.Errorf("%s: %d Services and %d nodes, refused %d, first %+v", name, len(got.Config.Services), len(got.Config.Nodes), len(got.Refused), got.Refused[:min(1, len(got.Refused))])
		}
		// 11,000 parts; a list of nodes in each Service would be 400 MB.
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d MiB", name, used>>20)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	parts := large()
	for name, r := range someRules {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Admit(parts, Machine{})
			}
		})
	}
}
