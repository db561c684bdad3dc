package conditions

import (
	"maps"
	"math"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/provider"
)

// Proof is what the hosts say of one Service.
type Proof struct {
	Enough  bool // hosts proved exactly what is desired, but for RefusedPorts
	All     bool // hosts proved exactly what is desired, but for RefusedPorts
	Settled bool // no host has anything on its way that could change this
	Hosts   int  // that proved exactly what is desired, but for RefusedPorts
	// Refused is why hosts leave the Service out as a whole, and RefusedPorts why some
	// of its ports: "host: reason".
	Refused, RefusedPorts []string
	Pending               []string // what a cloud is still at work on
	// Closed are listeners that a host which serves refuses.
	Closed map[lb.Listener]bool
	// Shut are those of them that no host has which proved the rest and may have the address: with
	// VRRP the active one. It says something where there is Enough.
	Shut  map[lb.Listener]bool
	Given []provider.Address // by the cloud, of what is proved
}

// None reports whether no host says anything of the Service.
func (p Proof) None() bool {
	return !p.Enough && !p.All && p.Hosts == 0 && len(p.Refused)+len(p.RefusedPorts)+len(p.Pending)+len(p.Closed)+len(p.Given) == 0
}

// Prover holds Services against what hosts proved.
type Prover struct {
	balancer *v1alpha1.Balancer
	plan     *plan.Plan
	states   []deliver.State
	serving  []deliver.State
	refused  map[string]map[lb.Key][]lb.Refusal // by host
}

// NewProver takes what the hosts of a Balancer proved of its plan.
func NewProver(b *v1alpha1.Balancer, p *plan.Plan, states []deliver.State) *Prover {
	out := &Prover{b, p, states, serving(b, states), map[string]map[lb.Key][]lb.Refusal{}}
	for _, s := range states {
		byKey := map[lb.Key][]lb.Refusal{}
		for _, r := range s.Refused {
			byKey[r.Key] = append(byKey[r.Key], r)
		}
		out.refused[s.Host] = byKey
	}
	return out
}

// Prove says what the hosts proved of a Service.
func (p *Prover) Prove(svc *plan.Service) Proof {
	out := Proof{Settled: !slices.ContainsFunc(p.states, pending), Closed: map[lb.Listener]bool{}}
	keys := append([]lb.Key{svc.Key}, svc.Addressed...)
	for _, s := range p.states {
		for _, key := range keys {
			for _, r := range p.refused[s.Host][key] {
				switch {
				case r.Reason == lb.RefusedPending:
					out.Pending = append(out.Pending, refusal(s, r))
				case r.OfItem():
					out.Refused = append(out.Refused, refusal(s, r))
				default:
					out.RefusedPorts = append(out.RefusedPorts, refusal(s, r))
				}
			}
		}
		if r, nowhere := p.sendsNowhere(s, svc); nowhere {
			out.Refused = append(out.Refused, s.Host+": it takes none of its nodes; "+r.Key.Describe()+": "+r.Message)
		}
	}
	for _, s := range p.serving {
		out.Given = append(out.Given, s.Given[svc.Key]...)
		for _, r := range p.refused[s.Host][svc.Key] {
			if !r.OfItem() {
				out.Closed[r.Listener] = true
			}
		}
	}
	proved := func(s deliver.State) bool { return p.proved(s, svc, keys) }
	out.Shut = maps.Clone(out.Closed)
	for _, s := range p.serving {
		if proved(s) && (s.Active || !p.balancer.Spec.UsesVRRP()) {
			maps.DeleteFunc(out.Shut, func(l lb.Listener, _ bool) bool { return !p.refuses(s, svc, l) })
		}
	}
	out.Enough = count(p.serving, proved) >= needed(p.balancer, len(p.serving)) && activeProved(p.balancer, p.states, proved) &&
		!slices.ContainsFunc(p.serving, func(s deliver.State) bool { return !proved(s) && p.mayStillProve(s, svc, keys) })
	out.Hosts = count(p.states, proved)
	out.All = out.Hosts == len(p.states)
	return out
}

// ProvedTo is the generation of the plan up to which every host serves all: each Service
// that is since then, or longer, as it is, is proved everywhere, and nothing of it is refused.
// -1: that is not known of any.
func (p *Prover) ProvedTo() int {
	if len(p.serving) == 0 || p.plan.Moves || !activeProved(p.balancer, p.states, func(deliver.State) bool { return true }) {
		return -1
	}
	to := math.MaxInt
	for _, s := range p.states {
		for _, digest := range s.Carries() {
			g, known := p.plan.Generations[digest]
			if !known || len(s.Refused) > 0 {
				return -1
			}
			to = min(to, g)
		}
	}
	return to
}

// proved reports whether a host serves all that it should of a Service, or all but
// some ports that it refuses.
func (p *Prover) proved(s deliver.State, svc *plan.Service, keys []lb.Key) bool {
	set := p.plan.Sets[s.Host]
	if _, nowhere := p.sendsNowhere(s, svc); nowhere || set == nil {
		return false
	}
	for _, key := range keys {
		if sum, desired := set.Sum(key); !desired || !s.Serves(key, sum) {
			return false
		}
	}
	closed := map[lb.Listener]bool{}
	for _, r := range p.refused[s.Host][svc.Key] {
		if r.OfItem() {
			return false // an older version is there, maybe without some ports, also if just that is wanted again
		}
		closed[r.Listener] = true
	}
	return len(closed) == 0 || len(closed) < len(svc.Frontends)
}

// refuses reports whether a host leaves a listener of a Service out.
func (p *Prover) refuses(s deliver.State, svc *plan.Service, l lb.Listener) bool {
	return slices.ContainsFunc(p.refused[s.Host][svc.Key], func(r lb.Refusal) bool { return r.Listener == l })
}

// sendsNowhere reports whether a host refuses every node that would carry a Service,
// and the first of these refusals: it listens then, and nobody answers.
func (p *Prover) sendsNowhere(s deliver.State, svc *plan.Service) (first lb.Refusal, nowhere bool) {
	carries := func(node string) bool {
		for _, r := range p.refused[s.Host][lb.NodeKey(node)] {
			if r.OfItem() && !r.OlderStays {
				if !nowhere {
					first, nowhere = r, true
				}
				return false
			}
		}
		return true
	}
	for _, t := range svc.Targets {
		if t.All && slices.ContainsFunc(p.plan.Nodes, func(n lb.Node) bool { return carries(n.Name) }) ||
			slices.ContainsFunc(t.Nodes, func(t lb.Target) bool { return carries(t.Node) }) {
			return lb.Refusal{}, false
		}
	}
	return first, nowhere
}

// mayStillProve reports whether a host that has not proved a Service yet is about to:
// where clients may reach any host, none of them should refuse what is published.
// Hosts that cannot be reached, fail or refuse one of its items are not waited for.
func (p *Prover) mayStillProve(s deliver.State, svc *plan.Service, keys []lb.Key) bool {
	if s.State == v1alpha1.HostUnreachable || s.State == v1alpha1.HostFailed ||
		slices.ContainsFunc(keys, func(key lb.Key) bool { return len(p.refused[s.Host][key]) > 0 }) {
		return false
	}
	_, nowhere := p.sendsNowhere(s, svc)
	return !nowhere
}

func count(states []deliver.State, which func(deliver.State) bool) (n int) {
	for _, s := range states {
		if which(s) {
			n++
		}
	}
	return n
}
