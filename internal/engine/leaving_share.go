package engine

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// Share drops some of what leaves, until there are no more than most: of the namespaces with the most
// names alone, so that none takes another one's room. Those for which the first of some functions is true go
// first, then those of the next one. It names the namespace that has most; "" if nothing was dropped. A name
// begins with its namespace and a dot.
func Share[V any](all map[string]V, most int, first ...func(V) bool) (greediest string) {
	if len(all) <= most {
		return ""
	}
	have := map[string]int{}
	for name := range all {
		have[namespace(name)]++
	}
	share := lb.Level(most, slices.Collect(maps.Values(have)))
	greediest = slices.MaxFunc(slices.Collect(maps.Keys(have)), func(a, b string) int { return cmp.Or(have[a]-have[b], strings.Compare(a, b)) })
	for _, goes := range append(first, func(V) bool { return true }) {
		for name, one := range all {
			if len(all) <= most {
				break
			}
			if of := namespace(name); have[of] > share && goes(one) {
				delete(all, name)
				have[of]--
			}
		}
	}
	return greediest
}

func namespace(name string) string {
	of, _, _ := strings.Cut(name, ".")
	return of
}
