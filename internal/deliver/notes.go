package deliver

import (
	"fmt"

	"github.com/external-lb/external-lb/api/v1alpha1"
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

// Notes are what is to be told of a host beside its State.
func (s State) Notes() (all []v1alpha1.HostNote) {
	note := func(reason, message string) {
		if message != "" {
			all = append(all, v1alpha1.HostNote{Reason: reason, Message: message})
		}
	}
	note(v1alpha1.NoteWarns, s.Warning)
	if s.Clock != 0 {
		where := "ahead of"
		if s.Clock < 0 {
			where = "behind"
		}
		note(v1alpha1.NoteClock, fmt.Sprintf("its clock is %s %s the manager's: let both keep time by NTP", s.Clock.Abs(), where))
	}
	note(v1alpha1.NoteRestarted, s.Restarted)
	return all
}
