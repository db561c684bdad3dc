package keepalived

import (
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
	return []engine.Program{{Path: p.keepalived.Binary, Package: "keepalived"},
		{Path: "/usr/bin/pkill", Package: "procps"}, {Path: "/usr/bin/pgrep", Package: "procps"},
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
	have, err := os.ReadFile(k.Conf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := k.including(string(have))
	if text == string(have) {
		return p.Step("include", "keepalived includes "+k.Live(), true, nil)
	}
	p.Change()
	return p.Step("include", "add `include "+k.Live()+"` to "+k.Conf, false, func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(k.Conf), 0o755), engine.EditFile(k.Conf, []byte(text)))
	})
}

// Confinement: SELinux lets keepalived neither check nodes on any port nor read what is delivered.
func (p *Installation) Confinement() engine.Confinement {
	return engine.Confinement{SELinux: []string{"setsebool -P keepalived_connect_any on", "semanage fcontext -a -t etc_t '" + p.keepalived.Dir + "(/.*)?'"}}
}

// including is the owner's configuration with the line that includes what is delivered. A
// line for another store of ours goes: a keepalived that only moved addresses before, and
// now carries datagrams as well, would have two virtual routers of one name.
func (k *Daemon) including(conf string) string {
	ours, line := "include "+filepath.Dir(k.Dir)+"/", "include "+k.Live()
	var kept strings.Builder
	present := false
	for l := range strings.Lines(conf) {
		text := strings.TrimSpace(l)
		present = present || text == line
		if text == line || !strings.HasPrefix(text, ours) {
			kept.WriteString(l)
		}
	}
	if present {
		return kept.String()
	}
	return strings.TrimLeft(strings.TrimRight(kept.String(), "\n")+"\n\n# external-lb: what is delivered.\n"+line+"\n", "\n")
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
