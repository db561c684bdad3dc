package admit

import (
	"fmt"
	"math"

	"github.com/external-lb/external-lb/internal/lb"
)

// shares are what namespaces have of a host's room. One half is for whoever comes first. Of the
// other half nothing is added to a namespace that has more than its share, so that it stays for
// those that come later. Each namespace gets what it wants up to its share, whoever was first.
type shares struct {
	half, each size            // of the room; of a namespace
	have       map[string]size // namespaces
}

func (r Room) half() Room { r.Listeners, r.Backends = r.Listeners/2, r.Backends/2; return r }

// share is what each namespace may have of one half of the room: who wants less leaves more to
// the others. One that is alone may have all of it.
func (c *crowd) share(r Room) *shares {
	half := r.half()
	out := &shares{half: size{half.Listeners, half.Backends}, have: map[string]size{}}
	wants := map[string]size{}
	for i := range c.waiting {
		if s := c.waiting[i].service; s.ID != lb.ControlPlane {
			wants[s.ID.Namespace] = wants[s.ID.Namespace].plus(c.need(s))
		}
	}
	var listeners, backends []int
	for _, want := range wants {
		listeners, backends = append(listeners, want.listeners), append(backends, want.backends)
	}
	out.each = size{level(half.Listeners, listeners), level(half.Backends, backends)}
	return out
}

// level is up to how much each may have of what there is: who is alone, all of it.
func level(most int, wants []int) int {
	if len(wants) < 2 {
		return math.MaxInt
	}
	return lb.Level(most, wants)
}

// add what a Service has to its namespace's.
func (s *shares) add(of *lb.Service, n size) {
	if of.ID != lb.ControlPlane {
		s.have[of.ID.Namespace] = s.have[of.ID.Namespace].plus(n)
	}
}

// beyond says why a Service may have no more, where so much of the room is used with it; "": it may.
func (s *shares) beyond(of *lb.Service, more, used size) string {
	name := of.ID.Namespace
	has := s.have[name]
	sum := has.plus(more)
	switch {
	case more.listeners > 0 && used.listeners > s.half.listeners && sum.listeners > s.each.listeners:
		return fmt.Sprintf("there is no room for %d listeners more of the namespace %s: it has %d, its share is %d, "+
			"and half of what a host has is kept for namespaces with less: spread the Services over more Balancers", more.listeners, name, has.listeners, s.each.listeners)
	case more.backends > 0 && used.backends > s.half.backends && sum.backends > s.each.backends:
		return fmt.Sprintf("there is no room for %d backends more of the namespace %s: it has %d (ports of Services, each times its nodes or pods), its share is %d, "+
			"and half of what this host has is kept for namespaces with less: %s", more.backends, name, has.backends, s.each.backends, fewer)
	}
	return ""
}
