package deliver

import (
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// A change goes to one host first, the canary: to one that is not active if that
// is known, else to the last. The others get what the canary has proved last, and
// are left alone while a change fails there. What a host makes of the model anew, since it
// has other templates, settings or another version, is such a change, too, and not the
// same on any two hosts: they do it one after the other. A host that did not answer a delivery, or
// that refuses one change after the other, is the canary only where all are so.

// refusedOften is how many different changes in a row a host refuses before another one is the canary.
const refusedOften = 3

// advance gives the workers what they may have by now. The Fleet's mu is held.
func (b *balancer) advance() {
	canary := b.canary()
	b.trying = canary
	b.learn(canary)
	next := b.first(func(w *worker) bool { return w.state.renews })
	for _, w := range b.workers {
		w.desire(b.goal(w, canary))
		w.allow(w.state.renews && (w == next || next == nil))
	}
}

// learn what the canary has proved: by a delivery, or since nothing changes for it.
func (b *balancer) learn(canary *worker) {
	switch {
	case canary == nil:
	case canary.proved(b.newest.want[canary.host]):
		b.proved = b.newest
	case canary.proof.after(b.proved):
		b.proved = canary.proof
	}
}

// goal is what a worker should have by now: see the table in doc.go.
func (b *balancer) goal(w, canary *worker) desire {
	newest, proved := b.newest.want[w.host], b.proved.want[w.host]
	switch {
	case w == canary, b.proved == b.newest, newest.digest() == w.want.digest():
		return newest
	case canary == nil && w.state.State == v1alpha1.HostFailed:
		return newest // it may be what mends the machine
	case b.proved.after(w.want.of) && proved.set != nil:
		return proved
	}
	return w.want
}

// canary is the worker that gets a change first; nil if no host can tell anything. It stays the
// one until what it has begun is decided, or it is passed over.
func (b *balancer) canary() *worker {
	best := b.first(func(*worker) bool { return true })
	if c := b.trying; c != nil && b.proved != b.newest && c.judges() && slices.Contains(b.workers, c) && c.begun(b.newest.want[c.host]) &&
		(!c.passed || best.passed) {
		return c
	}
	return best
}

// refused notes that a host did not take or not prove a change. One that did so often is passed
// over: the next host gets changes first, until it has proved one. Where the change itself is bad, the
// next host refuses it, too, and no third one gets it: a second host is passed over only
// when some host has proved something since the first was.
func (b *balancer) refused(w *worker, change desire, withdraws bool) {
	if w.refusedLast == change.digest() {
		return // it was tried again
	}
	w.refusedLast = change.digest()
	w.refusals++
	switch {
	case w.refusals < refusedOften && !withdraws:
	case !change.of.after(b.proved): // another host has proved it
		w.passed = true
	case b.proved.after(b.doubted):
		w.passed, b.doubted = true, b.proved
	}
}

// begun reports whether a delivery of the goal has begun, and not ended well.
func (w *worker) begun(goal desire) bool {
	return goal.set != nil && (w.state.judged == goal.digest() || slices.Contains(w.state.pending.digests, goal.digest()))
}

// first of some workers; nil if none of their hosts can tell anything.
func (b *balancer) first(of func(*worker) bool) (first *worker) {
	for _, w := range b.workers {
		if of(w) && w.judges() && (first == nil || w.costs() <= first.costs()) {
			first = w
		}
	}
	return first
}

// costs orders hosts by what a change costs that goes there first: all others wait in vain for one that refuses
// whatever comes, and for long for one that did not answer; and clients bear what goes wrong on one that is active.
func (w *worker) costs() (rank int) {
	if w.passed {
		rank += 4
	}
	if w.state.lost {
		rank += 2
	}
	if w.state.Active {
		rank++
	}
	return rank
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
		return !w.target.Host.Drain && w.state.Reason.refuses()
	}
	return true
}

// proved reports whether the worker runs what the newest round wants of it.
func (w *worker) proved(goal desire) bool {
	return goal.set != nil && w.want.digest() == goal.digest() && (w.state.State == v1alpha1.HostInSync || w.state.State == v1alpha1.HostPartial)
}

// seen is the state of a worker as others should see it: what it does not have
// yet, it should run all the same. What it is about to carry before that may be live soon.
func (b *balancer) seen(w *worker) State {
	s, goal := w.state, b.newest.want[w.host]
	if w.passed && s.State == v1alpha1.HostFailed {
		s.Message = "other hosts get changes before it until it proves one: " + s.Message
	}
	if goal.set == nil || w.want.digest() == goal.digest() {
		return s
	}
	s.coming, s.Desired = w.want.set, goal.digest()
	switch s.State {
	case v1alpha1.HostUnreachable, v1alpha1.HostFailed:
		return s // what is wrong with it is more to the point
	case v1alpha1.HostInSync, v1alpha1.HostPartial:
		s.State, s.Reason, s.Message = v1alpha1.HostDelivering, "", ""
	}
	if c := b.canary(); c != nil && c.state.State == v1alpha1.HostFailed && c.state.judged == b.newest.want[c.host].digest() {
		s.State, s.Reason = v1alpha1.HostFailed, ReasonHeldBack
		s.Message = fmt.Sprintf("left as it is: the change failed on %s, which gets each change first", c.host)
	}
	return s
}
