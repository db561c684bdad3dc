package host

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// A daemon that has crashed, or that did not start at boot with files that are mended by now,
// is started again. One that its owner has stopped, disabled or masked is not.

const systemctl = "/usr/bin/systemctl"

// How long until a daemon that did not come up is started once more. It doubles.
const (
	startAgain = watchEvery
	startLast  = 15 * time.Minute
)

// starts are those of a daemon that is down. Only the agent that watches has them.
type starts struct {
	next time.Time
	wait time.Duration
}

// startable reports whether systemd can say how a daemon ended, and start it.
func (u *unit) startable() bool { return u.Service != "" && u.settings.family.Systemd }

// startCommand starts the daemon; nil: nothing here can.
func (u *unit) startCommand() []string {
	if !u.startable() {
		return nil
	}
	argv := []string{systemctl, "start", u.Service}
	if u.settings.sudo {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	return argv
}

// startIfDown starts a daemon that systemd has given up.
func (u *unit) startIfDown(ctx context.Context, now time.Time) {
	running, _ := u.daemon.Processes(0)
	if running || !u.startable() {
		u.starts = starts{}
		return
	}
	if now.Before(u.starts.next) {
		return
	}
	said, err := u.run.Run(ctx, []string{systemctl, "show", "--property=" + startProperties, u.Service})
	if err != nil || !givenUp(said) {
		return
	}
	u.starts.wait = min(max(startAgain, 2*u.starts.wait), startLast)
	u.starts.next = now.Add(u.starts.wait)
	_, _ = u.run.Run(ctx, u.startCommand()) // the status says that it does not run, and systemd's journal why
}

// startProperties are what systemd is asked for.
const startProperties = "UnitFileState,ActiveState,Result,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic"

// givenUp reports whether systemd would run a service and no longer tries. One that its owner
// stops is inactive, or failed by the time that this took. A start may take too long as well: then it
// was never active since it began.
func givenUp(said string) bool {
	is := map[string]string{}
	for line := range strings.Lines(said) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		is[name] = value
	}
	enabled := is["UnitFileState"] == "enabled" || is["UnitFileState"] == "enabled-runtime"
	if !enabled || is["ActiveState"] != "failed" {
		return false
	}
	switch is["Result"] {
	case "", "success", "exec-condition": // the last one: its owner's unit says that it is not to run now
		return false
	case "timeout":
		began, err := strconv.ParseUint(is["InactiveExitTimestampMonotonic"], 10, 64)
		active, activeErr := strconv.ParseUint(is["ActiveEnterTimestampMonotonic"], 10, 64)
		return err == nil && activeErr == nil && active < began
	}
	return true
}
