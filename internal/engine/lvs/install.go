package lvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
)

// Installer prepares IPVS and keepalived on a machine.
func (k *Daemon) Installer(on engine.Steps) engine.Installer { return &installer{k.Install(on), k} }

type installer struct {
	*keepalived.Installation
	lvs *Daemon
}

func (p *installer) Programs() []engine.Program {
	return append(p.Installation.Programs(), engine.Program{Path: "/usr/sbin/nft", Package: "nftables"})
}

func (p *installer) Kernel() []engine.KernelSetting { return forwards }

func (p *installer) Read(ctx context.Context) (missing []string, err error) {
	if _, err := os.Stat(ipvsTable); err != nil {
		if out, err := p.Run(ctx, []string{"/sbin/modprobe", "ip_vs"}); err != nil {
			return nil, fmt.Errorf("%s (%s)", noIPVS, engine.OneLine(out))
		}
	}
	return p.Installation.Read(ctx)
}

// Files has IPVS loaded at boot, before its settings are, and rules to begin with.
func (p *installer) Files() error {
	// keepalived does not start without rules to load.
	rules := filepath.Join(p.lvs.Dir, rulesFile)
	_, err := os.Stat(rules)
	err = p.Step("packet filter", "rules in "+rules, err == nil, func() error {
		uid, gid := p.Account()
		return errors.Join(engine.ReplaceFile(rules, []byte(packetRules(nil, nil)), 0o644), os.Chown(rules, uid, gid))
	})
	if err != nil {
		return err
	}
	return p.File("modules", "/etc/modules-load.d/external-lb.conf", []byte("# Made by `external-lb host install`.\nip_vs\n"), 0o644)
}
