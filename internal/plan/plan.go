package plan

import (
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
	"github.com/external-lb/external-lb/internal/translate"
)

// Snapshot is everything that a Balancer's plan depends on. The objects are
// shared with a cache: nothing changes them.
type Snapshot struct {
	Balancer *v1alpha1.Balancer
	Claims   Claims
	Pools    []*ipam.Pool // of this Balancer
	Rejected []*ipam.Pool // of every Balancer, not in force
	// Services that this Balancer serves or holds, or that have addresses of its
	// pools: see Add.
	Services   []*corev1.Service
	Nodes      []*corev1.Node
	Slices     map[types.NamespacedName][]*discoveryv1.EndpointSlice
	Namespaces map[string]labels.Set
	Policies   []*v1alpha1.UpstreamPolicy
	// Certificates that Policies name.
	Certificates translate.Certificates
	// KnownBalancers are the names of all Balancers that exist.
	KnownBalancers map[string]bool

	guests []*ipam.Pool // rejected or of other Balancers, with addresses of Services that this one holds
	// elsewhere are addresses on which Services that this Balancer does not hold are published.
	elsewhere map[netip.Addr]bool
}

// Plan is what the hosts of a Balancer should run, and what its users are told.
type Plan struct {
	Set          *fileset.Set            // that all hosts have
	Sets         map[string]*fileset.Set // by host: that, and what tells it from the others
	Services     []*Service              // that are carried, in the order of the snapshot
	Nodes        []string                // that are backends
	NodesProblem *translate.Problem
	Unsupported  []string // settings of spec.defaults that the engine cannot do
	Trial        string   // the name of the trial on which its templates are; "": they are known to be good
	Templates    *Problem // why others than the wanted templates made it; nil: they did
	Unfit        []string // what custom templates could not make, so that the built-in ones did
	// Elsewhere are the Services that another Balancer goes on carrying, on
	// addresses of this one's pools.
	Elsewhere []*corev1.Service
	PoolNotes map[string]*ipam.Problem // by pool: what is not as its owner may think
}

// Service is what a Balancer does for one Service.
type Service struct {
	Object    *corev1.Service
	Path      string       // of its fragment
	Addressed []string     // paths of what brings its addresses to a host, where that is ours to do
	Addresses []netip.Addr // on which it is, or is to be, programmed
	// Shape changes with what the Service's owner changed: ports, addresses,
	// sources; not with nodes. Empty if it is not in the plan's Set.
	Shape      string
	Direct     bool      // nodes get packets with the Service's address on them
	Problems   []Problem // the fatal ones first
	PortErrors map[translate.PortKey]string

	From    string   // the Balancer that carries it until this one has proved it; "": none
	Kept    string   // why it is not taken over even then
	Staying bool     // another Balancer is about to take it over
	Others  []string // the other Balancers on whose hosts it may be live
}

// Problem is something that a Service's owner should know.
type Problem struct {
	Reason  string // of v1alpha1
	Message string // what is wrong and what to do
	Fatal   bool   // it keeps the Service off the hosts
}

// Planner makes the plans of one Balancer, one after the other, and keeps what
// did not change between two. Not for concurrent use.
type Planner struct {
	Engine     v1alpha1.Engine
	translator *translate.Translator
	renderer   *render.Renderer
	templates  map[string]string // in use; those that are built in are not in it
}

// NewPlanner makes a Planner for an engine.
func NewPlanner(engine v1alpha1.Engine) (*Planner, error) {
	renderer, err := render.New(lb.Engine(engine))
	if err != nil {
		return nil, err
	}
	return &Planner{Engine: engine, translator: translate.New(), renderer: renderer}, nil
}

// Use renders with custom templates from now on, by name; with none of them, as
// built in. They are tried on samples first, and an error says what is wrong with
// them: then nothing changes.
func (p *Planner) Use(templates map[string]string) error {
	if maps.Equal(p.templates, templates) {
		return nil
	}
	if err := p.renderer.Use(templates); err != nil {
		return err
	}
	p.templates = maps.Clone(templates)
	return nil
}
