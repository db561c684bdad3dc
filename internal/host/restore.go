package host

import (
	"context"
	"errors"

	"github.com/external-lb/external-lb/internal/engine"
)

// Restore puts the last good files in the place of what a power failure or a crash has left
// between a swap and its proof, for daemons that do not run: they are about to be started, at
// boot or by their owner. Nothing is rendered or asked for that.
func (a *Agent) Restore(ctx context.Context) error {
	var errs []error
	for _, u := range a.units {
		errs = append(errs, u.explain(u.restore(ctx)))
	}
	return errors.Join(errs...)
}

func (u *unit) restore(ctx context.Context) error {
	if running, _ := u.daemon.Processes(0); running {
		return nil // what it proves decides, and who looks after that asks it
	}
	s, err := openStore(u.dir)
	if err != nil {
		return err
	}
	defer s.close() // nothing is written to a directory
	unlock, err := s.lock(ctx, false)
	if err != nil || unlock == nil {
		return err // somebody else is at it
	}
	defer unlock()
	st, err := s.readState()
	if err != nil {
		return err
	}
	if !u.holds(s, st.Good) {
		return u.lost()
	}
	if s.linked(engine.LiveLink) != st.Good {
		if err := s.pointBack(st.Good); err != nil {
			return err
		}
	}
	return s.clean(st)
}
