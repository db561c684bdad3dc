package deliver

import (
	"github.com/external-lb/external-lb/internal/lb"
)

// round is what one Deliver wants of all hosts. It is not changed once made.
type round struct {
	number int64
	want   map[string]desire // by host
}

// next is the round after r; r itself if it wants the same.
func (r *round) next(want map[string]*lb.Set, cause string) *round {
	n := &round{number: r.number + 1, want: make(map[string]desire, len(want))}
	same := r.number > 0 && len(want) == len(r.want)
	for host, set := range want {
		goal := desire{set: set, cause: cause, of: n}
		if was := r.want[host]; was.set != nil && was.digest() == set.Digest() {
			goal.set, goal.cause = was.set, was.cause // the cause of what is still under way
		} else {
			same = false
		}
		n.want[host] = goal
	}
	if same {
		return r
	}
	return n
}

// after reports whether a round is newer than another; none is older than all.
func (r *round) after(o *round) bool {
	return r != nil && (o == nil || r.number > o.number)
}
