package ipam

import (
	"math/big"
	"net/netip"
)

// Block is a part of a pool: addresses that follow each other.
type Block struct {
	First, Last netip.Addr
	Size        int64 // at most 2^53
}

// Blocks take a pool apart for who draws a map of it, in the order of its addresses. A
// family has at most so many of them, or one for each of its ranges if these are more.
// All but the last of a range have the same size, the smallest power of two that will do.
func (p *Pool) Blocks(most int) (out []Block) {
	for _, ranges := range p.ranges {
		shift, enough := uint(0), big.NewInt(int64(max(most, len(ranges))))
		for blocksOf(ranges, shift).Cmp(enough) > 0 {
			shift++
		}
		step := new(big.Int).Lsh(big.NewInt(1), shift)
		for _, r := range ranges {
			for first := r.first; first.IsValid() && !r.last.Less(first); {
				next := number(first)
				block := addrRange{first, r.last}
				first = address(next.Add(next, step), first.BitLen())
				if first.IsValid() && !r.last.Less(first) {
					block.last = first.Prev()
				}
				out = append(out, Block{block.first, block.last, block.size()})
			}
		}
	}
	return out
}

// blocksOf counts blocks of 2^shift addresses.
func blocksOf(ranges []addrRange, shift uint) *big.Int {
	n := new(big.Int)
	for _, r := range ranges {
		apart := number(r.last)
		apart.Rsh(apart.Sub(apart, number(r.first)), shift)
		n.Add(n, apart.Add(apart, big.NewInt(1)))
	}
	return n
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

// address of a number; the zero Addr: there is none.
func address(n *big.Int, bits int) netip.Addr {
	if n.BitLen() > bits {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(n.FillBytes(make([]byte, bits/8)))
	return a
}
