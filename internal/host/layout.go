package host

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"

	"github.com/external-lb/external-lb/internal/engine"
)

// initialise gives a directory its first generation, which is empty, unless it
// has one.
func (u *unit) initialise(ctx context.Context) error {
	s, err := openStore(u.dir)
	if err != nil {
		return err
	}
	defer s.close() // nothing is written to a directory
	if err := s.mend(); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.readState()
	if err != nil && !stateLost(err) {
		return err
	}
	live := s.linked(engine.LiveLink)
	if gen := u.startingPoint(s, st.Good, live); gen != "" {
		whole := u.holds(s, gen)
		if live == "" || !whole {
			if err := s.pointBack(gen); err != nil {
				return err
			}
		}
		if whole && gen == st.Good {
			return nil // what the daemon proves decides about what is live, see recover
		}
		return s.keep(state{Good: gen, Previous: st.Previous}) // and nothing is interrupted: a delivery could not undo it
	}
	if err := s.root.Mkdir(engine.GenerationsDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.own(engine.GenerationsDir); err != nil {
		return err
	}
	g, err := s.stage(noBase(), nil, "", &u.sums)
	if err != nil {
		return err
	}
	own, err := u.daemon.Own(g)
	if err != nil {
		return err
	}
	if err := u.seal(g, own); err != nil {
		return err
	}
	if err := errors.Join(s.link(nextLink, g.name), s.rename(nextLink, engine.LiveLink)); err != nil {
		return err
	}
	return s.keep(state{Good: g.name})
}

// startingPoint is the first whole one of some generations or, if none is, the first that is there and
// that a daemon runs: the next delivery makes anew what it lacks, and meanwhile nothing is withdrawn.
func (u *unit) startingPoint(s *store, gens ...string) string {
	if i := slices.IndexFunc(gens, func(gen string) bool { return u.holds(s, gen) }); i >= 0 {
		return gens[i]
	}
	running, _ := u.daemon.Processes(0)
	if i := slices.IndexFunc(gens, s.hasGeneration); running && i >= 0 {
		return gens[i]
	}
	return ""
}

// hasGeneration reports whether there is one of that name, whole or not.
func (s *store) hasGeneration(gen string) bool {
	return gen != "" && s.isDir(path.Join(engine.GenerationsDir, gen, engine.FilesDir))
}

// keep makes a state last, and removes all else.
func (s *store) keep(st state) error {
	return errors.Join(s.replaceJSON(stateFile, st, publicMode), s.clean(st))
}

// holds reports whether there is a whole generation of that name.
func (u *unit) holds(s *store, gen string) bool {
	_, ok := u.digest(s, gen)
	return gen != "" && ok
}

// initialised reports whether there is a generation to start from.
func (u *unit) initialised() bool {
	s, err := openStore(u.dir)
	if err != nil {
		return false
	}
	defer s.close() // nothing is written to a directory
	st, err := s.readState()
	return err == nil && s.broken() == "" && s.linked(engine.LiveLink) != "" && u.startingPoint(s, st.Good) != ""
}

// lacks reports whether what was proved last cannot be loaded before a delivery has made it anew.
func (u *unit) lacks() bool {
	s, err := openStore(u.dir)
	if err != nil {
		return false
	}
	defer s.close() // nothing is written to a directory
	st, err := s.readState()
	return err == nil && !u.holds(s, st.Good)
}
