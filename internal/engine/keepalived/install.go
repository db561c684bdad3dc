package keepalived

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// Installation prepares keepalived on a machine.
type Installation struct {
	engine.Steps
	keepalived *Daemon
}

// Installer prepares keepalived on a machine.
func (k *Daemon) Installer(on engine.Steps) engine.Installer { return k.Install(on) }

// Install is Installer for an engine that is built on keepalived.
func (k *Daemon) Install(on engine.Steps) *Installation { return &Installation{on, k} }

func (p *Installation) Programs() []engine.Program {
	return []engine.Program{{Path: p.keepalived.Binary, Package: "keepalived"}, {Path: "/usr/bin/pkill", Package: "procps"}, {Path: "/usr/bin/pgrep", Package: "procps"},
		{Path: unshare, Package: "util-linux"}}
}

func (p *Installation) Found() string { return "keepalived" }

func (p *Installation) Read(ctx context.Context) (missing []string, err error) {
	k := p.keepalived
	version, err := k.Version(ctx)
	if err != nil {
		return nil, err
	}
	if old := k.TooOld(version); old != "" {
		return nil, errors.New(old)
	}
	if _, err := os.Stat(k.Conf); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	ours, owners, err := k.verdict(ctx, k.test(k.Conf))
	if words := ours + owners; err == nil && words != "" {
		err = fmt.Errorf("keepalived refuses its own configuration: %s; correct it, and run this again", engine.OneLine(words))
	}
	return nil, err
}

func (p *Installation) Settings() string               { return "" }
func (p *Installation) Kernel() []engine.KernelSetting { return nil }
func (p *Installation) Files() error                   { return nil }

// Include adds one line to the owner's configuration, which may be missing.
func (p *Installation) Include(context.Context) error {
	k := p.keepalived
	line := "include " + k.Live()
	have, err := os.ReadFile(k.Conf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for l := range bytes.Lines(have) {
		if strings.TrimSpace(string(l)) == line {
			return p.Step("include", "keepalived includes "+k.Live(), true, nil)
		}
	}
	p.Change()
	text := strings.TrimLeft(strings.TrimRight(string(have), "\n")+"\n\n# external-lb: what is delivered.\n"+line+"\n", "\n")
	return p.Step("include", "add `"+line+"` to "+k.Conf, false, func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(k.Conf), 0o755), engine.EditFile(k.Conf, []byte(text)))
	})
}

// Confinement: SELinux lets keepalived neither check nodes on any port nor read what is delivered.
func (p *Installation) Confinement() engine.Confinement {
	return engine.Confinement{SELinux: []string{"setsebool -P keepalived_connect_any on", "semanage fcontext -a -t etc_t '" + p.keepalived.Dir + "(/.*)?'"}}
}

func (p *Installation) Load(ctx context.Context) error {
	const name = "keepalived"
	said, err := p.keepalived.Ask(ctx)
	if err == nil && !p.Changed() {
		p.Report(name, engine.StepPresent, "runs "+said.Digest.Short())
		return nil
	}
	if running, _ := p.keepalived.Processes(0); !running {
		p.Report(name, engine.StepWarning, "does not run: start it ("+p.Family().HowToStart("keepalived")+")")
		return nil
	}
	return p.Reload(ctx, name)
}
