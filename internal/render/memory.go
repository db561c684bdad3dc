package render

import (
	"slices"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// Memory is what Services became the last time: most are the same the next time, and working out
// what their files are made of costs something for each node. Not for concurrent use.
type Memory struct {
	engine   *engine.Engine
	sum      lb.Sum // of templates
	share    int
	all      []lb.Node
	nodes    *engine.Nodes // of these
	services map[*lb.Service]*remembered
}

// remembered is what one Service became. It is never changed once made, as the Service is not.
type remembered struct {
	key   lb.Key
	item  lb.Sum // of the bytes of which the Service was read
	files []File
	needs []engine.Shared
	err   error // the engine cannot carry it
}

// look whether what all Services depend on is the same: else nothing is remembered.
func (m *Memory) look(r *Renderer, cfg *lb.Config) {
	if m.nodes == nil || m.engine != r.engine || m.sum != r.sum || m.share != r.share || !slices.Equal(m.all, cfg.Nodes) {
		*m = Memory{engine: r.engine, sum: r.sum, share: r.share, all: slices.Clone(cfg.Nodes), nodes: engine.NewNodes(cfg.Nodes)}
	}
	if m.services == nil || len(m.services) > 2*len(cfg.Services) { // many of them are of the past
		known := m.services
		m.services = make(map[*lb.Service]*remembered, len(cfg.Services))
		for _, s := range cfg.Services {
			if one := known[s]; one != nil {
				m.services[s] = one
			}
		}
	}
}

// service of which the files are known, or found.
func (m *Memory) service(r *Renderer, s *lb.Service, sum func(lb.Key) lb.Sum) *remembered {
	one := m.services[s]
	if one != nil && one.item == sum(one.key) {
		return one
	}
	one = &remembered{key: lb.ServiceKey(s.ID)}
	nodes := m.nodes
	one.item = sum(one.key)
	one.files, one.needs, one.err = r.service(func() *engine.Service { return r.resolve(s, nodes) })
	if one.err == nil {
		from := fromOf(s, one.item, nodes.Sum(s))
		for i := range one.files {
			one.files[i].Key, one.files[i].From = one.key, from
		}
	}
	m.services[s] = one
	return one
}
