package host

import (
	"cmp"

	"github.com/external-lb/external-lb/internal/admit"
)

// backendBytes is what a backend takes of a host's memory where its engine does not say.
const backendBytes = 16 << 10

// room is what this machine carries at most.
func (s *Settings) room() admit.Room {
	each := 0
	for _, e := range s.carriers().All() {
		each = max(each, cmp.Or(e.BackendBytes, backendBytes))
	}
	return admit.Room{
		Listeners: admit.MaxListeners, Addresses: admit.MaxAddresses,
		Backends: cmp.Or(s.Admit.MaxBackends, roomFor(memoryUse().Limit, each)),
	}
}

// roomFor is how many backends a memory of so many bytes has room for.
func roomFor(memory, each int) int {
	const enough = 1 << 24 // for whoever cannot say how much memory there is, too
	return min(cmp.Or(memory/each, enough), enough)
}
