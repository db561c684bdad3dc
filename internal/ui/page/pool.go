package page

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/record"
)

// Pool is a map of addresses.
type Pool struct {
	Name     string   `json:"name"`
	Balancer string   `json:"balancer"`
	Usage    []Usage  `json:"usage"`
	Blocks   []Block  `json:"blocks"`
	Used     []string `json:"used,omitempty"` // addresses that a Service has
	More     string   `json:"more,omitempty"` // what is left out here
	Problems []string `json:"problems,omitempty"`
}

// Usage of one family.
type Usage struct {
	Family   string `json:"family"`
	Assigned int64  `json:"assigned"`
	Capacity int64  `json:"capacity"`
}

// Block is a part of a pool, on the map.
type Block struct {
	First string `json:"first"`
	Last  string `json:"last,omitempty"` // where it is another one
	Used  int    `json:"used,omitempty"`
}

func (p *painter) pool(pool *v1alpha1.AddressPool) Pool {
	out := Pool{
		Name: pool.Name, Balancer: pool.Spec.Balancer, Usage: []Usage{}, Blocks: []Block{},
		Problems: problems(pool.Status.Conditions, pool.DeletionTimestamp),
	}
	for _, u := range []struct {
		family string
		*v1alpha1.AddressUsage
	}{{"IPv4", pool.Status.IPv4}, {"IPv6", pool.Status.IPv6}} {
		if u.AddressUsage != nil {
			out.Usage = append(out.Usage, Usage{u.family, u.Assigned, u.Capacity})
		}
	}
	for _, parsed := range slices.Concat(p.pools.Accepted, p.pools.Rejected) {
		if parsed.Name == pool.Name {
			out.Blocks = p.blocks(parsed)
			out.Used = upTo(p.used.of(parsed), "addresses", &out.More)
		}
	}
	return out
}

func (p *painter) blocks(pool *ipam.Pool) []Block {
	blocks := pool.Blocks(mapBlocks)
	out := make([]Block, len(blocks))
	for i, b := range blocks {
		out[i] = Block{First: b.First.String(), Used: p.used.between(b.First, b.Last)}
		if b.Last != b.First {
			out[i].Last = b.Last.String()
		}
	}
	return out
}

// usedAddresses are those that some Service has, sorted, each once.
type usedAddresses []netip.Addr

func newUsedAddresses(services []*corev1.Service) (used usedAddresses) {
	for _, svc := range services {
		used = append(used, record.Occupied(svc)...)
	}
	slices.SortFunc(used, netip.Addr.Compare)
	return slices.Compact(used)
}

// of a pool.
func (u usedAddresses) of(pool *ipam.Pool) (out []string) {
	for _, a := range u {
		if pool.Contains(a) {
			out = append(out, a.String())
		}
	}
	return out
}

// between counts the addresses from first to last.
func (u usedAddresses) between(first, last netip.Addr) int {
	from, _ := slices.BinarySearchFunc(u, first, netip.Addr.Compare)
	to, found := slices.BinarySearchFunc(u, last, netip.Addr.Compare)
	if found {
		to++
	}
	return to - from
}
