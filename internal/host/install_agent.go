package host

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// rules are what a machine that is prepared for the first time admits: what was asked
// for, and no port that its own daemons hold.
func (in *installer) rules() (admit.Rules, error) {
	r := in.Admit
	if err := r.Validate(); err != nil {
		return r, err
	}
	engines := map[string]bool{"external-lb": true}
	for _, p := range in.parts {
		for _, program := range p.Programs() {
			engines[filepath.Base(program.Path)] = true
		}
	}
	names := processes()
	for _, l := range listeners() {
		a := l.Address.Addr()
		by := names[l.inode]
		// Where the kernel carries datagrams, no daemon of ours has a port of them.
		ours := engines[by] && (l.Network == "tcp" || in.settings.Datagrams == "")
		if !a.IsLoopback() && !ours {
			held := admit.Held{Address: a, Port: l.Address.Port(), Protocol: lb.Protocol(strings.ToUpper(l.Network)), By: by}
			if !slices.Contains(r.Held, held) {
				r.Held = append(r.Held, held)
			}
		}
	}
	slices.SortFunc(r.Held, func(a, b admit.Held) int {
		return strings.Compare(fmt.Sprint(a.Protocol, a.Port, a.Address), fmt.Sprint(b.Protocol, b.Port, b.Address))
	})
	return r, nil
}

// admission are the lines of the settings that say what is admitted.
func (in *installer) admission() (string, error) {
	r, err := in.rules()
	if err != nil {
		return "", err
	}
	text, err := yaml.Marshal(map[string]admit.Rules{"admit": r})
	return "# Which addresses and ports may be listened on, and where traffic may be sent to.\n" + string(text), err
}

// packagedAgent is the agent's service of systemd. It goes through sudo for what takes
// root, so nothing here may imply NoNewPrivileges, as filters of system calls do, nor
// keep the daemons' own checks from the owner's files, logs and names of machines.
// Root by sudo is without the rights that no check and no reload needs. Traffic does
// not depend on the agent: it is the first to go where memory is short. When it is
// stopped, it ends the delivery that is under way by itself: a check or a reload that
// systemd kills looks as if the daemon had refused the configuration. However often it
// fails, it is started again: who mends host.yaml need not think of it.
//
// A package brings it as it is here; a machine without one has it with another path.
//
//go:embed external-lb-agent.service
var packagedAgent []byte

func (in *installer) agentUnit() []byte {
	return bytes.Replace(packagedAgent, []byte("ExecStart="+packaged+" "), []byte("ExecStart="+in.Command+" "), 1)
}

// restoreUnit has the last good files in their place before the daemons read them, at boot
// and whenever one is started.
func (in *installer) restoreUnit() []byte {
	daemons := strings.Join(in.services(), " ")
	return fmt.Appendf(nil, `# Made by `+"`external-lb host install`"+`.
[Unit]
Description=external-lb: the last good files, before what reads them starts
Documentation=https://github.com/external-lb/external-lb
RequiresMountsFor=%s
Before=%s

[Service]
Type=oneshot
ExecStart=%s host restore
User=%s
TimeoutStartSec=60
ProtectHome=read-only
ProtectSystem=full
PrivateTmp=yes

[Install]
WantedBy=%s
`, in.settings.Root, daemons, in.Command, account, daemons)
}

// services of systemd that run the daemons.
func (in *installer) services() (names []string) {
	for _, p := range in.parts {
		if p.unit.Service != "" {
			names = append(names, p.unit.Service)
		}
	}
	return names
}

const (
	systemdRuns    = "/run/systemd/system" // is there where it does
	systemdUnits   = "/etc/systemd/system/"
	packagedUnits  = "/usr/lib/systemd/system/"
	restoreService = "external-lb-restore.service"
)

// restoring makes that a service, where there is systemd.
func (in *installer) restoring(ctx context.Context) error {
	const name = "restoring"
	if _, err := os.Stat(systemdRuns); err != nil || len(in.services()) == 0 {
		return nil // the agent says that it is missing
	}
	if err := in.File(name, systemdUnits+restoreService, in.restoreUnit(), 0o644); err != nil {
		return err
	}
	enabled := !slices.ContainsFunc(in.services(), func(daemon string) bool {
		_, err := os.Lstat(systemdUnits + daemon + ".wants/" + restoreService)
		return err != nil
	})
	return in.Step(name, "enable "+restoreService, enabled, func() error {
		return errors.Join(engine.Do(ctx, in, "systemctl", "daemon-reload"), engine.Do(ctx, in, "systemctl", "reenable", restoreService))
	})
}

