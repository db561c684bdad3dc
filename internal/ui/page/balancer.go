package page

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
)

// Balancer is one, with its hosts.
type Balancer struct {
	Name     string   `json:"name"`
	Engine   string   `json:"engine"`
	Class    string   `json:"class"`
	Default  bool     `json:"default,omitempty"`
	Mode     string   `json:"mode"`
	Hosts    []Host   `json:"hosts"`
	Problems []string `json:"problems,omitempty"`
	Story    []Moment `json:"story,omitempty"`
}

// Host is a balancer machine.
type Host struct {
	Name     string `json:"name"`
	Where    string `json:"where"`
	State    string `json:"state"`
	Health   Health `json:"health"`
	Version  string `json:"version,omitempty"`
	Digest   string `json:"digest,omitempty"`  // that it proved
	Desired  string `json:"desired,omitempty"` // where that is another one
	Draining bool   `json:"draining,omitempty"`
	Active   bool   `json:"active,omitempty"` // it has the addresses, where they move
	Applied  string `json:"applied,omitempty"`
	Message  string `json:"message,omitempty"`
	Notes    []Note `json:"notes,omitempty"`
}

// Note is something to be told of a host beside its state.
type Note struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Health is how something is, for its colour.
type Health string

// The colours.
const (
	Good    Health = "good"
	Middle  Health = "middle" // on its way, or in part
	Bad     Health = "bad"
	Unknown Health = "unknown"
)

func (p *painter) balancer(b *v1alpha1.Balancer) Balancer {
	mode := b.Spec.VirtualAddresses.Mode
	if mode == "" {
		mode = v1alpha1.Static
	}
	out := Balancer{
		Name: b.Name, Engine: string(b.Spec.Engine), Class: plan.Class(b), Default: b.Spec.Default, Mode: string(mode),
		Hosts:    []Host{},
		Problems: problems(b.Status.Conditions, b.DeletionTimestamp),
		Story:    story(ofConditions(b.Status.Conditions), ofEvents(p.events[b.UID])),
	}
	switch {
	case len(b.Status.Conditions) == 0:
		out.Problems = append(out.Problems, "the controller has not seen it yet: is it running?")
	case b.Status.ObservedGeneration < b.Generation:
		out.Problems = append(out.Problems, "the controller has not looked at its newest version yet: is it running?")
	}
	for _, h := range b.Spec.AllHosts() {
		out.Hosts = append(out.Hosts, host(h, b.Status.Hosts))
	}
	if b.Spec.Provider != nil {
		out.Hosts[0].Where = b.Spec.Provider.URL
	}
	return out
}

// host of a spec, also where nothing is known of it yet.
func host(h v1alpha1.Host, known []v1alpha1.HostStatus) Host {
	out := Host{Name: h.Name, Where: "the controller's machine", State: string(v1alpha1.HostConnecting), Health: Unknown, Draining: h.Drain}
	if h.Local == nil {
		out.Where = h.Address
	}
	at := slices.IndexFunc(known, func(s v1alpha1.HostStatus) bool { return s.Name == h.Name })
	if at < 0 {
		out.Message = "the controller has not reported on it yet"
		return out
	}
	s := known[at]
	out.State, out.Health, out.Message, out.Active = string(s.State), health(s.State), cut(s.Message), s.Active
	for _, n := range s.Notes {
		out.Notes = append(out.Notes, Note{cut(n.Reason), cut(n.Message)})
	}
	out.Version, out.Digest = cut(s.EngineVersion), short(s.Digest)
	if s.DesiredDigest != s.Digest {
		out.Desired = short(s.DesiredDigest)
	}
	if s.LastAppliedTime != nil {
		out.Applied = when(s.LastAppliedTime.Time)
	}
	return out
}

func health(s v1alpha1.HostState) Health {
	switch s {
	case v1alpha1.HostInSync:
		return Good
	case v1alpha1.HostConnecting, v1alpha1.HostDelivering, v1alpha1.HostPartial:
		return Middle
	default:
		return Bad
	}
}

// Node is one of the cluster.
type Node struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Health    Health   `json:"health"`
	Message   string   `json:"message,omitempty"`
	Balancers []string `json:"balancers"`          // for which it may carry traffic
	Draining  []string `json:"draining,omitempty"` // those of them from which it gets no new connections
}

func (p *painter) node(n *corev1.Node) Node {
	out := Node{Name: n.Name, Addresses: []string{}, Health: Unknown, Balancers: p.eligible[n.Name], Draining: p.draining[n.Name]}
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && len(out.Addresses) < maxListed {
			out.Addresses = append(out.Addresses, ip.String())
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if out.Health = Good; c.Status != corev1.ConditionTrue {
			out.Health, out.Message = Bad, words(c.Reason, c.Message, "the node is not ready")
		}
	}
	if out.Health == Good && len(out.Draining) > 0 {
		out.Health, out.Message = Middle, "drains: it is cordoned, and gets no new connections"
	}
	if out.Balancers == nil {
		out.Balancers = []string{}
	}
	return out
}
