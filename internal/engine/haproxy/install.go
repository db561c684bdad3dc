package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// Installer prepares HAProxy on a machine.
func (h *Daemon) Installer(on engine.Steps) engine.Installer { return &installer{on, h} }

type installer struct {
	engine.Steps
	haproxy *Daemon
}

func (p *installer) Programs() []engine.Program {
	return []engine.Program{{Path: p.haproxy.Binary, Package: "haproxy"}, {Path: "/usr/bin/pkill", Package: "procps"}}
}

func (p *installer) Found() string { return "haproxy" }

func (p *installer) Read(ctx context.Context) (missing []string, err error) {
	h := p.haproxy
	version, err := h.Version(ctx)
	if err != nil {
		return nil, err
	}
	if old := h.TooOld(version); old != "" {
		return nil, errors.New(old)
	}
	// 2: it has no listener yet, as Debian's own has none.
	if out, err := p.Run(ctx, h.checkOwn()); err != nil && alerts(out) != "" {
		return nil, fmt.Errorf("HAProxy refuses its own configuration: %s; correct it, and run this again", engine.OneLine(alerts(out)))
	}
	return nil, nil
}

func (p *installer) Settings() string               { return "" }
func (p *installer) Kernel() []engine.KernelSetting { return nil }
func (p *installer) Files() error                   { return nil }

// Include adds an option to the environment of HAProxy's service.
func (p *installer) Include(context.Context) error {
	h := p.haproxy
	have, err := os.ReadFile(h.Environment)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	option := "-f " + h.Live()
	variable, usual, _ := strings.Cut(h.Options, "=")
	m := regexp.MustCompile(`(?m)^(\s*(?:export\s+)?` + variable + `=)(["']?)([^"'\n]*)(["']?)[ \t]*$`).FindSubmatchIndex(have)
	if m != nil && bytes.Contains(have[m[6]:m[7]], []byte(option)) {
		return p.Step("include", "HAProxy reads "+h.Live(), true, nil)
	}
	p.Change()
	text := strings.TrimRight(string(have), "\n") + "\n\n# external-lb: beside its own configuration, HAProxy reads what is delivered.\n" + variable + "=\"" + strings.TrimSpace(usual+" "+option) + "\"\n"
	if m != nil {
		set := strings.TrimSpace(string(have[m[6]:m[7]]) + " " + option)
		text = string(have[:m[2]]) + string(have[m[2]:m[3]]) + `"` + set + `"` + string(have[m[1]:])
	}
	return p.Step("include", "add `"+option+"` to "+variable+" in "+h.Environment, false, func() error {
		return engine.EditFile(h.Environment, []byte(strings.TrimLeft(text, "\n")))
	})
}

// Confinement: SELinux lets HAProxy neither connect to nodePorts nor read what is delivered. Nor does
// the profile that SUSE's package has.
func (p *installer) Confinement() engine.Confinement {
	h := p.haproxy
	return engine.Confinement{
		SELinux: []string{"setsebool -P haproxy_connect_any on", "semanage fcontext -a -t haproxy_var_lib_t '" + h.dir + "(/.*)?'"},
		Profile: "usr.sbin.haproxy",
		Rules:   []string{h.dir + "/** r,", h.Socket + "* rwl,"},
	}
}

// Load cannot let a HAProxy that runs read another file: that takes a restart,
// which is for the owner to choose a moment for.
func (p *installer) Load(ctx context.Context) error {
	const name = "haproxy"
	said, err := p.haproxy.Ask(ctx)
	running, _ := p.haproxy.Processes(0)
	switch {
	case err == nil && !p.Changed():
		p.Report(name, engine.StepPresent, "runs "+said.Digest.Short())
	case err == nil:
		return p.Reload(ctx, name)
	case running:
		p.Report(name, engine.StepWarning, "restart it once ("+p.Family().HowToRestart("haproxy")+"), which ends the connections that it has: it reads "+p.haproxy.Live()+" only then")
	default:
		p.Report(name, engine.StepWarning, "does not run: start it ("+p.Family().HowToStart("haproxy")+")")
	}
	return nil
}
