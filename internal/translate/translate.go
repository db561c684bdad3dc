package translate

import (
	"cmp"
	"fmt"
	"maps"
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
	known  map[types.UID]*Memory // of Services that come without one
	all    []*Memory             // of the Services of the last Input, in its order
	common string                // of the last Input
	nodes  *nodes                // of the last Input
	turn   int                   // counts the changes of common
	round  int                   // counts the changes of nodes
	buf    []byte                // for keys

	policies     []*v1alpha1.UpstreamPolicy // of the last Input
	index        policyIndex                // of these
	certificates Certificates               // of the last Input
	rules        int                        // counts the changes of these

	podCaps       map[string]int // see caps
	mostEndpoints int

	tenants    map[string]*tenant // by namespace
	looks      int                // counts the Inputs
	total      size               // of all tenants
	most       size
	mostChecks int
	left       []*Memory      // that are left out
	printed    map[string]int // the bytes of certificates, by name
}

// Memory is what one Service became. Who has it kept gives it to one Translator alone.
type Memory struct {
	known
	member
	rules     int
	in        Service     // as it was; without an Object: to be looked at again
	told      *lb.Service // what it was at the end of the last Input
	datagrams bool        // some of its ports carry no TCP
}

// Service of the model that it became, nil if nothing of it can be carried.
func (m *Memory) Service() *lb.Service {
	if m.left != nil {
		return nil
	}
	return m.service
}

// Result says what became of it. It is the same pointer while it says the same.
func (m *Memory) Result() *ServiceResult { return cmp.Or(m.left, m.result) }

// known is what a Service became, and key is what it depended on.
type known struct {
	turn, round int
	key         string
	pods        *Endpoints
	cap         int // see caps
	share       int // see shareChecks
	service     *lb.Service
	own         *ServiceResult // but for nodes that there are not
	result      *ServiceResult
	backed      backed
	need        *need // nil without a service
}

// New makes a Translator that has seen nothing.
func New() *Translator {
	return &Translator{nodes: &nodes{}, mostEndpoints: lb.MaxAllEndpoints, tenants: map[string]*tenant{}, most: mostOfAll, mostChecks: checksPerMinute}
}

// Translate makes a Balancer's Config.
func (t *Translator) Translate(in Input) Output {
	ns := eligible(in.Balancer, in.Nodes)
	if in.Balancer.Spec.ToPods() {
		ns = ns.forPods()
	}
	out := Output{
		Config:       &lb.Config{Nodes: ns.all, Services: make([]*lb.Service, 0, len(in.Services)+1)},
		VRRP:         virtualRouter(in.Balancer),
		Services:     map[types.UID]*ServiceResult{},
		NodesProblem: cmp.Or(podsUnread(in), ns.none),
		Unread:       ns.unread,
		Unweighed:    ns.unweighed,
		Unbacked:     unbacked(in.Balancer),
	}
	t.look(in, ns)
	datagrams := t.each(in, ns)
	t.sweep()
	t.leaveOut()
	spread := t.shareChecks(askedOf(in, ns))
	if caps := t.caps(in); spread || !maps.Equal(caps, t.podCaps) {
		t.podCaps = caps
		t.each(in, ns)
	}
	t.collect(in, &out)
	out.Unsupported = unsupported(Carriers(in.Balancer), &in.Balancer.Spec.Defaults, uses(in.Balancer, datagrams))
	api, why := controlPlane(in)
	if !in.Sorted {
		slices.SortFunc(out.Config.Services, byID)
	}
	if out.ControlPlane = why; api != nil {
		i, _ := slices.BinarySearchFunc(out.Config.Services, api, byID)
		out.Config.Services = slices.Insert(out.Config.Services, i, api)
	}
	out.Config.Certificates = certificates(out.Config.Services, in.Certificates)
	if out.VRRP != nil {
		out.Config.Addresses = brought(out.Config.Services, in.Elsewhere)
	}
	return out
}

func byID(a, b *lb.Service) int { return a.ID.Compare(b.ID) }

// each Service is translated, or remembered. It reports whether one carries something else
// than TCP.
func (t *Translator) each(in Input, ns *nodes) (datagrams bool) {
	carriers := Carriers(in.Balancer)
	next := map[types.UID]*Memory{}
	t.all = slices.Grow(t.all[:0], len(in.Services))
	for i := range in.Services {
		svc := &in.Services[i]
		m := svc.Memory
		if m == nil {
			if m = t.known[svc.Object.UID]; m == nil {
				m = &Memory{}
			}
			next[svc.Object.UID] = m
		}
		t.all = append(t.all, m)
		t.see(m, svc.Object)
		if !t.stands(m, svc) {
			t.one(m, translation{
				carriers:   carriers,
				in:         *svc,
				nodes:      ns,
				slices:     in.Slices[types.NamespacedName{Namespace: svc.Object.Namespace, Name: svc.Object.Name}],
				precedence: precedence{t.index.of(svc.Object), &in.Balancer.Spec.Defaults},
				limit:      max(0, int(in.Balancer.Spec.Nodes.MaxPerService)),
				direct:     in.Balancer.Spec.Direct(),
				pods:       in.Balancer.Spec.ToPods(),
				cap:        t.podCaps[svc.Object.Namespace],
				share:      m.tenant.share,
				cloud:      in.Balancer.Spec.Provider != nil,
				brings:     in.Balancer.Spec.UsesVRRP(),

				certificates: in.Certificates,
				printed:      t.printed,
			})
			t.place(m, svc.Object)
		}
		t.count(m, m.need)
		datagrams = datagrams || m.datagrams
	}
	t.known = next
	return datagrams
}

