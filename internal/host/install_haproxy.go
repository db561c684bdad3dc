package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// haproxyPreparer prepares HAProxy.
type haproxyPreparer struct {
	*installer
	*part
	haproxy *haproxy
}

func (p *haproxyPreparer) programs() []program {
	return []program{{p.haproxy.Binary, "haproxy"}, {"/usr/bin/pkill", "procps"}}
}

func (p *haproxyPreparer) found() string { return "haproxy" }

func (p *haproxyPreparer) read(ctx context.Context) (missing []string, err error) {
	h := p.haproxy
	version, err := h.version(ctx)
	if err != nil {
		return nil, err
	}
	if old := h.tooOld(version); old != "" {
		return nil, errors.New(old)
	}
	// 2: it has no listener yet, as Debian's own has none.
	if out, err := p.run.Run(ctx, []string{h.Binary, "-c", "-f", h.Conf}); err != nil && alerts(out) != "" {
		return nil, fmt.Errorf("HAProxy refuses its own configuration: %s; mend that first", oneLine(alerts(out)))
	}
	return nil, nil
}

func (p *haproxyPreparer) settings() string { return "" }
func (p *haproxyPreparer) files() error     { return nil }

// serviceOptions are those that Debian's service has unless its environment says
// otherwise, and must be said again beside ours.
const serviceOptions = "-S /run/haproxy-master.sock"

var extraOptions = regexp.MustCompile(`(?m)^(\s*(?:export\s+)?EXTRAOPTS=)(["']?)([^"'\n]*)(["']?)[ \t]*$`)

// include adds an option to the environment of HAProxy's service.
func (p *haproxyPreparer) include(context.Context) error {
	h := p.haproxy
	have, err := os.ReadFile(h.Environment)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	option := "-f " + h.live()
	m := extraOptions.FindSubmatchIndex(have)
	if m != nil && bytes.Contains(have[m[6]:m[7]], []byte(option)) {
		return p.step("include", "HAProxy reads "+h.live(), true, nil)
	}
	p.changed = true
	text := strings.TrimRight(string(have), "\n") + "\n\n# external-lb: beside its own configuration, HAProxy reads what is delivered.\nEXTRAOPTS=\"" + serviceOptions + " " + option + "\"\n"
	if m != nil {
		set := strings.TrimSpace(string(have[m[6]:m[7]]) + " " + option)
		text = string(have[:m[2]]) + string(have[m[2]:m[3]]) + `"` + set + `"` + string(have[m[1]:])
	}
	return p.step("include", "add `"+option+"` to EXTRAOPTS in "+h.Environment, false, func() error {
		return replaceFile(h.Environment, []byte(strings.TrimLeft(text, "\n")), 0o644)
	})
}

// load cannot let a HAProxy that runs read another file: that takes a restart,
// which is for the owner to choose a moment for.
func (p *haproxyPreparer) load(ctx context.Context) error {
	const name = "haproxy"
	said, err := p.haproxy.ask(ctx)
	running, _ := p.haproxy.processes(0)
	switch {
	case err == nil && !p.changed:
		p.report(name, StepPresent, "runs "+said.digest.Short())
	case err == nil:
		return p.loadStep(ctx, name, p.part)
	case running:
		p.report(name, StepWarning, "restart it once (systemctl restart haproxy), which ends the connections that it has: it reads "+p.haproxy.live()+" only then")
	default:
		p.report(name, StepWarning, "does not run: start it (systemctl enable --now haproxy)")
	}
	return nil
}
