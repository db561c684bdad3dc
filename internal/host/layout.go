package host

import (
	"context"
	"errors"
	"io/fs"

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
	if err == nil && u.holds(s, st.Good) {
		if s.linked(engine.LiveLink) == "" {
			return s.pointBack(st.Good)
		}
		return nil // else what the daemon proves decides, see recover
	}
	if errors.Is(err, errDamaged) && u.holds(s, s.linked(engine.LiveLink)) {
		return s.keep(state{Good: s.linked(engine.LiveLink)})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return err
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
	if err := u.seal(g); err != nil {
		return err
	}
	if err := errors.Join(s.link(nextLink, g.name), s.rename(nextLink, engine.LiveLink)); err != nil {
		return err
	}
	return s.keep(state{Good: g.name})
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
	if err != nil || s.broken() != "" {
		return false
	}
	_, ok := u.digest(s, st.Good)
	return ok && s.linked(engine.LiveLink) != ""
}
