package host

import (
	"maps"
	"slices"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// raw is an order of files with any text: what a daemon makes of it is between the
// unit and the daemon.
type raw struct {
	set  *fileset.Set
	gone map[string]string // why, by path
	made int               // files
}

func (r *raw) renderer() string { return "raw" }
func (r *raw) custom() bool     { return false }

func (r *raw) refuseNodes([]lb.Key) {} // it has none

func (r *raw) files() (map[string]planned, lb.Sums, error) {
	all := map[string]planned{}
	for f := range r.set.All() {
		if r.gone[f.Path] != "" {
			continue
		}
		id, isService := engine.ParsePath(f.Path)
		e := entry{Fragment: f.Fragment, Private: f.Private, Listens: f.Listens, From: lb.Sum(f.Sum)}
		if isService {
			e.Key = lb.ServiceKey(id)
		}
		all[f.Path] = planned{e, func() (made, error) {
			r.made++
			return made{data: f.Data}, nil
		}}
	}
	return all, nil, nil
}

func (r *raw) refuse(culprits map[string]engine.Culprit) (changed bool) {
	for p, c := range culprits {
		r.gone[p] = c.Reason
		id, isService := engine.ParsePath(p)
		for f := range r.set.All() {
			if other, ok := engine.ParsePath(f.Path); ok && isService && other == id {
				r.gone[f.Path] = c.Reason
			}
		}
	}
	return false
}

// left are the files that were left out.
func (r *raw) left() (all []left) {
	for _, p := range slices.Sorted(maps.Keys(r.gone)) {
		all = append(all, left{p, r.gone[p]})
	}
	return all
}
