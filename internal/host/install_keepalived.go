package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keepalivedPreparer prepares keepalived, where it moves the addresses or keeps IPVS.
type keepalivedPreparer struct {
	*installer
	*part
	keepalived *keepalived
}

func (p *keepalivedPreparer) programs() []program {
	all := []program{{p.keepalived.Binary, "keepalived"}, {"/usr/bin/pkill", "procps"}, {"/usr/bin/pgrep", "procps"}}
	if p.keepalived.lvs {
		all = append(all, program{"/usr/sbin/nft", "nftables"})
	}
	return all
}

func (p *keepalivedPreparer) found() string { return "keepalived" }

func (p *keepalivedPreparer) read(ctx context.Context) (missing []string, err error) {
	k := p.keepalived
	version, err := k.version(ctx)
	if err != nil {
		return nil, nil // it is among the programs that are missing
	}
	if old := k.tooOld(version); old != "" {
		return nil, errors.New(old)
	}
	if _, err := os.Stat(ipvsTable); k.lvs && err != nil {
		if out, err := k.Run(ctx, []string{"/usr/sbin/modprobe", "ip_vs"}); err != nil {
			return nil, fmt.Errorf("%s (%s)", noIPVS, oneLine(out))
		}
	}
	if _, err := os.Stat(k.Conf); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	words, err := k.verdict(ctx, []string{k.Binary, "-t", "-f", k.Conf})
	if err == nil && words != "" {
		err = fmt.Errorf("keepalived refuses its own configuration: %s; mend that first", oneLine(words))
	}
	return nil, err
}

func (p *keepalivedPreparer) settings() string {
	if p.installer.settings.VRRP {
		return "vrrp: true\n"
	}
	return ""
}

// files has IPVS loaded at boot, before its settings are, and rules to begin with.
func (p *keepalivedPreparer) files() error {
	if !p.keepalived.lvs {
		return nil
	}
	// keepalived does not start without rules to load.
	rules := filepath.Join(p.keepalived.dir, rulesFile)
	_, err := os.Stat(rules)
	err = p.step("packet filter", "rules in "+rules, err == nil, func() error {
		return errors.Join(replaceFile(rules, []byte(packetRules(nil)), 0o644), os.Chown(rules, p.uid, p.gid))
	})
	if err != nil {
		return err
	}
	return p.file("modules", "/etc/modules-load.d/external-lb.conf", []byte("# Made by `external-lb host install`.\nip_vs\n"), 0o644)
}

// include adds one line to the owner's configuration, which may be missing.
func (p *keepalivedPreparer) include(context.Context) error {
	k := p.keepalived
	line := "include " + k.live()
	have, err := os.ReadFile(k.Conf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for l := range bytes.Lines(have) {
		if strings.TrimSpace(string(l)) == line {
			return p.step("include", "keepalived includes "+k.live(), true, nil)
		}
	}
	p.changed = true
	text := strings.TrimLeft(strings.TrimRight(string(have), "\n")+"\n\n# external-lb: what is delivered.\n"+line+"\n", "\n")
	return p.step("include", "add `"+line+"` to "+k.Conf, false, func() error {
		return errors.Join(os.MkdirAll(filepath.Dir(k.Conf), 0o755), replaceFile(k.Conf, []byte(text), 0o644))
	})
}

func (p *keepalivedPreparer) load(ctx context.Context) error {
	const name = "keepalived"
	said, err := p.keepalived.ask(ctx)
	if err == nil && !p.changed {
		p.report(name, StepPresent, "runs "+said.digest.Short())
		return nil
	}
	if running, _ := p.keepalived.processes(0); !running {
		p.report(name, StepWarning, "does not run: start it (systemctl enable --now keepalived)")
		return nil
	}
	return p.loadStep(ctx, name, p.part)
}
