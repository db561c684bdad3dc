package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// condition is what a unit runs.
type condition struct {
	traffic    bool    // it carries some
	carries    lb.Sums // by the generation that is live
	proved     bool
	renderer   string         // that made what is live
	generation fileset.Digest // that the daemon shows
	version    string
	running    bool
	oldWorkers int
	uses       engine.Uses
	old        engine.Use // memory of earlier processes
	templates  string     // why a template of the owner's is not in force for some file
	message    string     // what is wrong and what to do; "" if nothing
}

// status looks at a unit now. What is wrong with it is its message, not an error.
func (u *unit) status(ctx context.Context) (c condition, err error) {
	c.traffic = u.carries != nil
	s, err := openStore(u.dir)
	if err != nil {
		if c.version, err = u.daemon.Version(ctx); err != nil {
			c.message = err.Error() + "; then run `external-lb host install` as root"
			return c, ctx.Err()
		}
		c.message = unprepared
		return c, ctx.Err()
	}
	defer s.close() // nothing is written to a directory
	undone, wrong := u.recoverIfIdle(ctx, s)
	if _, err := s.readState(); err != nil && !stateLost(err) {
		return c, err
	}
	live, err := u.liveFiles(s)
	if err != nil {
		return c, err
	}
	c.carries, c.renderer, c.templates = live.carries(), live.Renderer, live.problem()
	u.ask(ctx, live, &c)
	unopened := u.unopened(live.Files)
	c.proved = c.generation != "" && live.intact() && c.generation == live.digest() && len(unopened) == 0
	if wrong = cmp.Or(wrong, undone); c.message == "" && wrong != nil {
		c.message = wrong.Error()
	}
	if c.message == "" {
		c.message = u.tampered(live)
	}
	if c.message == "" && len(unopened) > 0 {
		p := slices.Min(slices.Collect(maps.Keys(unopened)))
		c.message = p + ": " + unopened[p].Reason
	}
	if d, ok := u.daemon.(engine.Drainer); ok && c.message == "" { // last: nothing is to be done about it
		if missed := d.Missed(); missed != nil {
			c.message = missed.Error()
		}
	}
	return c, ctx.Err()
}

// tampered says which files somebody else has changed; "" if nobody has.
func (u *unit) tampered(live *base) string {
	if live.intact() {
		return ""
	}
	first := slices.Min(slices.Collect(maps.Keys(live.changed)))
	others := ""
	if n := len(live.changed); n > 1 {
		others = fmt.Sprintf(" and %d more files", n-1)
	}
	return fmt.Sprintf("somebody else has changed %s%s: the next delivery makes them anew", filepath.Join(u.dir, engine.LiveLink, first), others)
}

// recoverIfIdle finishes or undoes what an earlier process began, unless one is
// at work: then its business is not ours. Then it repairs: what is left undone of that is no
// reason not to start the daemon.
func (u *unit) recoverIfIdle(ctx context.Context, s *store) (undone, err error) {
	unlock, err := s.lock(ctx, false)
	switch {
	case err != nil:
		return nil, err
	case unlock == nil:
		return u.repaired.err(), nil // as it was last: that a delivery is under way does not mend it
	}
	defer unlock()
	if _, err = u.recover(ctx, s); err != nil {
		return nil, u.explain(err)
	}
	if r, ok := u.daemon.(engine.Repairer); ok {
		undone = u.explain(r.Repair(ctx))
		u.repaired.note(ctx, undone)
	}
	return undone, nil
}

// repaired is how the last repair of a unit ended.
type repaired struct {
	mu   sync.Mutex
	last error
}

func (r *repaired) note(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil || ctx.Err() == nil { // else somebody hung up
		r.last = err
	}
}

func (r *repaired) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// ask asks the daemon, and says what is wrong.
func (u *unit) ask(ctx context.Context, live *base, c *condition) {
	said, silent := u.daemon.Ask(ctx)
	if silent == nil {
		c.running, c.generation, c.version = true, said.Digest, said.Version
		_, c.oldWorkers = u.daemon.Processes(said.PID)
		c.message = cmp.Or(u.daemon.TooOld(said.Version), u.daemon.Limits(live.Files.listeners(), said.PID))
		if d, ok := u.daemon.(engine.Measurer); ok {
			tcp, udp := live.Files.sockets()
			c.uses = d.Uses(ctx, tcp, udp, said.PID)
		}
		c.old = u.oldUse(said.PID)
		if c.message == "" {
			c.message = u.rights(ctx)
		}
		if d, ok := u.daemon.(engine.Diagnoser); ok && c.message == "" {
			c.message = d.Diagnose(ctx)
		}
		if c.message == "" {
			c.message = u.relieved(time.Now())
		}
		return
	}
	c.running, c.oldWorkers = u.daemon.Processes(0)
	var err error
	if c.version, err = u.daemon.Version(ctx); err != nil {
		c.message = err.Error()
		return
	}
	c.message = u.silence(live.Files, silent)
}

const unprepared = "this machine is not prepared: run `external-lb host install` on it as root"

// silence says why the daemon proves nothing; err is what came of asking it.
func (u *unit) silence(live index, err error) string {
	if running, _ := u.daemon.Processes(0); running {
		return u.unanswered(err)
	}
	files := make(map[string]planned, len(live))
	for p, e := range live {
		files[p] = planned{entry: e}
	}
	for p, culprit := range u.probeAll(files, nobodys) {
		return fmt.Sprintf("%[1]s does not run, and cannot start with %[2]s: %[3]s; then start %[1]s", u.daemon.Name(), p, culprit.Reason)
	}
	return u.daemon.Stopped()
}

// unanswered says why a daemon that runs does not say what.
func (u *unit) unanswered(err error) string {
	if timed, ok := errors.AsType[net.Error](err); ok && timed.Timeout() {
		return fmt.Sprintf("%s runs, and does not answer within %s: is the host overloaded?", u.daemon.Name(), engine.AnswerTime)
	}
	return u.daemon.Unincluded()
}

// rights says which of the commands sudo does not allow. Once all are allowed,
// they are not asked for again.
func (u *unit) rights(ctx context.Context) string {
	if u.allowed.Load() {
		return ""
	}
	for _, argv := range u.commands() {
		command, viaSudo := engine.WithoutSudo(argv)
		if !viaSudo {
			continue
		}
		if _, err := u.run.Run(ctx, append([]string{argv[0], "-n", "-l"}, command...)); err != nil {
			return fmt.Sprintf("sudo does not let this user run %q: run `external-lb host install` again", strings.Join(command, " "))
		}
	}
	u.allowed.Store(true)
	return ""
}
