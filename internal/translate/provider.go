package translate

import (
	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
)

// Carriers are what carries the Services of a Balancer.
func Carriers(b *v1alpha1.Balancer) engine.Carriers {
	if b.Spec.Provider != nil {
		return engine.Carriers{Main: provider(b)}
	}
	return engines.Carrying(b.Spec.Engine, b.Spec.Datagrams)
}

// provider as an engine. What its cloud can do is in the Balancer's status. Before the
// provider was reached, nothing is called unsupported: see Unknown.
func provider(b *v1alpha1.Balancer) *engine.Engine {
	out := &engine.Engine{Name: "the provider"}
	// Members that leave are no longer named: the contract has no word for draining.
	out.KeepsConnections = true
	out.Backups.Missing = "the contract with providers has no word for it: all nodes carry"
	said := b.Status.Provider
	if said == nil {
		out.Protocols, out.Fields = []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP}, map[engine.Field]engine.Support{}
		for _, f := range engine.Fields {
			out.Fields[f] = engine.Able
		}
		return out
	}
	out.Name += " " + said.Name
	for _, p := range said.Protocols {
		out.Protocols = append(out.Protocols, lb.Protocol(p))
	}
	out.Fields = make(map[engine.Field]engine.Support, len(said.Settings))
	for _, s := range said.Settings {
		out.Fields[engine.Field(s.Name)] = engine.Support{Missing: s.Missing, UDP: s.UDP, Affinity: s.Affinity, Note: s.Note}
	}
	return out
}

// Unknown reports whether it is not known yet what a Balancer can carry: its provider was
// never reached. Then the plan is not delivered.
func Unknown(b *v1alpha1.Balancer) bool { return b.Spec.Provider != nil && b.Status.Provider == nil }
