package conditions

import (
	"fmt"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
)

// serving are the hosts that are not taken out for maintenance, in order.
func serving(b *v1alpha1.Balancer, states []deliver.State) []deliver.State {
	return slices.DeleteFunc(slices.Clone(states), func(s deliver.State) bool { return drained(b, s.Host) })
}

// drained reports whether a host is taken out for maintenance.
func drained(b *v1alpha1.Balancer, host string) bool {
	return slices.ContainsFunc(b.Spec.Hosts, func(h v1alpha1.Host) bool { return h.Name == host && h.Drain })
}

// needed is how many of the serving hosts must prove what is desired.
func needed(b *v1alpha1.Balancer, serving int) int {
	return max(1, min(int(b.Spec.Publish.MinHosts), serving))
}

// activeProved reports whether the host that has the addresses is among those
// that proved something. Without VRRP, all have them.
func activeProved(b *v1alpha1.Balancer, states []deliver.State, proved func(deliver.State) bool) bool {
	return !b.Spec.UsesVRRP() ||
		slices.ContainsFunc(states, func(s deliver.State) bool { return s.Active && proved(s) })
}

// pending reports whether what a host carries is about to be known.
func pending(s deliver.State) bool {
	return s.State == v1alpha1.HostConnecting || s.State == v1alpha1.HostDelivering
}

// WhyUnproved says which hosts do not prove what they should, "" if nothing is wrong.
// The hosts' own words are the Balancer's alone: they may change with each try, and
// every Service would be written each time.
func WhyUnproved(b *v1alpha1.Balancer, states []deliver.State) string {
	var wrong []string
	for _, s := range states {
		if s.State != v1alpha1.HostInSync {
			wrong = append(wrong, s.Host)
		}
	}
	if wrong != nil {
		return SeeBalancer(b.Name, wrong)
	}
	if !activeProved(b, states, func(deliver.State) bool { return true }) {
		return "no host has the addresses: see " + engines.Table.VRRP.Name + " on the hosts"
	}
	return ""
}

// SeeBalancer tells a Service where the words about some hosts are.
func SeeBalancer(name string, hosts []string) string {
	return fmt.Sprintf("Balancer %s says what is wrong with %s", name, list(hosts))
}

// hostTrouble says what is wrong with which host, "" if nothing is.
func hostTrouble(states []deliver.State) string {
	var out []string
	for _, s := range states {
		if s.State != v1alpha1.HostInSync {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("%s is %s: %s", s.Host, s.State, s.Message), ": "))
		}
	}
	return strings.Join(out, "; ")
}

// refusal is what one host refuses, and why.
func refusal(s deliver.State, r lb.Refusal) string {
	what := s.Host + ": "
	if !r.OfItem() {
		what += r.Listener.String() + ": "
	} else if id, service := r.Key.ServiceID(); !service || id == lb.ControlPlane {
		what += r.Key.Describe() + ": "
	}
	if what += r.Message; r.OlderStays {
		what += " (the older version stays)"
	}
	return what
}

// listed bounds how many objects a message names.
const listed = 5

// list joins the first of some texts, and counts the others.
func list(texts []string) string {
	out := strings.Join(texts[:min(listed, len(texts))], "; ")
	if more := len(texts) - listed; more > 0 {
		out += fmt.Sprintf("; and %d more", more)
	}
	return out
}
