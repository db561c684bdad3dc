package nginx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// Installer prepares nginx on a machine.
func (n *Daemon) Installer(on engine.Steps) engine.Installer { return &installer{Steps: on, nginx: n} }

type installer struct {
	engine.Steps
	nginx  *Daemon
	owners ownersConf // nginx's configuration as it is
}

func (p *installer) Programs() []engine.Program {
	return []engine.Program{{Path: p.nginx.Binary, Package: "nginx"}, {Path: "/usr/bin/tail", Package: "coreutils"}}
}

func (p *installer) Found() string { return "nginx with stream" }

func (p *installer) Read(ctx context.Context) (missing []string, err error) {
	n := p.nginx
	version, err := n.Version(ctx)
	if err != nil {
		return nil, err
	}
	if old := n.TooOld(version); old != "" {
		return nil, errors.New(old)
	}
	dump, err := p.Run(ctx, []string{n.Binary, "-T", "-q", "-c", n.Conf})
	if err != nil {
		words := emergencies(dump)
		return nil, fmt.Errorf("nginx refuses its own configuration: %s; correct it, and run this again", engine.OneLine(words))
	}
	p.owners = readOwnersConf(dump, n.Conf)
	if len(p.owners.modules) > 0 {
		return nil, nil
	}
	build, err := p.Run(ctx, []string{n.Binary, "-V"})
	if err != nil {
		return nil, fmt.Errorf("%s -V: %w", n.Binary, err)
	}
	if !slices.Contains(strings.Fields(build), "--with-stream") {
		missing = []string{"libnginx-mod-stream"}
	}
	return missing, nil
}

// Settings name the owner's error log where it is another than Debian's.
func (p *installer) Settings() string {
	log, usual := p.owners.errorLog, p.nginx.Log[len(p.nginx.Log)-1]
	if log == "stderr" || !filepath.IsAbs(log) || !engine.PlainPath(log) || log == usual {
		return ""
	}
	return "nginx:\n  log: [sudo, -n, /usr/bin/tail, -c, \"65536\", " + log + "]\n"
}

func (p *installer) Kernel() []engine.KernelSetting { return nil }

func (p *installer) Files() error {
	if err := p.File("check configuration", p.nginx.CheckConf, p.nginx.CheckText(p.owners.modules), 0o644); err != nil {
		return err
	}
	if err := p.File("include file", p.nginx.IncludeConf, p.nginx.IncludeText(), 0o644); err != nil {
		return err
	}
	links := p.nginx.Links()
	for _, path := range slices.Sorted(maps.Keys(links)) {
		if err := p.Link("certificates", path, links[path]); err != nil {
			return err
		}
	}
	return nil
}

// Include adds one line to the owner's configuration, or one file beside it.
func (p *installer) Include(ctx context.Context) error {
	n := p.nginx
	line := "include " + n.IncludeConf + ";"
	if p.owners.included[n.IncludeConf] {
		return p.Step("include", "nginx includes "+n.IncludeConf, true, nil)
	}
	p.Change()
	if s := p.owners.stream; s != nil {
		return p.Step("include", "add `"+line+"` to the stream block in "+s.path, false, func() error {
			return p.edit(ctx, s.path, func(text string) string {
				return text[:s.offset] + "\n    " + line + text[s.offset:]
			})
		})
	}
	block := "stream { " + line + " }\n"
	beside := filepath.Join(filepath.Dir(n.Conf), "modules-enabled")
	if slices.ContainsFunc(p.owners.dirs, func(dir string) bool { return dir == beside+"/*.conf" || dir == "modules-enabled/*.conf" }) {
		path := filepath.Join(beside, "99-external-lb.conf")
		return p.Step("include", path, false, func() error {
			return p.edit(ctx, path, func(string) string { return "# Made by `external-lb host install`.\n" + block })
		})
	}
	return p.Step("include", "add `"+strings.TrimSpace(block)+"` to "+n.Conf, false, func() error {
		return p.edit(ctx, n.Conf, func(text string) string { return strings.TrimRight(text, "\n") + "\n\n" + block })
	})
}

// edit changes a file of nginx's, unless nginx refuses the result.
func (p *installer) edit(ctx context.Context, path string, change func(string) string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := err == nil
	if err := engine.ReplaceFile(path, []byte(change(string(before))), 0o644); err != nil {
		return err
	}
	n := p.nginx
	err = engine.Do(ctx, p, n.Binary, "-t", "-q", "-c", n.Conf)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("nginx refuses it, so it was undone: %w", err)
	if was {
		return errors.Join(err, engine.ReplaceFile(path, before, 0o644))
	}
	return errors.Join(err, os.Remove(path))
}

func (p *installer) Load(ctx context.Context) error {
	const name = "nginx"
	said, err := p.nginx.Ask(ctx)
	if err == nil && !p.Changed() {
		p.Report(name, engine.StepPresent, "runs "+said.Digest.Short())
		return nil
	}
	if running, _ := p.nginx.Processes(0); !running {
		p.Report(name, engine.StepWarning, "does not run: start it (systemctl enable --now nginx)")
		return nil
	}
	return p.Reload(ctx, name)
}
