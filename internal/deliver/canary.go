package deliver

import (
	"fmt"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// A change goes to one host first, the canary: to one that is not active if that
// is known, else to the last. The others get it once the canary has proved it, and
// are left alone while it fails there. What a host makes of the model anew, since it
// has other templates, settings or another version, is such a change, too, and not the
// same on any two hosts: they do it one after the other.

// advance gives the workers what they may have by now. The Fleet's mu is held.
func (b *balancer) advance() {
	canary := b.canary()
	next := b.first(func(w *worker) bool { return w.state.renews })
	for _, w := range b.workers {
		goal := b.want[w.host]
		if goal.set != nil && w.want != goal && (w == canary || canary == nil || canary.proved(b.want[canary.host])) {
			w.desire(goal)
		}
		w.allow(w.state.renews && (w == next || next == nil))
	}
}

// canary is the worker that gets a change first; nil if no host can tell anything.
func (b *balancer) canary() *worker { return b.first(func(*worker) bool { return true }) }

// first of some workers; nil if none of their hosts can tell anything.
func (b *balancer) first(of func(*worker) bool) (first *worker) {
	for _, w := range b.workers {
		if of(w) && w.judges() && (first == nil || !w.state.Active || first.state.Active) {
			first = w
		}
	}
	return first
}

// allow says whether the host may make anew what it runs. The Fleet's mu is held.
func (w *worker) allow(renewal bool) {
	if renewal && !w.renewal {
		w.nudge()
	}
	w.renewal = renewal
}

// judges reports whether what becomes of a change on this host says something of
// the change: not if the machine cannot be worked with, or is being worked on.
func (w *worker) judges() bool {
	switch w.state.State {
	case v1alpha1.HostUnreachable:
		return false
	case v1alpha1.HostFailed:
		return !w.target.Host.Drain && (w.state.Reason == ReasonRolledBack || w.state.Reason == ReasonUnproven)
	}
	return true
}

func (w *worker) proved(goal desire) bool {
	return w.want == goal && (w.state.State == v1alpha1.HostInSync || w.state.State == v1alpha1.HostPartial)
}

// seen is the state of a worker as others should see it: what it does not have
// yet, it should run all the same.
func (b *balancer) seen(w *worker) State {
	s, goal := w.state, b.want[w.host]
	if goal.set == nil || w.want == goal {
		return s
	}
	s.Desired = goal.digest()
	switch s.State {
	case v1alpha1.HostUnreachable, v1alpha1.HostFailed:
		return s // what is wrong with it is more to the point
	case v1alpha1.HostInSync, v1alpha1.HostPartial:
		s.State, s.Reason, s.Message = v1alpha1.HostDelivering, "", ""
	}
	if c := b.canary(); c != nil && c.state.State == v1alpha1.HostFailed && c.state.judged == b.want[c.host].digest() {
		s.State, s.Reason = v1alpha1.HostFailed, ReasonHeldBack
		s.Message = fmt.Sprintf("left as it is: the change failed on %s, which gets each change first", c.host)
	}
	return s
}
