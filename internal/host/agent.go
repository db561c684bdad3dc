package host

import (
	"context"
	"sync/atomic"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Agent is the Host of the machine that it runs on. Several, also in different
// processes, take turns.
type Agent struct {
	settings Settings
	dir      string // of the store
	daemon   daemon
	sums     sums
	at       func(step string) // hears of each step before it is done
	allowed  atomic.Bool       // sudo lets this user run every command
}

var _ Host = (*Agent)(nil)

// NewAgent makes the Host of this machine. What an earlier one left unfinished is
// finished or undone at the first call.
func NewAgent(s Settings) (*Agent, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return &Agent{
		settings: s,
		dir:      s.dir(),
		daemon:   newDaemon(s, machine{}),
		at:       func(string) {},
	}, nil
}

// Apply makes a configuration live and proves it, or leaves the one that was.
func (a *Agent) Apply(ctx context.Context, d Delivery) (Outcome, error) {
	s, err := openStore(a.dir)
	if err != nil {
		return Outcome{}, a.explain(err)
	}
	defer s.close() // nothing is written to a directory
	unlock, err := s.lock(ctx, true)
	if err != nil {
		return Outcome{}, a.explain(err)
	}
	defer unlock()
	out, err := a.apply(ctx, s, d)
	out.Active = err == nil && a.active()
	return out, a.explain(err)
}

func (a *Agent) apply(ctx context.Context, s *store, d Delivery) (Outcome, error) {
	st, err := a.takeEpoch(ctx, s, d.Epoch)
	if err != nil {
		return Outcome{}, err
	}
	base, err := a.files(s, st.Good)
	if err != nil {
		return Outcome{}, err
	}
	want, err := plan(base, a.daemon.ownFile(), a.addresses(), d)
	if err != nil {
		return Outcome{}, err
	}
	said, err := a.daemon.ask(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return Outcome{}, ctx.Err()
		}
		return Outcome{}, failed("%s", a.silence(base))
	}
	if old := a.daemon.tooOld(said.version); old != "" {
		return Outcome{}, failed("%s", old)
	}
	return a.deliver(ctx, &delivery{
		store: s, state: st, base: base, want: want, runs: said.digest, refused: map[string]string{},
		whole: d.Whole, spared: d.Spared,
	})
}

// takeEpoch finishes what was interrupted, and remembers the epoch before
// anything is done in its name.
func (a *Agent) takeEpoch(ctx context.Context, s *store, e Epoch) (state, error) {
	st, err := a.recover(ctx, s)
	if err != nil {
		return st, err
	}
	if e.Compare(st.Epoch) <= 0 {
		return st, &Error{CodeStaleEpoch, "this machine has taken epoch " + st.Epoch.String() + ", and " + e.String() + " is not newer: somebody else leads"}
	}
	a.at("take epoch")
	st.Epoch = e
	return st, s.writeState(st)
}

// files of a generation as they are on disk now. What its index does not know,
// and what is private and others may read, has a sum that no file has, so that it
// is delivered again.
func (a *Agent) files(s *store, gen string) (index, error) {
	m, err := a.sums.manifest(s, gen)
	if err != nil {
		return nil, err
	}
	known, err := s.readIndex(gen)
	if err != nil && len(m) > 0 {
		known = nil // tampered with: all is delivered again
	}
	// The host's own file is no part of a set, unless somebody has changed it.
	own := a.daemon.ownFile()
	if e, ok := known[own]; ok && m[own] == e.Sum {
		delete(m, own)
	} else if ok {
		m[own] = fileset.Sum{}
	}
	x := make(index, len(m))
	for p, sum := range m {
		e, ok := known[p]
		if ok {
			e.Sum = sum
		}
		if e.Private && s.exposed(gen, p) {
			e.Sum = fileset.Sum{}
		}
		x[p] = e
	}
	return x, nil
}

// addresses reports whether this is the part of a machine that moves addresses.
func (a *Agent) addresses() bool {
	_, ok := a.daemon.(*keepalived)
	return ok && a.settings.VRRP
}

// active reports whether this machine has the addresses that move.
func (a *Agent) active() bool {
	k, ok := a.daemon.(*keepalived)
	return ok && k.router().active()
}

func baseMismatch(have, base fileset.Digest) *Error {
	return &Error{CodeBaseMismatch, "this machine has the set " + have.Short() + ", not " + base.Short() + ", from which the change starts"}
}

// plan is what the base becomes with a delivery.
func plan(base index, own string, addresses bool, d Delivery) (map[string]planned, error) {
	have := base.manifest()
	if digest := have.Digest(); digest != d.Base {
		return nil, baseMismatch(digest, d.Base)
	}
	want := make(map[string]planned, len(base)+len(d.Change.Put))
	for p, e := range base {
		want[p] = planned{entry: e}
	}
	for _, p := range d.Change.Delete {
		delete(want, p)
	}
	for _, f := range d.Change.Put {
		if isKeepaliveds(f.Path) && !addresses {
			return nil, failed("this machine is not prepared to move addresses by VRRP: run `external-lb host install --vrrp` on it as root")
		}
		if f.Path == own {
			return nil, &refusal{"", "a file of the name " + own + " is the host's own"}
		}
		data := f.Data
		if data == nil {
			data = []byte{}
		}
		want[f.Path] = planned{entry{f.Sum, f.Fragment, f.Private, f.Listens}, data}
	}
	if digest := digestOf(want); digest != d.Want {
		return nil, &Error{CodeBaseMismatch, "the change makes the set " + digest.Short() + ", not " + d.Want.Short() + " as announced"}
	}
	return want, nil
}

func digestOf(files map[string]planned) fileset.Digest {
	m := make(fileset.Manifest, len(files))
	for p, f := range files {
		m[p] = f.Sum
	}
	return m.Digest()
}