const agentService = "external-lb-agent.service"

// agent makes the agent a service, and starts it anew where something has changed.
func (in *installer) agent(ctx context.Context) error {
	const name = "agent"
	if err := in.directory(in.socketDir(), 0o750, in.uid, in.gid); err != nil {
		return err
	}
	if _, err := os.Stat(openrcRuns); err == nil {
		return in.openrc(ctx)
	}
	if _, err := os.Stat(systemdRuns); err != nil {
		in.Report(name, engine.StepWarning, fmt.Sprintf("no systemd runs here: start `%s host agent` as %s yourself, and keep it running", in.Command, account))
		return nil
	}
	if err := in.agentFile(name); err != nil {
		return err
	}
	return in.Step(name, "enable and start "+agentService, in.agentRuns(), func() error {
		return errors.Join(
			engine.Do(ctx, in, "systemctl", "daemon-reload"),
			engine.Do(ctx, in, "systemctl", "reenable", agentService), // where it is now
			engine.Do(ctx, in, "systemctl", "restart", agentService),
		)
	})
}

func (in *installer) socketDir() string { return filepath.Dir(in.settings.Socket) }

// agentFile is the agent's service as a package has brought it, which one of our own would
// hide, also after the next upgrade; else that one.
func (in *installer) agentFile(name string) error {
	const own = systemdUnits + agentService
	unit := in.agentUnit()
	brought, err := os.ReadFile(packagedUnits + agentService)
	if err != nil || !bytes.Equal(brought, unit) {
		return in.File(name, own, unit, 0o644)
	}
	_, err = os.Lstat(own)
	return in.Step(name, packagedUnits+agentService, errors.Is(err, fs.ErrNotExist), func() error { return os.Remove(own) })
}

// agentRuns reports whether an agent of this very program runs, started after the
// settings were written.
func (in *installer) agentRuns() bool {
	out, err := in.Run(context.Background(), []string{"systemctl", "show", "--property=MainPID", "--value", agentService})
	return err == nil && in.isAgent(strings.TrimSpace(out))
}

// isAgent reports whether a process is that; there is none with the id 0 or "".
func (in *installer) isAgent(pid string) bool {
	if pid == "" || pid == "0" {
		return false
	}
	running, err := os.Stat("/proc/" + pid + "/exe")
	program, programErr := os.Stat(in.Command)
	started, startedErr := os.Stat("/proc/" + pid)
	settings, settingsErr := os.Stat(in.settingsPath)
	return errors.Join(err, programErr, startedErr, settingsErr) == nil && os.SameFile(running, program) &&
		started.ModTime().After(settings.ModTime().Add(-time.Second))
}

// ParseNetwork reads 203.0.113.0/24, or an address.
func ParseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%.60q is neither an address nor a network: want one such as 203.0.113.0/24", text)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// ParseBackends reads 10.0.0.0/8 or 10.0.0.0/8:30000-32767 or :30000-32767.
func ParseBackends(text string) (admit.Backends, error) {
	var b admit.Backends
	wrong := fmt.Errorf("%.60q: want NETWORK, NETWORK:PORTS or :PORTS, as in 10.0.0.0/8:30000-32767", text)
	if text == "" || strings.HasSuffix(text, ":") {
		return b, wrong // else it would stand for every network
	}
	network, ports := text, ""
	if i := strings.LastIndex(text, ":"); i >= 0 && (strings.Contains(text[:i], "/") || i == 0) {
		network, ports = text[:i], text[i+1:]
	}
	if network != "" {
		p, err := netip.ParsePrefix(network)
		if err != nil {
			return b, wrong
		}
		b.Networks = []netip.Prefix{p}
	}
	if ports != "" {
		r, err := admit.ParsePortRange(ports)
		if err != nil {
			return b, err
		}
		b.Ports = []admit.PortRange{r}
	}
	return b, nil
}