// collect what became of all.
func (t *Translator) collect(in Input, out *Output) {
	for i, m := range t.all {
		if svc := &in.Services[i]; svc.Memory == nil {
			out.Services[svc.Object.UID] = m.Result()
		}
		if s := m.Service(); s != nil {
			out.Config.Services = append(out.Config.Services, s)
		}
	}
}

// stands reports whether nothing changed that a Service depends on, as far as that is
// seen at once.
func (t *Translator) stands(m *Memory, svc *Service) bool {
	return m.in.Object == svc.Object && m.turn == t.turn && m.round == t.round && m.rules == t.rules &&
		m.pods == svc.Pods && m.cap == t.podCaps[svc.Object.Namespace] && m.share == m.tenant.share && slices.Equal(m.in.Addresses, svc.Addresses) && slices.Equal(m.in.Withheld, svc.Withheld)
}

// look notes whether something changed that many Services depend on.
func (t *Translator) look(in Input, ns *nodes) {
	t.looks++
	if common := commonKey(in.Balancer); common != t.common {
		t.common = common
		t.turn++
	}
	why := func(ns *nodes) string { return deref(ns.none).Message }
	if why(ns) != why(t.nodes) || !slices.Equal(ns.all, t.nodes.all) {
		t.round++
	}
	t.nodes = ns
	versioned := func(p *v1alpha1.UpstreamPolicy) bool { return p.ResourceVersion != "" }
	if t.index == nil || !slices.Equal(in.Policies, t.policies) || !maps.EqualFunc(in.Certificates, t.certificates, sameCertificate) ||
		len(slices.DeleteFunc(slices.Clone(in.Policies), versioned)) > 0 {
		t.index, t.policies, t.certificates = indexPolicies(in.Policies), slices.Clone(in.Policies), maps.Clone(in.Certificates)
		t.printed = make(map[string]int, len(in.Certificates))
		for _, c := range in.Certificates {
			if c.Served != nil {
				t.printed[c.Served.Name()] = len(c.Served.PEM())
			}
		}
		t.rules++
	}
}

func sameCertificate(a, b Certificate) bool {
	return a.Served == b.Served && deref(a.Problem) == deref(b.Problem)
}

// one translates a Service, or remembers what became of it.
func (t *Translator) one(m *Memory, job translation) {
	noTCP := func(p corev1.ServicePort) bool { return lb.Protocol(p.Protocol) != lb.TCP }
	m.datagrams = slices.ContainsFunc(job.in.Object.Spec.Ports, noTCP)
	m.rules, m.in = t.rules, job.in
	if job.in.Object.ResourceVersion == "" || job.byNode() {
		m.in.Object = nil // it depends on more, or nobody can tell
	}
	m.known = t.remember(m.known, job)
	if reflect.DeepEqual(m.service, m.told) {
		m.service = m.told
	}
}

func (t *Translator) remember(was known, job translation) known {
	var remembers bool
	t.buf, remembers = job.appendKey(t.buf[:0])
	now := known{turn: t.turn, round: t.round, pods: job.in.Pods, cap: job.cap, share: job.share}
	if remembers && was.turn == t.turn && was.key == string(t.buf) && was.pods == now.pods && was.cap == now.cap && was.share == now.share {
		if was.round == t.round {
			return was
		}
		if !job.byNode() { // it names no nodes
			now.key, now.service, now.own, now.backed, now.need = was.key, was.service, was.own, was.backed, was.need
			now.result = withNodes(now.own, now.service, job.nodes)
			return now
		}
	}
	if remembers {
		now.key = string(t.buf)
	}
	now.service, now.own = job.run()
	now.backed, now.need = job.backed, job.need
	now.result = withNodes(now.own, now.service, job.nodes)
	return now
}

// certificates are those that Services name, each once, sorted by name.
func certificates(services []*lb.Service, all Certificates) []*lb.Certificate {
	if len(all) == 0 {
		return nil
	}
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
func uses(b *v1alpha1.Balancer, datagrams bool) []use {
	c, defaults := Carriers(b), precedence{nobody, &b.Spec.Defaults}
	out := []use{defaults.use(c, "", lb.TCP)}
	if datagrams {
		out = append(out, defaults.use(c, "", lb.UDP))
	}
	return out
}

// commonKey changes with what all Services of a Balancer depend on, but for nodes.
func commonKey(b *v1alpha1.Balancer) string {
	parts := []string{Carriers(b).String(),
		strconv.FormatBool(b.Spec.Direct()), strconv.FormatBool(b.Spec.ToPods()), strconv.FormatBool(b.Spec.UsesVRRP()), strconv.Itoa(int(b.Spec.Nodes.MaxPerService))}
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
	b = append(append(b, t.precedence.words...), 0)
	if t.pods {
		return b, ok // what is behind its slices is compared by itself
	}
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
