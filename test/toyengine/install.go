package toyengine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/external-lb/external-lb/internal/engine"
)

// Installer prepares toyd on a machine.
func (d *Daemon) Installer(on engine.Steps) engine.Installer { return &installer{on, d} }

type installer struct {
	engine.Steps
	toyd *Daemon
}

func (p *installer) Programs() []engine.Program {
	return []engine.Program{{Path: p.toyd.Binary, Package: "toyd"}, {Path: "/usr/bin/pkill", Package: "procps"}}
}

func (p *installer) Found() string                  { return "toyd" }
func (p *installer) Settings() string               { return "" }
func (p *installer) Kernel() []engine.KernelSetting { return nil }
func (p *installer) Files() error                   { return nil }

// Read wants the owner's file, which is changed.
func (p *installer) Read(context.Context) (missing []string, err error) {
	_, err = os.ReadFile(p.toyd.Conf)
	return nil, err
}

// Include adds a line to the owner's file.
func (p *installer) Include(context.Context) error {
	have, err := os.ReadFile(p.toyd.Conf)
	if err != nil {
		return err
	}
	line := fmt.Appendf(nil, "include %s\n", p.toyd.live())
	present := bytes.Contains(have, line)
	if !present {
		p.Change()
	}
	return p.Step("include", "include "+p.toyd.live()+" in "+p.toyd.Conf, present, func() error {
		return engine.ReplaceFile(p.toyd.Conf, slices.Concat(have, line), 0o644)
	})
}

// Load what is live once, where toyd runs.
func (p *installer) Load(ctx context.Context) error {
	running, _ := p.toyd.Processes(0)
	switch {
	case !running:
		p.Report("toyd", engine.StepWarning, "does not run: start it")
	case p.Changed():
		return p.Reload(ctx, "toyd")
	default:
		p.Report("toyd", engine.StepPresent, "runs it")
	}
	return nil
}
