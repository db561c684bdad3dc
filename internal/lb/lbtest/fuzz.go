package lbtest

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// drawn is how many random bytes a property has to draw from: where they end, rapid gives the execution up. Of a
// hundred models none needs more than 32 KiB.
const drawn = 128 << 10

// Fuzz a property. The fuzzer changes the first bytes that it draws from: all others follow from the first
// eight. So inputs are small enough to be kept, and no execution is given up.
func Fuzz(f *testing.F, property func(*rapid.T)) {
	for seed := range uint64(16) {
		f.Add(random(seed, 64<<(seed%4)))
	}
	check := rapid.MakeFuzz(property)
	f.Fuzz(func(t *testing.T, input []byte) {
		var first uint64
		for i, b := range input[:min(len(input), 8)] {
			first |= uint64(b) << (8 * i)
		}
		check(t, append(input[:len(input):len(input)], random(first, max(drawn-len(input), 0))...))
	})
}

// random bytes, the same ones for the same seed.
func random(seed uint64, n int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	out := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(out) // never fails
	return out
}
