package translate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Hosts refuse a whole model that is too large, with the Services of all. So that nobody gets that
// far, the namespace that has the most gives way before anything is sent: docs/design/0031-who-gives-way.md.

// What Services take of what all of them may have together.
const (
	inItems = iota
	inListeners
	inBytes  // without those of pods: see caps
	inChecks // of one node in a minute, for Services alone: nobody is left out for these, see shareChecks
	kinds
)

// size is how much of each.
type size [kinds]int

func (s *size) add(o size, times int) {
	for k := range o {
		s[k] += times * o[k]
	}
}

// mostOfAll is the size of all Services of a Balancer.
var mostOfAll = size{lb.MaxAllItems, lb.MaxAllFrontends, lb.MaxAllBytes, math.MaxInt}

// need is what one Service takes.
type need struct {
	size
	certificates []printed // once each; not in size: Services of a namespace share them
}

// printed is a certificate as it is sent.
type printed struct {
	name  string
	bytes int
}

func (c printed) size() size { return size{inItems: 1, inBytes: c.bytes} }

// needOf a Service, but for its checks, which are as far apart as it asks for.
func (t *translation) needOf(s *lb.Service) *need {
	n := &need{size: size{inItems: 1, inListeners: len(s.Frontends), inBytes: s.Bytes()}}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		if t.brings && (i == 0 || s.Frontends[i-1].Listener.Address != f.Listener.Address) { // they are sorted
			n.size[inItems]++
		}
		name := f.Settings.Certificate
		if name != "" && !slices.ContainsFunc(n.certificates, func(c printed) bool { return c.name == name }) {
			n.certificates = append(n.certificates, printed{name, t.printed[name]})
		}
	}
	return n
}

// tenant is a namespace with its Services.
type tenant struct {
	namespace    string
	members      []*Memory
	sorted       bool           // they are, by who stays longest
	seen         int            // how many of them are in the Input
	size         size           // of all of them
	certificates map[string]int // how many of them name each
	kept         size           // of those that are not left out
	share        int            // of checks, for each of its Services; 0: as many as it asks for
}

// member is what a tenant knows of a Memory.
type member struct {
	tenant *tenant // nil: none
	look   int     // that saw it last
	counts *need   // in the size of the tenant
	rank   rank
	left   *ServiceResult // why it is left out; nil: it is not
}

// rank says who of a namespace stays: what is carried, and then what is older.
type rank struct {
	carried   bool
	created   int64
	name, uid string
}

func rankOf(svc *corev1.Service) rank {
	return rank{len(svc.Status.LoadBalancer.Ingress) > 0, svc.CreationTimestamp.Unix(), svc.Name, string(svc.UID)}
}

