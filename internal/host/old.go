package host

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// Processes of earlier configurations carry the connections that they have until these end.
// Each has a configuration of its own in memory, so many of them use up the machine's. They may
// hold as much as its owner says; then the oldest end, and their connections with them.

// oldMemory is how many bytes of memory processes of earlier configurations may hold together.
func (s *Settings) oldMemory() int { return cmp.Or(s.OldWorkersMiB<<20, memoryUse().Limit/4) }

// relief is what was done about old processes.
type relief struct {
	last atomic.Int64 // when one was ended, in seconds since 1970; 0: none was
}

// toldFor is how long it is told that processes were ended, or started anew.
const toldFor = 10 * time.Minute

// old are the processes of earlier configurations, the oldest first.
func (u *unit) old(current int) (all []engine.Process) {
	d, ok := u.daemon.(engine.Succeeded)
	now, answers := engine.ProcessOf(current)
	if !ok || !answers {
		return nil
	}
	for _, pid := range d.Old(current) {
		if p, there := engine.ProcessOf(pid); there && p.Started <= now.Started { // else it is about to take over
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b engine.Process) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.PID, b.PID))
	})
	return all
}

// forked are ticks of 10 ms within which one master forks its workers. What they inherited
// is counted for each of them, and is there once.
const forked = 20

func memoryOf(all []engine.Process) (bytes int) {
	for i, p := range all {
		bytes += p.Memory
		if i > 0 && p.Started-all[i-1].Started < forked {
			bytes -= min(p.Memory, all[i-1].Memory)
		}
	}
	return bytes
}

// beyond are those without which the others, which are younger, are within the limit.
func beyond(all []engine.Process, limit int) []engine.Process {
	for i := range all {
		if memoryOf(all[i:]) <= limit {
			return all[:i]
		}
	}
	return all
}

// oldUse is what the processes of earlier configurations hold.
func (u *unit) oldUse(current int) (use engine.Use) {
	if _, ok := u.daemon.(engine.Succeeded); ok {
		use = engine.Use{Used: memoryOf(u.old(current)), Limit: u.settings.oldMemory()}
	}
	return use
}

// surplus are the processes that are to end.
func (u *unit) surplus(ctx context.Context) []engine.Process {
	if _, ok := u.daemon.(engine.Succeeded); !ok {
		return nil
	}
	said, err := u.daemon.Ask(ctx)
	if err != nil {
		return nil
	}
	return beyond(u.old(said.PID), u.settings.oldMemory())
}

// relieve ends the oldest processes where all of them hold too much. What it cannot end, the
// status tells by what they hold.
func (u *unit) relieve(ctx context.Context) {
	if len(u.surplus(ctx)) == 0 {
		return
	}
	if argv := u.relieveCommand(); argv == nil {
		u.endSurplus(ctx)
	} else if engine.Do(ctx, u.run, argv...) != nil {
		return
	}
	u.relief.last.Store(time.Now().Unix())
}

// relieveCommand is what the account must be allowed, since processes of a daemon are not its
// own. nil: this user is root, or there is nothing to end.
func (u *unit) relieveCommand() []string {
	if _, ok := u.daemon.(engine.Succeeded); !ok || !u.settings.sudo {
		return nil
	}
	return []string{"sudo", "-n", u.settings.program, "host", "end-old-workers"}
}

func (u *unit) endSurplus(ctx context.Context) {
	for _, p := range u.surplus(ctx) {
		_ = syscall.Kill(p.PID, syscall.SIGTERM) // it may have ended
	}
}

// EndOldWorkers ends the oldest processes of earlier configurations while all of them hold more
// memory than this machine's owner allows. It takes root.
func (a *Agent) EndOldWorkers(ctx context.Context) {
	for _, u := range a.units {
		u.endSurplus(ctx)
	}
}

// relieved says that processes were ended a while ago; "": none was.
func (u *unit) relieved(now time.Time) string {
	last := u.relief.last.Load()
	if last == 0 || now.Sub(time.Unix(last, 0)) > toldFor {
		return ""
	}
	return fmt.Sprintf("old workers of %s held more than %d MiB of memory, so the oldest were ended, with the connections that they had: "+
		"make fewer changes, set a larger oldWorkersMiB in %s, or let connections end earlier", u.daemon.Name(), u.settings.oldMemory()>>20, SettingsPath)
}
