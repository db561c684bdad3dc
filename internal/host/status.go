package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Status looks at the machine now. What is wrong with it is its Message, not an error.
func (a *Agent) Status(ctx context.Context) (Status, error) {
	status := Status{Engine: a.settings.Engine}
	s, err := openStore(a.dir)
	if err != nil {
		if status.EngineVersion, err = a.nginx.version(ctx); err != nil {
			status.Message = err.Error() + "; then run `external-lb host install` as root"
			return status, ctx.Err()
		}
		status.Message = a.unprepared()
		return status, ctx.Err()
	}
	defer s.close() // nothing is written to a directory
	wrong := a.recoverIfIdle(ctx, s)
	st, err := s.readState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return status, err
	}
	status.Epoch = st.Epoch
	live, err := a.liveFiles(s)
	if err != nil {
		return status, err
	}
	status.Files = live.manifest()
	a.look(ctx, live, &status)
	if status.Message == "" && wrong != nil {
		status.Message = wrong.Error()
	}
	return status, ctx.Err()
}

// recoverIfIdle finishes or undoes what an earlier process began, unless one is
// at work: then its business is not ours.
func (a *Agent) recoverIfIdle(ctx context.Context, s *store) error {
	unlock, err := s.lock(ctx, false)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	_, err = a.recover(ctx, s)
	return a.explain(err)
}

// liveFiles are those that the daemon includes, also while they are being swapped.
func (a *Agent) liveFiles(s *store) (index, error) {
	const swaps = 5
	for i := 0; ; i++ {
		gen := s.linked(liveLink)
		if gen == "" {
			return index{}, nil
		}
		x, err := a.files(s, gen)
		if s.linked(liveLink) == gen || i == swaps {
			return x, err
		}
	}
}

// look asks the daemon, and says what is wrong.
func (a *Agent) look(ctx context.Context, live index, status *Status) {
	master, all := a.nginx.workers()
	for _, w := range all {
		if w.draining {
			status.OldWorkers++
		}
	}
	said, err := a.nginx.ask(ctx)
	if err == nil {
		status.Running, status.Live, status.EngineVersion = true, said.digest, said.version
		if status.Message = tooOld(said.version); status.Message == "" {
			status.Message = a.limits(ctx, live, said.pid)
		}
		return
	}
	status.Running = master != 0
	if status.EngineVersion, err = a.nginx.version(ctx); err != nil {
		status.Message = err.Error()
		return
	}
	status.Message = a.silence(live)
}

func (a *Agent) unprepared() string {
	return "this machine is not prepared: run `external-lb host install` on it as root"
}

// silence says why nginx proves nothing.
func (a *Agent) silence(live index) string {
	if master, _ := a.nginx.workers(); master != 0 {
		return fmt.Sprintf("nginx runs, but without external-lb's configuration: its stream block must include %s; `external-lb host install` sees to it, then `nginx -t && nginx -s reload`", a.nginx.IncludeConf)
	}
	files := make(map[string]planned, len(live))
	for p, e := range live {
		files[p] = planned{entry: e}
	}
	for p, reason := range probeAll(files, nobodys) {
		return fmt.Sprintf("nginx does not run, and cannot start with %s: %s; then start nginx", p, reason)
	}
	return "nginx does not run: start it (systemctl start nginx); `nginx -t` says what it may lack"
}

// nobodys is right when nginx does not run: it holds no port.
func nobodys(fileset.Socket) bool { return false }

// limits says what stands in the way of a daemon that runs.
func (a *Agent) limits(ctx context.Context, live index, worker int) string {
	listeners := live.listeners()
	if have, known := a.connections(); known && have < 2*listeners {
		return fmt.Sprintf("%d worker_connections are few for %d listeners: %s", have, listeners, a.moreConnections(listeners))
	}
	if have, known := openFiles(worker); known && have < 2*listeners {
		return fmt.Sprintf("a limit of %d open files is low for %d listeners: set worker_rlimit_nofile in %s to %d or more",
			have, listeners, a.nginx.Conf, roundUp(4*listeners))
	}
	return a.rights(ctx)
}

// connections that the owner's main file allows a worker.
func (a *Agent) connections() (int, bool) {
	data, err := os.ReadFile(a.nginx.Conf)
	m := setting.FindSubmatch(data)
	if err != nil || m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}

func (a *Agent) moreConnections(listeners int) string {
	return fmt.Sprintf("set worker_connections in the events block of %s to %d or more", a.nginx.Conf, roundUp(2*listeners))
}

func roundUp(n int) int { return (n + 1023) / 1024 * 1024 }

var openFilesLimit = regexp.MustCompile(`(?m)^Max open files\s+(\d+)`)

func openFiles(pid int) (int, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	m := openFilesLimit.FindSubmatch(data)
	if err != nil || m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}

// rights says which of the commands sudo does not allow. Once all are allowed,
// they are not asked for again.
func (a *Agent) rights(ctx context.Context) string {
	if a.allowed.Load() {
		return ""
	}
	for _, argv := range [][]string{a.nginx.Check, a.nginx.Reload, a.nginx.Log} {
		command, viaSudo := withoutSudo(argv)
		if !viaSudo {
			continue
		}
		if _, err := a.nginx.runner.Run(ctx, append([]string{argv[0], "-n", "-l"}, command...)); err != nil {
			return fmt.Sprintf("sudo does not let this user run %q: run `external-lb host install` again", strings.Join(command, " "))
		}
	}
	a.allowed.Store(true)
	return ""
}

// withoutSudo is the command that runs as root.
func withoutSudo(argv []string) (command []string, viaSudo bool) {
	if len(argv) < 3 || (argv[0] != "sudo" && argv[0] != "/usr/bin/sudo") || argv[1] != "-n" {
		return argv, false
	}
	return argv[2:], true
}
