package translate

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// subset keeps k of the nodes, in their order, by rendezvous hashing: a node that
// comes or goes moves only the Services that it wins or had. 0 keeps all.
func subset(nodes []node, uid string, k int) []node {
	if k <= 0 || len(nodes) <= k {
		return nodes
	}
	type draw struct {
		score uint64
		index int
	}
	draws := make([]draw, len(nodes))
	for i, n := range nodes {
		draws[i] = draw{score(uid, n.name), i}
	}
	slices.SortFunc(draws, func(a, b draw) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(nodes[a.index].name, nodes[b.index].name))
	})
	draws = draws[:k]
	slices.SortFunc(draws, func(a, b draw) int { return cmp.Compare(a.index, b.index) })
	out := make([]node, k)
	for i, d := range draws {
		out[i] = nodes[d.index]
	}
	return out
}

func score(uid, node string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(uid))
	h.Write([]byte{0})
	h.Write([]byte(node))
	// FNV mixes its last bytes badly; node names differ in just those.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
