package host

import (
	"errors"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// suspectsIn are the fragments of a generation in the making.
func (u *unit) suspectsIn(g *staged) engine.Suspects {
	s := engine.Suspects{Dir: u.dir, Fragments: map[string][]fileset.Socket{}, Probe: u.standsInTheWay}
	for p, e := range g.Files {
		if e.Fragment {
			s.Fragments[p] = e.Listens
		}
	}
	s.Read = func(p string) ([]byte, error) { return g.store.root.ReadFile(g.path(engine.FilesDir, p)) }
	return s
}

// blamed are the fragments of a generation because of which the daemon refuses all.
func (u *unit) blamed(g *staged, err error) map[string]engine.Culprit {
	r, ok := errors.AsType[*engine.Refusal](err)
	if !ok || g == nil {
		return nil
	}
	return u.daemon.Blame(u.suspectsIn(g), r.Message)
}

// withAdvice tells what the machine cannot do from what the daemon does not want,
// and adds what to do.
func (u *unit) withAdvice(listeners int, cause error) error {
	if r, ok := cause.(*engine.Refusal); ok {
		if advice := u.daemon.Advise(r.Message, listeners); advice != nil {
			return advice
		}
	}
	return cause
}
