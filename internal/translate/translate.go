package translate

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/lb"
)

// Translator translates the Inputs of one Balancer, one after the other. What a
// Service became is kept while nothing that it depends on changes, and it stays
// the same pointer while it says the same: a later stage may remember by it. Not
// for concurrent use.
type Translator struct {
	kept   map[types.UID]kept
	common string // of the last Input
	turn   int    // counts the changes of common
	buf    []byte // for keys
}

// kept is what a Service became, and key is what it depended on.
type kept struct {
	turn    int
	key     string
	service *lb.Service
	result  *ServiceResult
}

// New makes a Translator that has seen nothing.
func New() *Translator { return &Translator{} }

// Translate makes a Balancer's Config.
func (t *Translator) Translate(in Input) Output {
	ns := eligible(in.Balancer, in.Nodes)
	out := Output{
		Config:       &lb.Config{Services: make([]*lb.Service, 0, len(in.Services)), VRRP: virtualRouter(in.Balancer)},
		Services:     make(map[types.UID]*ServiceResult, len(in.Services)),
		Nodes:        ns.names,
		NodesProblem: ns.none,
		Unsupported:  unsupported(lb.Engine(in.Balancer.Spec.Engine), &in.Balancer.Spec.Defaults, protocols(in.Services)),
	}
	if common := commonKey(in, ns); common != t.common {
		t.common = common
		t.turn++
	}
	policies := indexPolicies(in.Policies)
	next := make(map[types.UID]kept, len(in.Services))
	for _, svc := range in.Services {
		name := types.NamespacedName{Namespace: svc.Object.Namespace, Name: svc.Object.Name}
		k := t.one(translation{
			engine: lb.Engine(in.Balancer.Spec.Engine),
			in:     svc,
			nodes:  ns,
			slices: in.Slices[name],
			layers: layers{policies[name], svc.Object.Name, &in.Balancer.Spec.Defaults},
			limit:  int(in.Balancer.Spec.Nodes.MaxPerService),
			direct: in.Balancer.Spec.Direct(),

			certificates: in.Certificates,
		})
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

// one translates a Service, or remembers what became of it.
func (t *Translator) one(job translation) kept {
	was := t.kept[job.in.Object.UID]
	var keeps bool
	t.buf, keeps = job.appendKey(t.buf[:0])
	if keeps && was.turn == t.turn && was.key == string(t.buf) {
		return was
	}
	now := kept{turn: t.turn}
	if keeps {
		now.key = string(t.buf)
	}
	now.service, now.result = job.run()
	if now.service != nil && was.service != nil && same(now.service, was.service) {
		now.service = was.service
	}
	return now
}

// same reports whether two Services say the same. Nearly all that they say is
// Backends, which are compared without reflection.
func same(a, b *lb.Service) bool {
	return a.ID == b.ID && slices.EqualFunc(a.Frontends, b.Frontends, func(a, b lb.Frontend) bool {
		if !slices.Equal(a.Backends, b.Backends) {
			return false
		}
		a.Backends, b.Backends = nil, nil
		return reflect.DeepEqual(a, b)
	})
}

// protocols are those of all Services.
func protocols(services []Service) []lb.Protocol {
	out := []lb.Protocol{lb.TCP}
	for _, svc := range services {
		if slices.ContainsFunc(svc.Object.Spec.Ports, func(p corev1.ServicePort) bool { return lb.Protocol(p.Protocol) != lb.TCP }) {
			return append(out, lb.UDP)
		}
	}
	return out
}

// commonKey changes with what all Services of a Balancer depend on.
func commonKey(in Input, ns *nodes) string {
	var b []byte
	add := func(parts ...string) {
		for _, p := range parts {
			b = strconv.AppendQuote(b, p)
		}
	}
	spec := &in.Balancer.Spec
	add(string(spec.Engine), strconv.FormatBool(spec.Direct()), strconv.Itoa(int(spec.Nodes.MaxPerService)))
	for _, f := range fields {
		add(f.get(&spec.Defaults))
	}
	for _, n := range slices.Concat(ns.v4, ns.v6) {
		add(n.name, n.address.String())
	}
	if ns.none != nil {
		add(ns.none.Message)
	}
	return string(b)
}

// appendKey appends what changes with what only this Service depends on. Objects
// that were never in an API server have no version: then nothing can be kept.
func (t *translation) appendKey(b []byte) (key []byte, ok bool) {
	ok = t.in.Object.ResourceVersion != ""
	b = appendVersion(b, &t.in.Object.ObjectMeta, t.in.Object.ResourceVersion)
	for _, a := range t.in.Addresses {
		b = append(a.AppendTo(b), ' ')
	}
	b = append(b, 0)
	for _, l := range t.in.Withheld {
		b = append(l.Address.AppendTo(b), ' ')
		b = append(strconv.AppendUint(b, uint64(l.Port), 10), l.Protocol...)
		b = append(b, ' ')
	}
	b = append(b, 0)
	for _, p := range t.layers.policies {
		ok = ok && p.ResourceVersion != ""
		// Our own writing of its status changes its version, and means nothing here.
		version := p.ResourceVersion
		if p.Generation > 0 {
			version = strconv.FormatInt(p.Generation, 10)
		}
		b = appendVersion(b, &p.ObjectMeta, version)
	}
	b = append(t.appendCertificates(append(b, 0)), 0)
	for _, s := range inOrder(t.slices) {
		ok = ok && s.ResourceVersion != ""
		b = appendVersion(b, &s.ObjectMeta, s.ResourceVersion)
	}
	return b, ok
}

func appendVersion(b []byte, m *metav1.ObjectMeta, version string) []byte {
	b = append(append(b, m.UID...), 0)
	return append(append(b, version...), 0)
}

// inOrder sorts what a cache lists in any order.
func inOrder(s []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	byName := func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }
	if slices.IsSortedFunc(s, byName) {
		return s
	}
	return slices.SortedFunc(slices.Values(s), byName)
}
