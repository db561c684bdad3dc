package plan

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
)

// Plan is what the hosts of a Balancer should carry, and what its users are told.
type Plan struct {
	Set          *lb.Set            // that all hosts have
	Sets         map[string]*lb.Set // by host: that, and what tells it from the others
	Services     []*Service         // that are carried, in the order of the snapshot
	Nodes        []lb.Node          // that may be backends
	NodesProblem *translate.Problem
	Unread       *translate.Problem // why spec.nodes.selector or spec.nodes.backup cannot be read
	ControlPlane *translate.Problem // what is wrong with the API servers
	Unweighed    string             // a node's weight that cannot be read; "": there is none
	Unbacked     string             // why spec.nodes.backup has no effect; "": it has
	Unsupported  []string           // settings of spec.defaults that the engine cannot do
	// Elsewhere are the Services that another Balancer goes on carrying, on
	// addresses of this one's pools.
	Elsewhere []*corev1.Service
	PoolNotes map[string]*ipam.Problem // by pool: what is not as its owner may think
	// Generations are the last different Sets of hosts, numbered in their order; see
	// Service.Since. It is not changed once made.
	Generations map[lb.Digest]int
	Moves       bool // some Service has, or had, another Balancer, too
}

// Service is what a Balancer does for one Service.
type Service struct {
	Object    *corev1.Service
	Key       lb.Key       // of its item
	Addressed []lb.Key     // of what brings its addresses to a host, where that is ours to do
	Addresses []netip.Addr // on which it is, or is to be, programmed
	// Shape changes with what the Service's owner changed: ports, addresses,
	// sources; not with nodes. Empty if it is not in the plan's Set.
	Shape      string
	Frontends  []lb.Frontend // that hosts are to have of it
	Targets    []lb.Targets  // nodes that answer, by family
	Pods       bool          // pods answer, and no nodes
	Since      int           // the generation from which on all that it needs is in the Sets as it is now
	Direct     bool          // nodes get packets with the Service's address on them
	Problems   []Problem     // the fatal ones first
	PortErrors map[translate.PortKey]string

	From     string   // the Balancer that carries it until this one has proved it; "": none
	Retained string   // why it is not taken over even then
	Loses    string   // which ports it would lose by that; it is Retained then
	MayLose  bool     // ports by that: the pool's owner says so
	Idle     bool     // nothing of it can answer here, and nothing does there, or may be lost: there is nothing to prove
	Staying  bool     // another Balancer is about to take it over
	Others   []string // the other Balancers on whose hosts it may be live
}

// Problem is something that a Service's owner should know.
type Problem struct {
	Reason  string // of v1alpha1
	Message string // what is wrong and what to do
	Fatal   bool   // it keeps the Service off the hosts
}

// Planner makes the plans of one Balancer, one after the other, and remembers what
// did not change between two. Not for concurrent use.
type Planner struct {
	Engine v1alpha1.Engine

	seen     *Snapshot // the last one
	looks    int
	entries  map[types.UID]*entry
	sorted   []*entry                  // by name
	straying map[*entry]bool           // that have strays
	foreign  []*ipam.Pool              // of which these are
	copies   map[*ipam.Pool]*ipam.Pool // these, by whom they are copies of
	assigner *ipam.Assigner

	translator *translate.Translator
	inputs     []translate.Service // of the last plan
	encoder    lb.Encoder
	set        *lb.Set            // of the last plan
	sets       map[string]hostSet // of the last plan

	generation  int // counts the changes of sets
	generations map[lb.Digest]int
}

// NewPlanner makes a Planner for an engine.
func NewPlanner(engine v1alpha1.Engine) *Planner {
	return &Planner{
		Engine: engine, translator: translate.New(),
		entries: map[types.UID]*entry{}, straying: map[*entry]bool{},
	}
}

// Expect is the plan that the controller would make of objects for a Balancer, once it
// had everything on record.
func Expect(b *v1alpha1.Balancer, o Objects) (*Plan, error) {
	snap := NewSnapshot(b, o)
	assigned := Assign(snap)
	for i, svc := range assigned.Carried { // as the controller leaves it before it programs it
		assigned.Carried[i] = assigned.Record(svc).Write(svc)
	}
	return NewPlanner(b.Spec.Engine).Plan(snap, assigned)
}
