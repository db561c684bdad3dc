package host

import (
	"errors"
	"slices"
	"strings"

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

// ownersFault tells trouble with what the host's owner has written from trouble with a change: without
// the change the daemon refuses all that it reads in the same words.
func (u *unit) ownersFault(cause, without error) error {
	with := refusal(cause)
	pristine, refuses := errors.AsType[*engine.Refusal](without)
	if with == nil || !refuses || pristine.Late {
		return cause
	}
	said := lines(pristine.Message)
	for _, line := range lines(with.Message) {
		if !slices.Contains(said, line) {
			return cause
		}
	}
	return engine.Failed("%s takes no change on this host, since it refuses what its owner has written: %s. Correct that; what was live goes on",
		u.daemon.Name(), engine.OneLine(with.Message))
}

// refusal has the daemon's words against a change; nil if it said none. What it did not say in time
// is no words: a change may have done that, too.
func refusal(cause error) *engine.Refusal {
	if r, ok := cause.(*engine.Refusal); ok && !r.Late {
		return r
	}
	return nil
}

func lines(words string) (all []string) {
	for line := range strings.Lines(words) {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}
