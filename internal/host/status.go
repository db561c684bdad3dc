package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Status looks at the machine now. What is wrong with it is its Message, not an error.
func (a *Agent) Status(ctx context.Context) (Status, error) {
	status := Status{Engine: a.settings.Engine}
	s, err := openStore(a.dir)
	if err != nil {
		if status.EngineVersion, err = a.daemon.version(ctx); err != nil {
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
	status.Active = a.active()
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
	if r, ok := a.daemon.(restorer); ok && err == nil {
		err = r.restore(ctx)
	}
	return a.explain(err)
}

// restorer is a daemon with something beside it that others may take away.
type restorer interface {
	restore(ctx context.Context) error
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
	said, err := a.daemon.ask(ctx)
	if err == nil {
		status.Running, status.Live, status.EngineVersion = true, said.digest, said.version
		_, status.OldWorkers = a.daemon.processes(said.pid)
		status.Message = cmp.Or(a.daemon.tooOld(said.version), a.daemon.limits(live.listeners(), said.pid))
		if status.Message == "" {
			status.Message = a.rights(ctx)
		}
		if w, ok := a.daemon.(worrier); ok && status.Message == "" {
			status.Message = w.worry(ctx)
		}
		return
	}
	status.Running, status.OldWorkers = a.daemon.processes(0)
	if status.EngineVersion, err = a.daemon.version(ctx); err != nil {
		status.Message = err.Error()
		return
	}
	status.Message = a.silence(live)
}

// worrier is a daemon that can tell when what it runs cannot work.
type worrier interface {
	worry(ctx context.Context) string // "" if nothing
}

func (a *Agent) unprepared() string {
	return "this machine is not prepared: run `external-lb host install` on it as root"
}

// silence says why the daemon proves nothing.
func (a *Agent) silence(live index) string {
	if running, _ := a.daemon.processes(0); running {
		return a.daemon.unincluded()
	}
	files := make(map[string]planned, len(live))
	for p, e := range live {
		files[p] = planned{entry: e}
	}
	for p, reason := range probeAll(files, nobodys) {
		return fmt.Sprintf("%[1]s does not run, and cannot start with %[2]s: %[3]s; then start %[1]s", a.daemon.name(), p, reason)
	}
	return a.daemon.stopped()
}

// nobodys is right when the daemon does not run: it holds no port.
func nobodys(fileset.Socket) bool { return false }

// rights says which of the commands sudo does not allow. Once all are allowed,
// they are not asked for again.
func (a *Agent) rights(ctx context.Context) string {
	if a.allowed.Load() {
		return ""
	}
	for _, argv := range a.daemon.commands() {
		command, viaSudo := withoutSudo(argv)
		if !viaSudo {
			continue
		}
		if _, err := a.daemon.Run(ctx, append([]string{argv[0], "-n", "-l"}, command...)); err != nil {
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
