package admit

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// Pods are sent to in the networks that the owner names for them, on every port: what
// listens there is their author's. Each is judged by itself; one that is refused takes
// nothing from others.

// pods are what of a Service with pods may be sent to, or why nothing of it is carried.
func (j *judge) pods(key lb.Key, s *lb.Service) (part *lb.Service, why string) {
	if len(j.rules.Pods) == 0 {
		return nil, fmt.Sprintf("no network of pods may be sent to: name them in admit.pods %s", inSettings)
	}
	some, first := *s, ""
	some.Frontends = slices.Clone(s.Frontends)
	refused := func(e lb.Endpoint) bool {
		what := j.unsendable(e.Address.Addr())
		if first == "" && what != "" {
			first = j.why(what)
		}
		return what != ""
	}
	for i := range some.Frontends {
		f := &some.Frontends[i]
		if at := slices.IndexFunc(f.Endpoints, refused); at >= 0 { // else there is no need for a copy
			f.Endpoints = append(slices.Clone(f.Endpoints[:at]), slices.DeleteFunc(slices.Clone(f.Endpoints[at+1:]), refused)...)
		}
	}
	switch {
	case first == "":
		return s, ""
	case some.Endpoints() == 0:
		return nil, "nothing may be sent to any of its pods: " + first
	}
	j.whole(lb.PodsKey(s.ID), lb.RefusedNotAdmitted, "some of them are sent nothing: "+first)
	return &some, ""
}

// elsewhere is in none of the networks of pods.
const elsewhere = "elsewhere"

// unsendable says what the address of a pod is to which nothing is sent; "" if something may be. It
// is asked for each pod, and prints nothing: see why.
func (j *judge) unsendable(a netip.Addr) (what string) {
	what = never(a)
	switch {
	case what != "":
		return what
	case !inside(j.rules.Pods, a):
		return elsewhere
	case j.own(a):
		return "an address of this host itself"
	case inAnyForm(a, j.isNode):
		return "an address of a node"
	case inAnyForm(a, j.listensAt):
		return "an address on which a Service is listened for: what is sent there would come back"
	}
	return ""
}

// why nothing is sent to what a pod's address is. It names no pod: they come and go.
func (j *judge) why(what string) string {
	if what == elsewhere {
		return fmt.Sprintf("they are in none of the networks in admit.pods %s (%s)", inSettings, list(j.rules.Pods))
	}
	return "that is " + what
}

func (j *judge) isNode(a netip.Addr) bool { _, is := j.nodes.at[a]; return is }

// listensAt reports whether an address is brought, or any Service asks to be listened for there.
func (j *judge) listensAt(a netip.Addr) bool {
	if j.listening == nil {
		j.listening = map[netip.Addr]bool{}
		for _, part := range j.parts {
			if s, ok := part.(*lb.Service); ok {
				for i := range s.Frontends {
					j.listening[s.Frontends[i].Listener.Address] = true
				}
			}
		}
	}
	return j.brought[a] || j.listening[a]
}
