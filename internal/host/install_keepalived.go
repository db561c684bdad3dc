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

// keepalivedPreparer prepares keepalived, where it moves the addresses.
type keepalivedPreparer struct {
	*installer
	*part
	keepalived *keepalived
}

func (p *keepalivedPreparer) programs() []program {
	return []program{{p.keepalived.Binary, "keepalived"}, {"/usr/bin/pkill", "procps"}, {"/usr/bin/pgrep", "procps"}}
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
	if _, err := os.Stat(k.Conf); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	words, err := k.verdict(ctx, []string{k.Binary, "-t", "-f", k.Conf})
	if err == nil && words != "" {
		err = fmt.Errorf("keepalived refuses its own configuration: %s; mend that first", oneLine(words))
	}
	return nil, err
}

func (p *keepalivedPreparer) settings() string { return "vrrp: true\n" }
func (p *keepalivedPreparer) files() error     { return nil }

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
	text := strings.TrimLeft(strings.TrimRight(string(have), "\n")+"\n\n# external-lb: moves the addresses of Services.\n"+line+"\n", "\n")
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
