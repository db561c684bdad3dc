package deliver

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// A machine that two hosts name in different ways, by its name in DNS and by its address, say,
// is known by what its agent says of itself. The older Balancer has it, or the first of one
// Balancer's hosts: each of two would remove what the other one brings, again and again.

// identity of the agent at the other end of a connection; "": it is not known.
func identity(c any) string {
	if a, ok := c.(interface{ Identity() string }); ok {
		return a.Identity()
	}
	return ""
}

// offers are what the provider's cloud can do at the other end of a connection; nil: it
// is none.
func offers(c any) *provider.Capabilities {
	if p, ok := c.(interface{ Offers() *provider.Capabilities }); ok {
		return p.Offers()
	}
	return nil
}

// given are the addresses that a provider's cloud gave to what is live at the other end of a
// connection; nil: it is none.
func given(c any) map[lb.Key][]provider.Address {
	if p, ok := c.(interface {
		Given() map[lb.Key][]provider.Address
	}); ok {
		return p.Given()
	}
	return nil
}

// contested is why nothing may be delivered to the other end of a connection: somebody else
// changes what is there. "": nobody does, or a host tells that by its epoch.
func contested(c any) string {
	if p, ok := c.(interface{ Contested() string }); ok {
		return p.Contested()
	}
	return ""
}

// news comes where the other end of a connection has more to say than it did, such as that a
// cloud has done what it was long at work on; nil: it never comes.
func news(c any) <-chan struct{} {
	if n, ok := c.(interface{ News() <-chan struct{} }); ok {
		return n.News()
	}
	return nil
}

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
