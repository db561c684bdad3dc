package translate

import (
	"cmp"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/lb"
)

// Translator translates the Inputs of one Balancer, one after the other. What a
// Service became is kept while nothing that it depends on changes, and then it is
// the same pointer: a later stage may remember by it. Not for concurrent use.
type Translator struct {
	kept map[types.UID]kept
}

type kept struct {
	key     string
	service *lb.Service
	result  *ServiceResult
}

// New makes a Translator that has seen nothing.
func New() *Translator { return &Translator{} }

// Translate makes a Balancer's Config.
func (t *Translator) Translate(in Input) Output {
	nodes, none := eligible(in.Balancer, in.Nodes)
	out := Output{
		Config:       &lb.Config{},
		Services:     make(map[types.UID]*ServiceResult, len(in.Services)),
		NodesProblem: none,
		Unsupported:  UnsupportedDefaults(in.Balancer),
	}
	for _, n := range nodes {
		out.Nodes = append(out.Nodes, n.name)
	}
	policies := indexPolicies(in.Policies)
	common := commonKey(in, nodes)
	next := make(map[types.UID]kept, len(in.Services))
	for _, svc := range in.Services {
		name := types.NamespacedName{Namespace: svc.Object.Namespace, Name: svc.Object.Name}
		job := translation{
			engine: lb.Engine(in.Balancer.Spec.Engine),
			in:     svc,
			nodes:  nodes,
			none:   none,
			slices: in.Slices[name],
			layers: layers{policies[name], svc.Object.Name, &in.Balancer.Spec.Defaults},
			limit:  int(in.Balancer.Spec.Nodes.MaxPerService),
		}
		key, keeps := job.key(common)
		k, found := t.kept[svc.Object.UID]
		if !found || !keeps || k.key != key {
			k = kept{key: key, service: job.run()}
			k.result = job.result
		}
		next[svc.Object.UID] = k
		out.Services[svc.Object.UID] = k.result
		if k.service != nil {
			out.Config.Services = append(out.Config.Services, k.service)
		}
	}
	t.kept = next
	slices.SortFunc(out.Config.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
	return out
}

// commonKey changes with what all Services of a Balancer depend on.
func commonKey(in Input, nodes []node) string {
	h := fnv.New128a()
	fmt.Fprintf(h, "%s %d %d %+v ", in.Balancer.UID, in.Balancer.Generation, in.Balancer.Spec.Nodes.MaxPerService, in.Balancer.Spec.Engine)
	for _, n := range nodes {
		fmt.Fprintf(h, "%s %s %s ", n.name, n.v4, n.v6)
	}
	return string(h.Sum(nil))
}

// key changes with what a Service's translation depends on. Objects that were
// never in an API server have no version: then nothing can be kept.
func (t *translation) key(common string) (key string, ok bool) {
	h := fnv.New128a()
	h.Write([]byte(common))
	ok = t.in.Object.ResourceVersion != ""
	version(h, &t.in.Object.ObjectMeta)
	for _, a := range t.in.Addresses {
		h.Write(a.AsSlice())
	}
	for _, l := range t.in.Withheld {
		h.Write([]byte(l.String()))
	}
	for _, p := range t.layers.policies {
		ok = ok && p.ResourceVersion != ""
		version(h, &p.ObjectMeta)
	}
	// Their order in the cache means nothing.
	slices.SortFunc(t.slices, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range t.slices {
		ok = ok && s.ResourceVersion != ""
		version(h, &s.ObjectMeta)
	}
	return string(h.Sum(nil)), ok
}

func version(h hash.Hash, m *metav1.ObjectMeta) {
	h.Write([]byte(m.UID))
	h.Write([]byte{0})
	h.Write([]byte(m.ResourceVersion))
	h.Write([]byte{0})
}
