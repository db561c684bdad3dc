package deliver

import "github.com/external-lb/external-lb/internal/fileset"

// Sets that were made in a new way, by other templates, are on trial: what is
// wrong with them may be wrong with every file. So a host takes the first of them
// as a whole or not at all, instead of leaving out one fragment after the other.

// Trial is how a host took sets that are on trial.
type Trial struct {
	Name    string // as Try was told
	Passed  bool   // the host proved a fragment of such a set
	Refused string // why it did not take one, in the daemon's words; "" if it was not so
}

// Try is Deliver for sets that are on trial, under a name. While that is the same,
// sets may follow each other; a trial under another name, or Deliver, ends it.
func (f *Fleet) Try(name string, want map[string]*fileset.Set, cause, trial string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.balancer(name)
	if b.trial != trial {
		b.trial = trial
		for _, w := range b.workers {
			w.state.Trial = Trial{Name: trial}
		}
	}
	former := b.want
	b.want = make(map[string]desire, len(want))
	for host, set := range want {
		goal := desire{set: set, cause: cause, trial: trial}
		if was := former[host]; was.set != nil && was.digest() == set.Digest() {
			goal.set, goal.cause = was.set, was.cause
		}
		b.want[host] = goal
	}
	b.advance()
}

// whole says whether a set must be taken as a whole, but for which fragments.
func (w *worker) whole(want desire) (bool, []string) {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	if want.trial == "" || w.state.Trial == (Trial{Name: want.trial, Passed: true}) {
		return false, nil
	}
	if w.done == "" {
		return true, w.lacking(want)
	}
	var spared []string
	for _, r := range w.state.Refused {
		spared = append(spared, r.Path)
	}
	return true, spared
}

// lacking are the fragments that the host does not have, if it has others. Before
// the first delivery of this process, what was refused is not known, but is among them.
func (w *worker) lacking(want desire) []string {
	var lacks []string
	has := false
	for f := range want.set.All() {
		if _, there := w.have[f.Path]; f.Fragment && there {
			has = true
		} else if f.Fragment {
			lacks = append(lacks, f.Path)
		}
	}
	if !has {
		return nil
	}
	return lacks
}

// tells reports whether a failure says something of what is on trial: not if
// somebody else delivers, too, nor if the machine could do nothing before either.
func (w *worker) tells(e *Error) bool {
	switch e.Reason {
	case ReasonStaleEpoch, ReasonBaseMismatch:
		return false
	case ReasonMachine:
		return !w.ailing
	}
	return true
}

// pass notes that the host runs a set that is on trial: something of it, so that
// there is something to judge by. The Fleet's mu is held.
func (w *worker) pass(s *State, want desire) {
	if want.trial == "" || want.set == nil || s.Trial.Refused != "" {
		return
	}
	for f := range want.set.All() {
		if sum, has := w.have[f.Path]; f.Fragment && has && sum == f.Sum {
			s.Trial = Trial{Name: want.trial, Passed: true}
			return
		}
	}
}
