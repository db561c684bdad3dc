package explain

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/internal/plan"
)

// State of a finding.
type State string

// States.
const (
	OK      State = "ok"
	Wrong   State = "wrong"
	Unknown State = "unknown" // it could not be read, or is not decided yet
)

// Links of the chain, in their order.
const (
	LinkManager   = "manager"
	LinkService   = "service"
	LinkClass     = "class"
	LinkBalancer  = "balancer"
	LinkAddress   = "address"
	LinkListener  = "listener"
	LinkHost      = "host"
	LinkNodes     = "nodes"
	LinkEndpoints = "endpoints"
	LinkPolicy    = "policy"
	LinkStatus    = "status"
)

// Finding is one thing that is known of a link, or is not.
type Finding struct {
	Link    string `json:"link"`
	State   State  `json:"state"`
	Reason  string `json:"reason,omitempty"` // of the condition that says it
	Message string `json:"message"`
	See     string `json:"see,omitempty"` // heading of docs/troubleshooting.md
}

// Chain is what there is between a Service and its clients.
type Chain []Finding

// First is what is wrong first, nil if nothing is.
func (c Chain) First() *Finding {
	if i := slices.IndexFunc(c, func(f Finding) bool { return f.State == Wrong }); i >= 0 {
		return &c[i]
	}
	return nil
}

// Unknown are the links of which something is not known, each once.
func (c Chain) Unknown() (links []string) {
	for _, f := range c {
		if f.State == Unknown && !slices.Contains(links, f.Link) {
			links = append(links, f.Link)
		}
	}
	return links
}

// Kinds of objects that may not be readable, as an API server calls them.
const (
	Balancers  = "balancers"
	Pools      = "addresspools"
	Policies   = "upstreampolicies"
	Services   = "services"
	Nodes      = "nodes"
	Slices     = "endpointslices"
	Pods       = "pods" // where a Balancer sends to them
	Namespaces = "namespaces"
)

// Facts are what could be read.
type Facts struct {
	Service *corev1.Service
	// Objects of the cluster; of policies and EndpointSlices only those in the namespace of
	// the Service are looked at. Certificates are not: the controller's words tell of them.
	Objects plan.Objects
	// Manager is what its Lease tells. Where it does not work, what statuses say is old.
	Manager Manager
	// Unread says, by kind, why its objects could not be read.
	Unread map[string]string
}

// Manager is the controller.
type Manager struct {
	State   State // that of its finding; "": nobody has asked
	Message string
}

// read reports whether all objects of some kinds could be read.
func (f *Facts) read(kinds ...string) bool {
	return !slices.ContainsFunc(kinds, func(kind string) bool { return f.Unread[kind] != "" })
}
