package lb

import (
	"math"
	"slices"
)

// Level is how much each may have, so that all have no more than most together: who wants less keeps
// that, and leaves more to the others. It sorts what they want.
func Level(most int, wants []int) int {
	slices.Sort(wants)
	for i, want := range wants {
		if even := most / (len(wants) - i); want > even {
			return even
		}
		most -= want
	}
	return math.MaxInt
}
