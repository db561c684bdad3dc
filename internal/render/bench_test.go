package render_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// address6 is the i-th of many nodes.
func address6(i int) string {
	a := netip.MustParseAddr("2001:db8:aaaa:bbbb:cccc:dddd::").As16()
	binary.BigEndian.PutUint32(a[12:], 0xeeee0000+uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom16(a), 30000).String()
}

// manyServices makes 1,000 Services on 100 nodes.
func manyServices(b *testing.B) *lb.Config {
	cfg := &lb.Config{}
	for i := range 100 {
		cfg.Nodes = append(cfg.Nodes, lb.Node{Name: fmt.Sprintf("n%03d", i), IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})})
	}
	for i := range 1000 {
		cfg.Services = append(cfg.Services, onAllNodes(b, fmt.Sprintf("s%04d", i), fmt.Sprintf("192.0.2.%d:%d", i%250+1, 1000+i)))
	}
	return cfg
}

// All files are made: the first time, or with other templates.
func BenchmarkRenderAll(b *testing.B) {
	r, cfg := newRenderer(b), manyServices(b)
	for b.Loop() {
		if _, _, _, err := r.Set(cfg); err != nil {
			b.Fatal(err)
		}
	}
}

// Only what all files are made of is looked at, as where few have changed.
func BenchmarkRenderNothing(b *testing.B) {
	r, cfg := newRenderer(b), manyServices(b)
	var files []render.File
	for b.Loop() {
		files, _ = r.Files(cfg, func(lb.Key) lb.Sum { return lb.Sum{} })
	}
	if len(files) != 1001 {
		b.Error(len(files))
	}
}
