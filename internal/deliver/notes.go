package deliver

import (
	"fmt"

	"github.com/external-lb/external-lb/internal/host"
)

// heedRestarts counts restarts of daemons since the host was asked last. An agent that is new begins
// to count anew.
func (w *worker) heedRestarts(st host.Status) {
	fresh := st.Restarts - w.restarts
	switch {
	case w.restarts < 0: // some other manager has counted them, but for what came while there was none
		fresh = 0
		if st.Restarted != "" {
			fresh = 1
		}
	case fresh < 0:
		fresh = st.Restarts
	}
	w.restarts = st.Restarts
	w.fleet.opts.Metrics.Restarted(w.balancer, w.host, fresh)
	w.update(func(s *State) { s.Restarts, s.Restarted = s.Restarts+fresh, st.Restarted })
}

// Notes are what is to be told of a host beside its State: neither keeps it from its work.
func (s State) Notes() (all []string) {
	if s.Clock != 0 {
		where := "ahead of"
		if s.Clock < 0 {
			where = "behind"
		}
		all = append(all, fmt.Sprintf("its clock is %s %s the manager's: let both keep time by NTP", s.Clock.Abs(), where))
	}
	if s.Restarted != "" {
		all = append(all, s.Restarted)
	}
	return all
}
