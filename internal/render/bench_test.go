package render_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
)

// address6 is the i-th of many nodes.
func address6(i int) string {
	a := netip.MustParseAddr("2001:db8:aaaa:bbbb:cccc:dddd::").As16()
	binary.BigEndian.PutUint32(a[12:], 0xeeee0000+uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom16(a), 30000).String()
}

// manyServices makes 1,000 Services on 100 nodes.
func manyServices(b *testing.B) []*lb.Service {
	var nodes []string
	for i := range 100 {
		nodes = append(nodes, fmt.Sprintf("10.0.0.%d:30080", i+1))
	}
	var all []*lb.Service
	for i := range 1000 {
		all = append(all, service(b, fmt.Sprintf("s%04d", i), tcp(fmt.Sprintf("192.0.2.%d:%d", i%250+1, 1000+i), nodes...)))
	}
	return all
}

// Nothing is known yet: the first time after a start.
func BenchmarkRenderCold(b *testing.B) {
	cfg := config(manyServices(b)...)
	for b.Loop() {
		mustRender(b, cfg)
	}
}

// One of the Services is another than last time.
func BenchmarkRenderOneChanged(b *testing.B) {
	r, cfg := newRenderer(b), config(manyServices(b)...)
	for b.Loop() {
		changed := *cfg.Services[500]
		cfg.Services[500] = &changed
		if _, err := r.Render(cfg); err != nil {
			b.Fatal(err)
		}
	}
}

// The Services are those of last time.
func BenchmarkRenderNothingChanged(b *testing.B) {
	r, cfg := newRenderer(b), config(manyServices(b)...)
	for b.Loop() {
		if _, err := r.Render(cfg); err != nil {
			b.Fatal(err)
		}
	}
}
