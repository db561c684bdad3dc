package ipam

import (
	"fmt"
	"testing"

	"github.com/external-lb/external-lb/test/builder"
)

func TestBlocks(t *testing.T) {
	for name, test := range map[string]struct {
		pool *builder.AddressPoolBuilder
		most int
		want string
	}{
		"each address":     {builder.AddressPool("p", "192.0.2.4/30"), 4, "[192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7]"},
		"halves":           {builder.AddressPool("p", "192.0.2.0/24"), 3, "[192.0.2.0-192.0.2.127 192.0.2.128-192.0.2.255]"},
		"a rest":           {builder.AddressPool("p", "192.0.2.0-192.0.2.4"), 3, "[192.0.2.0-192.0.2.1 192.0.2.2-192.0.2.3 192.0.2.4]"},
		"more ranges":      {builder.AddressPool("p", "192.0.2.0/24", "198.51.100.7"), 1, "[192.0.2.0-192.0.2.255 198.51.100.7]"},
		"both families":    {builder.AddressPool("p", "192.0.2.1", "2001:db8::1"), 2, "[192.0.2.1 2001:db8::1]"},
		"large":            {builder.AddressPool("p", "fd00::/8"), 2, "[fd00::-fd7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff fd80::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]"},
		"up to the end":    {builder.AddressPool("p", "255.255.255.250-255.255.255.254"), 2, "[255.255.255.250-255.255.255.253 255.255.255.254]"},
		"of none, nothing": {builder.AddressPool("p", "192.0.2.9-192.0.2.1"), 2, "[]"},
	} {
		pools, _ := parse(test.pool)
		got := []addrRange{}
		for _, p := range pools {
			for _, b := range p.Blocks(test.most) {
				if got = append(got, addrRange{b.First, b.Last}); b.Size != got[len(got)-1].size() {
					t.Errorf("%s: %v has %d addresses", name, b, b.Size)
				}
			}
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("%s: %v, want %s", name, got, test.want)
		}
	}
}

// However large a pool is, its map is small, and has all of it.
func TestBlocks_AreFew(t *testing.T) {
	pools, _ := parse(builder.AddressPool("p", "10.0.0.0/8", "192.0.2.0-192.0.2.200", "2001:db8::/32", "fd00::5"))
	blocks := pools[0].Blocks(256)
	size := int64(0)
	for i, b := range blocks {
		if b.First.Is4() {
			size += b.Size
		}
		if i > 0 && !blocks[i-1].Last.Less(b.First) {
			t.Errorf("%v comes after %v", b, blocks[i-1])
		}
	}
	if len(blocks) > 512 || size != 1<<24+201 {
		t.Errorf("%d blocks, of IPv4 %d addresses", len(blocks), size)
	}
}
