package deliver

import (
	"cmp"
	"fmt"
	"slices"
)

// A machine that two hosts name in different ways, by its name in DNS and by its address, say,
// is known by what its agent says of itself. The older Balancer has it, or the first of one
// Balancer's hosts: each of two would remove what the other one brings, again and again.

// claim takes an agent for a worker, from a younger one if that has it.
func (w *worker) claim(agent string) error {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	w.agent = ""
	for _, b := range w.fleet.balancers {
		for _, o := range b.workers {
			switch {
			case o == w || agent == "" || o.agent != agent:
			case o.before(w):
				return o.has(w)
			default:
				o.agent = ""
				o.nudge()
			}
		}
	}
	w.agent = agent
	return nil
}

// claims reports whether an agent is still the worker's.
func (w *worker) claims(agent string) error {
	w.fleet.mu.Lock()
	now := w.agent
	w.fleet.mu.Unlock()
	if now == agent {
		return nil
	}
	return w.claim(agent) // says who has it
}

// release an agent that is the worker's.
func (w *worker) release() {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	w.agent = ""
}

// before orders those that name one machine. The Fleet's mu is held.
func (w *worker) before(o *worker) bool {
	if c := cmp.Or(w.target.Since.Compare(o.target.Since), cmp.Compare(w.balancer, o.balancer)); c != 0 {
		return c < 0
	}
	return slices.Index(w.of.workers, w) < slices.Index(o.of.workers, o)
}

// has says that the worker's machine is not another one's.
func (w *worker) has(o *worker) *Error {
	if w.of == o.of {
		return &Error{Reason: ReasonTaken, Message: fmt.Sprintf("host %s is the same machine: name each of them once", w.host)}
	}
	return &Error{Reason: ReasonTaken, Message: fmt.Sprintf(
		"Balancer %s, which is older, has this machine: name another one, since a machine runs the configuration of one Balancer", w.balancer)}
}
