package host

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
)

// A delivery has a daemon load something else, and never ends it. So a main process that is another
// one was started by somebody else, or since the daemon had ended. Its connections were cut, mostly: an
// upgrade may exchange the program while it runs.

// restarts are those that were seen.
type restarts struct {
	mu    sync.Mutex
	main  engine.Process // as it was last; the zero Process: not seen yet
	count int
	at    time.Time // of the last one
}

// watchRestarts looks whether the daemon's main process is the one that it was.
func (u *unit) watchRestarts() {
	running, _ := u.daemon.Processes(0)
	pid, err := engine.ReadNumber(u.daemon.PIDFile())
	now, there := engine.ProcessOf(pid)
	if !running || err != nil || !there {
		return
	}
	r := &u.restarts
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.main; was.PID != 0 && (was.PID != now.PID || was.Started != now.Started) {
		r.count, r.at = r.count+1, startTime(now)
	}
	r.main = now
}

// startTime of a process; now where the kernel does not say.
func startTime(p engine.Process) time.Time {
	const tick = 10 * time.Millisecond
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return time.Now()
	}
	age := time.Duration(info.Uptime)*time.Second - time.Duration(p.Started)*tick
	return time.Now().Add(-max(0, age))
}

// restarted is how often the daemon was restarted, when the last time was, and what is said of it for a while.
func (u *unit) restarted(now time.Time) (count int, at time.Time, words string) {
	r := &u.restarts
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count > 0 && now.Sub(r.at) < toldFor {
		words = fmt.Sprintf("%s was started anew at %s, and not by a delivery: somebody has restarted or upgraded it, or it had ended. "+
			"Connections through it may have been cut: its log says more", u.daemon.Name(), r.at.UTC().Format(time.RFC3339))
	}
	return r.count, r.at, words
}
