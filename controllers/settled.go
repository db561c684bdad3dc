package controllers

import (
	"maps"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/provider"
)

// settled are the Services whose users were told all that there is to tell: they are looked
// at again once something of them, or what hosts say of nodes, is another.
type settled struct {
	told    map[*plan.Service]bool
	waiting map[*plan.Service]bool // of which no host says anything, and whose users were told so
	why     string                 // no host says anything, as waiting were told
	seen    []seenBy               // of which say is made
	say     *conditions.Backends   // of the nodes behind Services
	held    bool                   // some of that is not told yet
}

// seenBy is what a host said last of nodes.
type seenBy struct {
	host    string
	drained bool
	seen    *deliver.Seen
	given   map[lb.Key][]provider.Address
}

// same reports whether a host says the same of nodes, and of what a cloud gave.
func (s seenBy) same(o seenBy) bool {
	return s.host == o.host && s.drained == o.drained && s.seen.JudgesAs(o.seen) && maps.EqualFunc(s.given, o.given, slices.Equal)
}

// open are the Services of a plan that may have to be told something: those that hosts have
// not proved as they are now, those that changed, and all if hosts say something new of nodes.
func (m *settled) open(s *scope, proved int) (open []*plan.Service) {
	m.listen(s)
	for _, svc := range s.plan.Services {
		if svc.Since > proved || !m.told[svc] {
			open = append(open, svc)
		}
	}
	if len(m.told) > 2*len(s.plan.Services) { // many of them are of the past
		told := make(map[*plan.Service]bool, len(s.plan.Services))
		for _, svc := range s.plan.Services {
			if m.told[svc] {
				told[svc] = true
			}
		}
		m.told = told
	}
	return open
}

// listen to what hosts say of nodes.
func (m *settled) listen(s *scope) {
	var seen []seenBy
	for _, state := range s.states {
		drains := func(h v1alpha1.Host) bool { return h.Name == state.Host && h.Drain }
		seen = append(seen, seenBy{state.Host, slices.ContainsFunc(s.balancer.Spec.Hosts, drains), state.Seen, state.Given})
	}
	if m.say != nil && !m.held && slices.EqualFunc(seen, m.seen, seenBy.same) {
		return
	}
	m.told, m.seen, m.say = map[*plan.Service]bool{}, seen, conditions.NewBackends(s.balancer, s.states)
	m.waiting = map[*plan.Service]bool{}
}

// news are those of the open Services of which a host says something, or that were not told that none does.
func (m *settled) news(s *scope, open []*plan.Service, view func(*plan.Service) conditions.Service) (views []conditions.Service) {
	for _, svc := range open {
		v, why := view(svc), ""
		if v.Proof.Settled { // else it is too early to say
			why = v.Hosts
		}
		if why != m.why || len(m.waiting) > 2*len(s.plan.Services) {
			m.waiting, m.why = map[*plan.Service]bool{}, why
		}
		if !m.waiting[svc] || !v.Proof.None() {
			views = append(views, v)
		}
	}
	return views
}

// note what a Service was told, after nothing was to be written.
func (m *settled) note(v conditions.Service, quiet, proved bool) {
	alone := quiet && v.From == "" && !v.Staying && len(v.Others) == 0
	if alone && v.Proof.None() {
		m.waiting[v.Service] = true
	} else {
		delete(m.waiting, v.Service)
	}
	if alone && proved && v.Shape != "" && v.Proof.All && v.Proof.Enough &&
		slices.Equal(record.Addresses(v.Object), v.Addresses) {
		m.told[v.Service] = true
		return
	}
	delete(m.told, v.Service)
}
