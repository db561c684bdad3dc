package plan

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/translate"
)

// Pools is every AddressPool of the cluster, as ParsePools read them: whether one is
// good depends on the others.
type Pools struct {
	Accepted, Rejected []*ipam.Pool
	Problems           map[string]*ipam.Problem // by pool, of those that are not in force
}

// ParsePools reads every AddressPool of the cluster.
func ParsePools(objects []v1alpha1.AddressPool) Pools {
	var p Pools
	p.Accepted, p.Rejected, p.Problems = ipam.ParsePools(objects)
	return p
}

// Objects are what plans depend on, of a cluster or of files, in any order. They may
// be shared with a cache: nothing changes them.
type Objects struct {
	Balancers []*v1alpha1.Balancer // all that there are
	Pools     Pools
	// Services at least those that a Balancer may serve or holds, and all that any
	// holds; one may be there twice.
	Services []*corev1.Service
	// Partial: Services are only those that may have changed since the last Objects, and
	// Gone those that are there no longer: see Planner.Follows.
	Partial bool
	Gone    []types.UID
	Nodes   []*corev1.Node
	// Slices by Service, of those with externalTrafficPolicy: Local, and of the API servers.
	Slices map[types.NamespacedName][]*discoveryv1.EndpointSlice
	// Endpoints by Service, where a Balancer sends to pods; PodsUnread is why that cannot
	// be told, "" if it can.
	Endpoints  map[types.NamespacedName]*translate.Endpoints
	PodsUnread string
	Namespaces map[string]labels.Set
	Policies   []*v1alpha1.UpstreamPolicy
	// Unheard is a kind of which the API server tells nothing at the moment, "" if there is none: Services that
	// come meanwhile wait.
	Unheard string
	// Certificates that Policies name.
	Certificates translate.Certificates

	claims *Claims // nil: not settled yet
}

// Claims say who serves what. They are settled once: what they are made of does not change
// from then on.
func (o *Objects) Claims() Claims {
	if o.claims == nil {
		o.claims = new(NewClaims(o.Balancers, o.Pools.Accepted, o.Namespaces))
	}
	return *o.claims
}

// Snapshot is everything that a Balancer's plan depends on.
type Snapshot struct {
	Objects
	Balancer *v1alpha1.Balancer

	own     []*ipam.Pool // of this Balancer, in force
	foreign []*ipam.Pool // rejected or of other Balancers, with addresses of Services that this one holds
}

// NewSnapshot finds what the plan of one Balancer depends on.
func NewSnapshot(b *v1alpha1.Balancer, o Objects) *Snapshot {
	s := &Snapshot{Objects: o, Balancer: b}
	for _, p := range s.Claims().pools {
		if p.Balancer == b.Name {
			s.own = append(s.own, p)
		}
	}
	return s
}