func (r rank) compare(o rank) int {
	if r.carried != o.carried {
		if r.carried {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(r.created, o.created), strings.Compare(r.name, o.name), strings.Compare(r.uid, o.uid))
}

// see a Service that is in the Input.
func (t *Translator) see(m *Memory, svc *corev1.Service) {
	if m.tenant == nil || m.tenant.namespace != svc.Namespace {
		t.leave(m)
		in := t.tenants[svc.Namespace]
		if in == nil {
			in = &tenant{namespace: svc.Namespace, certificates: map[string]int{}}
			t.tenants[svc.Namespace] = in
		}
		m.tenant, in.members = in, append(in.members, m)
		t.place(m, svc)
	}
	if m.look != t.looks {
		m.look, m.told = t.looks, m.service
		m.tenant.seen++
	}
}

// place a Service among those of its namespace.
func (t *Translator) place(m *Memory, svc *corev1.Service) {
	if r := rankOf(svc); r != m.rank {
		m.rank, m.tenant.sorted = r, false
	}
}

// leave takes a Service out of its namespace.
func (t *Translator) leave(m *Memory) {
	if m.tenant == nil {
		return
	}
	t.count(m, nil)
	if i := slices.Index(m.tenant.members, m); i >= 0 {
		m.tenant.members = slices.Delete(m.tenant.members, i, i+1)
	}
	m.member = member{}
}

// count a Service as what it is now; nil: as nothing.
func (t *Translator) count(m *Memory, now *need) {
	if now == m.counts {
		return
	}
	before := m.tenant.size
	if was := m.counts; was != nil {
		m.tenant.size.add(was.size, -1)
		for _, c := range was.certificates {
			if m.tenant.certificates[c.name]--; m.tenant.certificates[c.name] == 0 {
				delete(m.tenant.certificates, c.name)
				m.tenant.size.add(c.size(), -1)
			}
		}
	}
	if now != nil {
		m.tenant.size.add(now.size, 1)
		for _, c := range now.certificates {
			if m.tenant.certificates[c.name]++; m.tenant.certificates[c.name] == 1 {
				m.tenant.size.add(c.size(), 1)
			}
		}
	}
	m.counts = now
	t.total.add(before, -1)
	t.total.add(m.tenant.size, 1)
}

// sweep away the Services that are no longer in the Input.
func (t *Translator) sweep() {
	for name, in := range t.tenants {
		if in.seen < len(in.members) {
			in.members = slices.DeleteFunc(in.members, func(m *Memory) bool {
				if m.look == t.looks {
					return false
				}
				t.count(m, nil)
				m.member = member{}
				return true
			})
		}
		if in.seen, in.kept = 0, in.size; len(in.members) == 0 {
			delete(t.tenants, name)
		}
	}
}

// leaveOut Services where all are more than hosts are sent: of the namespaces that have most, so that
// each has as much as the others of these, and of them those that were the last to come.
func (t *Translator) leaveOut() {
	for _, m := range t.left {
		m.left = nil
	}
	t.left = t.left[:0]
	over := false
	for k := range t.total {
		over = over || t.total[k] > t.most[k]
	}
	if !over {
		return
	}
	all := make([]int, 0, len(t.tenants))
	for k, most := range t.most {
		all = all[:0]
		for _, in := range t.tenants {
			all = append(all, in.kept[k])
		}
		share := lb.Level(most, all)
		for _, in := range t.tenants {
			if in.kept[k] > share {
				t.left = append(t.left, in.shrink(k, share)...)
			}
		}
	}
}

// shrink a namespace: who has no room goes, and those that are smaller may stay.
func (in *tenant) shrink(kind, most int) (left []*Memory) {
	if !in.sorted {
		slices.SortFunc(in.members, func(a, b *Memory) int { return a.rank.compare(b.rank) })
		in.sorted = true
	}
	in.kept = size{}
	has := map[string]bool{}
	for _, m := range in.members {
		if m.counts == nil || m.left != nil {
			continue
		}
		takes := m.counts.size
		for _, c := range m.counts.certificates {
			if !has[c.name] {
				takes.add(c.size(), 1)
			}
		}
		if in.kept[kind]+takes[kind] > most {
			m.left = noRoom[kind]
			left = append(left, m)
			continue
		}
		in.kept.add(takes, 1)
		for _, c := range m.counts.certificates {
			has[c.name] = true
		}
	}
	return left
}

// noRoom is what becomes of a Service that is left out, by what there is too much of.
var noRoom = [kinds]*ServiceResult{
	inItems:     leftOut(fmt.Sprintf("%d Services, certificates and addresses", lb.MaxAllItems), "Delete Services that nobody needs"),
	inListeners: leftOut(fmt.Sprintf("%d ports of Services, each on each of its addresses", lb.MaxAllFrontends), "Delete Services or ports that nobody needs"),
	inBytes:     leftOut(fmt.Sprintf("%d MiB of Services and certificates", lb.MaxAllBytes>>20), "Have fewer source ranges and certificates, or delete Services that nobody needs"),
}

func leftOut(most, advice string) *ServiceResult {
	return &ServiceResult{PortErrors: map[PortKey]string{}, Problems: []Problem{{Reason: v1alpha1.ReasonNoRoom, Fatal: true, Message: fmt.Sprintf(
		"it is left out: a Balancer carries at most %s, and this namespace has the most of them. %s, or spread the Services over several Balancers", most, advice)}}}
}
