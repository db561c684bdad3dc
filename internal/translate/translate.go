package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Translator translates the Inputs of one Balancer, one after the other. What a
// Service became is remembered while nothing that it depends on changes, and it stays
// the same pointer while it says the same: a later stage may remember by it. Not
// for concurrent use.
type Translator struct {
	known  map[types.UID]known
	common string // of the last Input
	nodes  *nodes // of the last Input
	turn   int    // counts the changes of common
	round  int    // counts the changes of nodes
	buf    []byte // for keys
}

// known is what a Service became, and key is what it depended on.
type known struct {
	turn, round int
	key         string
	service     *lb.Service
	own         *ServiceResult // but for nodes that there are not
	result      *ServiceResult
}

// New makes a Translator that has seen nothing.
func New() *Translator { return &Translator{nodes: &nodes{}} }

// Translate makes a Balancer's Config.
func (t *Translator) Translate(in Input) Output {
	ns := eligible(in.Balancer, in.Nodes)
	out := Output{
		Config:       &lb.Config{Nodes: ns.all, Services: make([]*lb.Service, 0, len(in.Services))},
		VRRP:         virtualRouter(in.Balancer),
		Services:     make(map[types.UID]*ServiceResult, len(in.Services)),
		NodesProblem: ns.none,
		Unread:       ns.unread,
		Unweighed:    ns.unweighed,
		Unbacked:     unbacked(in.Balancer),
		Unsupported:  unsupported(Carriers(in.Balancer), &in.Balancer.Spec.Defaults, uses(in)),
	}
	t.look(in, ns)
	policies, carriers := indexPolicies(in.Policies), Carriers(in.Balancer)
	next := make(map[types.UID]known, len(in.Services))
	for _, svc := range in.Services {
		name := types.NamespacedName{Namespace: svc.Object.Namespace, Name: svc.Object.Name}
		k := t.one(translation{
			carriers:   carriers,
			in:         svc,
			nodes:      ns,
			slices:     in.Slices[name],
			precedence: precedence{policies.of(svc.Object), svc.Object.Name, &in.Balancer.Spec.Defaults},
			limit:      max(0, int(in.Balancer.Spec.Nodes.MaxPerService)),
			direct:     in.Balancer.Spec.Direct(),
			load:       load(in, ns),

			certificates: in.Certificates,
		})
		next[svc.Object.UID] = k
		out.Services[svc.Object.UID] = k.result
		if k.service != nil {
			out.Config.Services = append(out.Config.Services, k.service)
		}
	}
	t.known = next
	api, why := controlPlane(in)
	if out.ControlPlane = why; api != nil {
		out.Config.Services = append(out.Config.Services, api)
	}
	slices.SortFunc(out.Config.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
	out.Config.Certificates = certificates(out.Config.Services, in.Certificates)
	if out.VRRP != nil {
		out.Config.Addresses = brought(out.Config.Services, in.Elsewhere)
	}
	return out
}

// look notes whether something changed that many Services depend on.
func (t *Translator) look(in Input, ns *nodes) {
	if common := commonKey(in.Balancer, load(in, ns)); common != t.common {
		t.common = common
		t.turn++
	}
	why := func(ns *nodes) string { return deref(ns.none).Message }
	if why(ns) != why(t.nodes) || !slices.Equal(ns.all, t.nodes.all) {
		t.round++
	}
	t.nodes = ns
}

// one translates a Service, or remembers what became of it.
func (t *Translator) one(job translation) known {
	was := t.known[job.in.Object.UID]
	var remembers bool
	t.buf, remembers = job.appendKey(t.buf[:0])
	now := known{turn: t.turn, round: t.round}
	if remembers && was.turn == t.turn && was.key == string(t.buf) {
		if was.round == t.round {
			return was
		}
		if !local(job.in.Object) { // it names no nodes
			now.key, now.service, now.own = was.key, was.service, was.own
			now.result = withNodes(now.own, now.service, job.nodes)
			return now
		}
	}
	if remembers {
		now.key = string(t.buf)
	}
	now.service, now.own = job.run()
	now.result = withNodes(now.own, now.service, job.nodes)
	if now.service != nil && was.service != nil && reflect.DeepEqual(now.service, was.service) {
		now.service = was.service
	}
	return now
}

// certificates are those that Services name, each once, sorted by name.
func certificates(services []*lb.Service, all Certificates) []*lb.Certificate {
	named := map[string]bool{}
	for _, s := range services {
		for i := range s.Frontends {
			if name := s.Frontends[i].Settings.Certificate; name != "" {
				named[name] = true
			}
		}
	}
	var out []*lb.Certificate
	for _, c := range all {
		if c.Served != nil && named[c.Served.Name()] {
			delete(named, c.Served.Name())
			out = append(out, c.Served)
		}
	}
	slices.SortFunc(out, func(a, b *lb.Certificate) int { return cmp.Compare(a.Name(), b.Name()) })
	return out
}

// brought are the addresses that hosts bring: where they listen, but for those that
// another Balancer's hosts may still have.
func brought(services []*lb.Service, elsewhere map[netip.Addr]bool) []netip.Addr {
	seen := map[netip.Addr]bool{}
	var out []netip.Addr
	for _, s := range services {
		for i := range s.Frontends {
			if a := s.Frontends[i].Listener.Address; !seen[a] && (s.ID == lb.ControlPlane || !elsewhere[a]) {
				seen[a] = true
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// uses of a Balancer's ports, as far as its defaults decide. SCTP is as UDP to an engine.
func uses(in Input) []use {
	c, defaults := Carriers(in.Balancer), precedence{defaults: &in.Balancer.Spec.Defaults}
	out := []use{defaults.use(c, "", lb.TCP)}
	for _, svc := range in.Services {
		if slices.ContainsFunc(svc.Object.Spec.Ports, func(p corev1.ServicePort) bool { return lb.Protocol(p.Protocol) != lb.TCP }) {
			return append(out, defaults.use(c, "", lb.UDP))
		}
	}
	return out
}

// commonKey changes with what all Services of a Balancer depend on, but for nodes.
func commonKey(b *v1alpha1.Balancer, load int) string {
	parts := []string{Carriers(b).String(), strconv.Itoa(load), strconv.FormatBool(b.Spec.Direct()), strconv.Itoa(int(b.Spec.Nodes.MaxPerService))}
	if b.Spec.Provider != nil {
		parts = append(parts, fmt.Sprintf("%+v", deref(b.Status.Provider)))
	}
	for _, f := range fields {
		parts = append(parts, f.get(&b.Spec.Defaults))
	}
	return fmt.Sprintf("%q", parts)
}

// appendKey appends what changes with what only this Service depends on. Objects
// that were never in an API server have no version: then nothing can be remembered.
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
	for _, p := range t.precedence.policies {
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
