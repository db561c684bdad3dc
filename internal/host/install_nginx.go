package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nginxPreparer prepares nginx.
type nginxPreparer struct {
	*installer
	*part
	nginx  *nginx
	owners ownersConf // nginx's configuration as it is
}

func (p *nginxPreparer) programs() []program {
	return []program{{p.nginx.Binary, "nginx"}, {"/usr/bin/tail", "coreutils"}}
}

func (p *nginxPreparer) found() string { return "nginx with stream" }

func (p *nginxPreparer) read(ctx context.Context) (missing []string, err error) {
	n := p.nginx
	version, err := n.version(ctx)
	if err != nil {
		return nil, err
	}
	if old := n.tooOld(version); old != "" {
		return nil, errors.New(old)
	}
	dump, err := p.run.Run(ctx, []string{n.Binary, "-T", "-q", "-c", n.Conf})
	if err != nil {
		words := emergencies(dump)
		return nil, fmt.Errorf("nginx refuses its own configuration: %s; mend that first", oneLine(words))
	}
	p.owners = readOwnersConf(dump, n.Conf)
	if len(p.owners.modules) > 0 {
		return nil, nil
	}
	build, err := p.run.Run(ctx, []string{n.Binary, "-V"})
	if err != nil {
		return nil, fmt.Errorf("%s -V: %w", n.Binary, err)
	}
	if !slices.Contains(strings.Fields(build), "--with-stream") {
		missing = []string{"libnginx-mod-stream"}
	}
	return missing, nil
}

// settings name the owner's error log where it is another than Debian's.
func (p *nginxPreparer) settings() string {
	log, usual := p.owners.errorLog, p.nginx.Log[len(p.nginx.Log)-1]
	if log == "stderr" || !filepath.IsAbs(log) || !plainPath(log) || log == usual {
		return ""
	}
	return "nginx:\n  log: [sudo, -n, /usr/bin/tail, -c, \"65536\", " + log + "]\n"
}

func (p *nginxPreparer) files() error {
	if err := p.file("check configuration", p.nginx.CheckConf, p.nginx.checkConf(p.owners.modules), 0o644); err != nil {
		return err
	}
	if err := p.file("include file", p.nginx.IncludeConf, p.nginx.includeConf(), 0o644); err != nil {
		return err
	}
	links := p.nginx.links()
	for _, path := range slices.Sorted(maps.Keys(links)) {
		if err := p.link("certificates", path, links[path]); err != nil {
			return err
		}
	}
	return nil
}

// include adds one line to the owner's configuration, or one file beside it.
func (p *nginxPreparer) include(ctx context.Context) error {
	n := p.nginx
	line := "include " + n.IncludeConf + ";"
	if p.owners.included[n.IncludeConf] {
		return p.step("include", "nginx includes "+n.IncludeConf, true, nil)
	}
	p.changed = true
	if s := p.owners.stream; s != nil {
		return p.step("include", "add `"+line+"` to the stream block in "+s.path, false, func() error {
			return p.edit(ctx, s.path, func(text string) string {
				return text[:s.offset] + "\n    " + line + text[s.offset:]
			})
		})
	}
	block := "stream { " + line + " }\n"
	beside := filepath.Join(filepath.Dir(n.Conf), "modules-enabled")
	if slices.ContainsFunc(p.owners.dirs, func(dir string) bool { return dir == beside+"/*.conf" || dir == "modules-enabled/*.conf" }) {
		path := filepath.Join(beside, "99-external-lb.conf")
		return p.step("include", path, false, func() error {
			return p.edit(ctx, path, func(string) string { return "# Made by `external-lb host install`.\n" + block })
		})
	}
	return p.step("include", "add `"+strings.TrimSpace(block)+"` to "+n.Conf, false, func() error {
		return p.edit(ctx, n.Conf, func(text string) string { return strings.TrimRight(text, "\n") + "\n\n" + block })
	})
}

// edit changes a file of nginx's, unless nginx refuses the result.
func (p *nginxPreparer) edit(ctx context.Context, path string, change func(string) string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := err == nil
	if err := replaceFile(path, []byte(change(string(before))), 0o644); err != nil {
		return err
	}
	n := p.nginx
	err = p.command(ctx, n.Binary, "-t", "-q", "-c", n.Conf)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("nginx refuses it, so it was undone: %w", err)
	if was {
		return errors.Join(err, replaceFile(path, before, 0o644))
	}
	return errors.Join(err, os.Remove(path))
}

func (p *nginxPreparer) load(ctx context.Context) error {
	const name = "nginx"
	said, err := p.nginx.ask(ctx)
	if err == nil && !p.changed {
		p.report(name, StepPresent, "runs "+said.digest.Short())
		return nil
	}
	if running, _ := p.nginx.processes(0); !running {
		p.report(name, StepWarning, "does not run: start it (systemctl enable --now nginx)")
		return nil
	}
	return p.loadStep(ctx, name, p.part)
}
