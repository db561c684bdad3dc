package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// entry is what is known of one Service of a snapshot. Each part is worked out again when
// what it is made from is another object: the work follows what changed.
type entry struct {
	uid    types.UID
	seen   int // the look that found it last
	gone   bool
	latest *corev1.Service // as it was found
	placed bool            // in the order of names
	object *corev1.Service // as it was assigned; nil: to be looked at anew
	role   role
	early  string       // the kind that it waits for; "" for none
	strays []netip.Addr // that the Balancer holds for it, and that are of none of its pools

	invalid    *translate.Problem
	assigned   ipam.Assignment
	unrecorded bool // what it has is not written down

	planned outcome
}

// outcome is what a plan makes of a carried Service.
type outcome struct {
	object   *corev1.Service // as it was planned: its record may be newer than what was assigned; nil: anew
	anew     bool            // it has no version
	on       []netip.Addr    // which it may be programmed
	withheld []lb.Listener
	holders  []string // on record
	memory   translate.Memory
	made     *lb.Service // of which shape is
	shape    string
	result   *translate.ServiceResult // that is in view
	view     *Service
}

// look finds what changed in the Services of a snapshot since the last one, and what is
// there no longer. All of it changed where what they all depend on did.
func (p *Planner) look(s *Snapshot) (changed, gone []*entry) {
	touched, gone := p.take(s)
	if p.seen == nil || !p.seen.sameRules(s) {
		touched = p.forget()
	}
	changed = p.compare(s, touched)
	foreign := p.foreignPools(s)
	if !slices.Equal(foreign, p.foreign) {
		p.foreign = foreign
		changed = p.compare(s, p.forget())
	}
	p.seen, s.foreign = s, foreign
	return changed, gone
}

// take the Services of a snapshot, each once: all of them, or those that may have changed.
func (p *Planner) take(s *Snapshot) (touched, gone []*entry) {
	p.looks++
	for _, svc := range s.Services {
		e := p.entries[svc.UID]
		if e == nil {
			e = &entry{uid: svc.UID}
			p.entries[svc.UID] = e
		}
		if e.seen != p.looks {
			e.seen, e.latest = p.looks, svc
			touched = append(touched, e)
		}
	}
	if !s.Partial && len(touched) < len(p.entries) {
		for uid, e := range p.entries {
			if e.seen != p.looks {
				s.Gone = append(s.Gone, uid)
			}
		}
	}
	for _, uid := range s.Gone {
		if e := p.entries[uid]; e != nil {
			e.gone = true
			gone = append(gone, e)
			delete(p.entries, uid)
			delete(p.straying, e)
		}
	}
	return touched, gone
}

// forget all but what a Service became: that has keys of its own. It returns all entries.
func (p *Planner) forget() (all []*entry) {
	p.assigner = nil
	for _, e := range p.entries {
		e.object, e.planned = nil, outcome{memory: e.planned.memory, made: e.planned.made, shape: e.planned.shape}
		all = append(all, e)
	}
	return all
}

// compare entries with what is known of them.
func (p *Planner) compare(s *Snapshot, touched []*entry) (changed []*entry) {
	for _, e := range touched {
		early := s.early(e.latest)
		if e.object == e.latest && e.object.ResourceVersion != "" && e.early == early {
			continue
		}
		if e.early != early {
			e.planned.object = nil
		}
		e.object, e.early, e.strays = e.latest, early, s.strays(e.latest)
		changed = append(changed, e)
		if delete(p.straying, e); len(e.strays) > 0 {
			p.straying[e] = true
		}
	}
	return changed
}

// Follows reports whether a snapshot may have only the Services that changed since the last
// one: all others are known, and which of them matter does not depend on others. That is so
// under the same rules only, as objects without Services have them: what a pool's change means
// for Services may not have been told yet.
func (p *Planner) Follows(b *v1alpha1.Balancer, o Objects) bool {
	return p.seen != nil && len(p.foreign) == 0 && p.seen.Unheard == o.Unheard && p.seen.sameRules(NewSnapshot(b, o))
}

// early is the kind that a Service waits for, since it may say how it is to be served. What was
// there before stays as it is.
func (s *Snapshot) early(svc *corev1.Service) string {
	if record.Marked(svc) {
		return ""
	}
	return s.Unheard
}

// Early reports whether a Service waits for what the API server does not tell.
func (p *Planner) Early() bool {
	return p.seen != nil && p.seen.Unheard != "" && slices.ContainsFunc(p.sorted, func(e *entry) bool { return e.early != "" && e.role.carries() })
}

// strays are the addresses that this Balancer holds for a Service, and that are of a pool
// which has left it or is in force no more.
func (s *Snapshot) strays(svc *corev1.Service) (out []netip.Addr) {
	if !slices.Contains(record.Holders(svc), s.Balancer.Name) {
		return nil
	}
	for _, a := range record.Occupied(svc) {
		if poolOf(a, s.own) == nil && s.poolOfAny(a) != nil {
			out = append(out, a)
		}
	}
	return out
}

// poolOfAny is the pool that has an address, in force or not; nil if none has.
func (s *Snapshot) poolOfAny(a netip.Addr) *ipam.Pool {
	return cmp.Or(s.claims.poolOf(a), poolOf(a, s.Pools.Rejected))
}

// foreignPools are those of which Services that have not left this Balancer have
// addresses: they keep them as if the pools were still here.
func (p *Planner) foreignPools(s *Snapshot) (out []*ipam.Pool) {
	copies := map[*ipam.Pool]*ipam.Pool{}
	for e := range p.straying {
		for _, a := range e.strays {
			pool := s.poolOfAny(a)
			if copies[pool] != nil {
				continue
			}
			foreign := p.copies[pool]
			if foreign == nil {
				foreign = new(*pool)
				foreign.Foreign = true
			}
			copies[pool], out = foreign, append(out, foreign)
		}
	}
	p.copies = copies
	slices.SortFunc(out, func(a, b *ipam.Pool) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// sameRules reports whether two snapshots give Services the same roles and addresses,
// where the Services are the same.
func (s *Snapshot) sameRules(o *Snapshot) bool {
	return sameBalancer(s.Balancer, o.Balancer) && maps.EqualFunc(s.claims.all, o.claims.all, sameBalancer) &&
		slices.EqualFunc(s.claims.pools, o.claims.pools, (*ipam.Pool).Same) && slices.Equal(s.Pools.Rejected, o.Pools.Rejected) &&
		(!slices.ContainsFunc(s.claims.pools, (*ipam.Pool).SelectsNamespaces) || maps.EqualFunc(s.Namespaces, o.Namespaces, maps.Equal))
}

// sameBalancer reports whether plans take two versions of a Balancer for the same: what is
// said in its status matters only where it is read.
func sameBalancer(a, b *v1alpha1.Balancer) bool {
	if a == b {
		return true
	}
	return a.Generation > 0 && a.Generation == b.Generation && a.UID == b.UID && a.Name == b.Name &&
		(a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		reflect.DeepEqual(a.Status.Provider, b.Status.Provider) && reflect.DeepEqual(a.Status.NodeSelector, b.Status.NodeSelector)
}
