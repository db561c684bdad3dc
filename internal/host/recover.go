package host

import (
	"context"
	"errors"
	"path"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// finishWait is how long an interrupted reload may need to show its result, and how long it may
// take at most to show it often enough, where a machine is slow.
const (
	finishWait     = time.Second
	finishWaitMost = 16 * time.Second
)

// recover finishes or undoes what an earlier process began: what the daemon
// proves decides. The lock is held.
func (u *unit) recover(ctx context.Context, s *store) (state, error) {
	st, err := s.readState()
	if err != nil && !stateLost(err) {
		return st, err
	}
	live, interrupted := s.linked(engine.LiveLink), s.exists(nextStateFile)
	if live != st.Good && live != "" && u.runs(ctx, s, live) {
		st.Previous, st.Good = st.Good, live
		if err := s.replaceJSON(stateFile, st, publicMode); err != nil {
			return st, err
		}
		return st, s.clean(st)
	}
	if err != nil {
		return st, err
	}
	if live != st.Good || interrupted {
		if err := u.undo(ctx, s, live, st.Good); err != nil {
			return st, err // what the daemon does is in question still
		}
	}
	return st, s.clean(st)
}

// undo what was begun after a generation was proved.
func (u *unit) undo(ctx context.Context, s *store, live, good string) error {
	if ctx.Err() != nil {
		return ctx.Err() // then nobody knows what the daemon runs
	}
	if live != good {
		if err := s.pointBack(good); err != nil {
			return err
		}
	}
	// A reload of what was abandoned may be under way, or half a change was made without one:
	// another reload follows it.
	_, err := u.daemon.Ask(ctx)
	if err == nil {
		_, err = u.reloadGood(context.WithoutCancel(ctx), s, good) // as in goLive: else the next one does all of it again
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if running, _ := u.daemon.Processes(0); running {
		return failed("%s", u.unanswered(err))
	}
	return nil // it will start with what was proved
}

// runs reports whether the daemon runs a generation, or will within a moment.
func (u *unit) runs(ctx context.Context, s *store, gen string) bool {
	digest, ok := u.digest(s, gen)
	for wait := finishWait; ok && wait <= finishWaitMost; wait *= 2 {
		if u.daemon.ProvesWithin(ctx, digest, wait) {
			return true
		}
		said, err := u.daemon.Ask(ctx)
		ok = err == nil && said.Digest == digest
	}
	return false
}

// reloadGood loads what was proved last. A daemon that refuses that, because of
// what its owner has changed meanwhile, runs it still: then refused is what it says.
func (u *unit) reloadGood(ctx context.Context, s *store, gen string) (refused, err error) {
	digest, ok := u.digest(s, gen)
	if !ok {
		return nil, u.lost()
	}
	err = u.checkWhole(ctx, asItIs)
	if err == nil {
		err = u.reload(ctx, digest)
	}
	if err != nil && engine.Proves(ctx, u.daemon, digest) {
		return err, nil
	}
	return nil, err
}

// lost is that there is nothing to go back to.
func (u *unit) lost() error {
	return failed("the last good configuration is gone from %s: run `external-lb host install`", u.dir)
}

// digest that the daemon will say of a generation.
func (u *unit) digest(s *store, gen string) (fileset.Digest, bool) {
	data, err := s.readHead(path.Join(engine.GenerationsDir, gen, engine.FilesDir, u.daemon.OwnFile()), ownHead)
	if err != nil {
		return "", false
	}
	return u.daemon.Announced(data)
}

// pointBack makes a generation live. The link for it was made while there was room.
func (s *store) pointBack(gen string) error {
	if s.linked(engine.BackLink) == gen {
		return s.rename(engine.BackLink, engine.LiveLink)
	}
	return errors.Join(s.link(engine.BackLink, gen), s.rename(engine.BackLink, engine.LiveLink))
}
