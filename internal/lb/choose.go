package lb

import (
	"cmp"
	"slices"
)

// Choose keeps limit of the nodes for a Service, in their order, by rendezvous
// hashing: a node that comes or goes moves only the Services that it wins or had.
// A limit of 0 keeps all.
func Choose[T any](nodes []T, name func(T) string, uid string, limit int) []T {
	if limit <= 0 || len(nodes) <= limit {
		return nodes
	}
	type draw struct {
		score uint64
		index int
	}
	compare := func(a, b draw) int {
		if a.score != b.score {
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Compare(name(nodes[a.index]), name(nodes[b.index]))
	}
	seed := fnv(fnvOffset, uid+"\x00")
	best := make([]draw, 0, limit)
	for i, n := range nodes {
		d := draw{mix(fnv(seed, name(n))), i}
		if len(best) == limit {
			if compare(d, best[limit-1]) >= 0 {
				continue
			}
			best = best[:limit-1]
		}
		at, _ := slices.BinarySearchFunc(best, d, compare)
		best = slices.Insert(best, at, d)
	}
	slices.SortFunc(best, func(a, b draw) int { return cmp.Compare(a.index, b.index) })
	out := make([]T, limit)
	for i, d := range best {
		out[i] = nodes[d.index]
	}
	return out
}

// ChooseBoth is Choose for nodes of which some wait for the others to fail: limit of those
// that do not wait, then limit of those that do.
func ChooseBoth[T any](nodes []T, name func(T) string, waits func(T) bool, uid string, limit int) []T {
	first, behind := make([]T, 0, len(nodes)), []T(nil)
	for _, n := range nodes {
		if waits(n) {
			behind = append(behind, n)
		} else {
			first = append(first, n)
		}
	}
	return append(Choose(first, name, uid, limit), Choose(behind, name, uid, limit)...)
}

const fnvOffset = 14695981039346656037

// fnv goes on with a hash, FNV-1a.
func fnv(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

// mix spreads what FNV mixes badly: its last bytes, in which names of nodes differ.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
