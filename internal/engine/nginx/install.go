package nginx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
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
	module string     // what it must load to have stream; "": nothing
	usual  string     // the file with its process id, unless nginx says otherwise
}

// streamPackage brings the module, or nothing does and nginx has it with it.
const streamPackage = "libnginx-mod-stream"

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
	out, err := p.Run(ctx, []string{n.Binary, "-V"})
	if err != nil {
		return nil, fmt.Errorf("%s -V: %w", n.Binary, err)
	}
	build := strings.Fields(out)
	p.readPIDFile(build)
	switch {
	case len(p.owners.modules) > 0 || slices.Contains(build, "--with-stream"):
	case p.Family().Package(streamPackage) == "":
		p.module = "load_module " + filepath.Join(built(build, "--modules-path"), "ngx_stream_module.so") + ";"
		p.owners.modules = []string{p.module + "\n"}
	default:
		missing = []string{streamPackage}
	}
	return missing, nil
}

// built is what nginx was built with; "" if that is not known.
func built(build []string, option string) string {
	for _, word := range build {
		if value, ok := strings.CutPrefix(word, option+"="); ok {
			return value
		}
	}
	return ""
}

// readPIDFile finds where nginx writes its process id: packages differ within a family, too.
func (p *installer) readPIDFile(build []string) {
	n := p.nginx
	p.usual = n.Settings.PIDFile
	path := cmp.Or(p.owners.pidFile, built(build, "--pid-path"))
	if rest, old := strings.CutPrefix(path, "/var/run/"); old {
		path = "/run/" + rest // where that leads
	}
	if filepath.IsAbs(path) && engine.PlainPath(path) {
		n.Settings.PIDFile = filepath.Clean(path)
	}
}

// Settings name the owner's files that are others than those of the machine's family.
func (p *installer) Settings() string {
	text := ""
	log, usual := p.owners.errorLog, p.nginx.Log[len(p.nginx.Log)-1]
	if log != "stderr" && filepath.IsAbs(log) && engine.PlainPath(log) && log != usual {
		text += "  log: [sudo, -n, /usr/bin/tail, -c, \"65536\", " + log + "]\n"
	}
	if path := p.nginx.Settings.PIDFile; path != p.usual {
		text += "  pidFile: " + path + "\n"
	}
	if text == "" {
		return ""
	}
	return "nginx:\n" + text
}

func (p *installer) Kernel() []engine.KernelSetting { return nil }

func (p *installer) Files() error {
	if err := p.File("check configuration", p.nginx.CheckConf, p.nginx.CheckText(p.owners.modules), 0o644); err != nil {
		return err
	}
	if err := p.File("include file", p.nginx.IncludeConf, p.nginx.IncludeText(), 0o644); err != nil {
		return err
	}
	if err := p.File("include file", p.nginx.HTTPConf, p.nginx.HTTPIncludeText(), 0o644); err != nil {
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

// Include adds a line to the owner's stream block and one to the http block, or a file
// beside them.
func (p *installer) Include(ctx context.Context) error {
	return errors.Join(p.loadModule(ctx), p.includeStream(ctx), p.includeHTTP(ctx))
}

// loadModule lets nginx have stream where its package brings that and does not load it.
func (p *installer) loadModule(ctx context.Context) error {
	if p.module == "" {
		return nil
	}
	path := p.nginx.Conf
	return p.change(ctx, path, "add `"+p.module+"` to the beginning of "+path, func(text string) string { return p.module + "\n" + text })
}

func (p *installer) includeStream(ctx context.Context) error {
	n := p.nginx
	line := "include " + n.IncludeConf + ";"
	if p.owners.included[n.IncludeConf] {
		return p.Step("include", "nginx includes "+n.IncludeConf, true, nil)
	}
	if p.owners.stream != "" {
		return p.addLine(ctx, p.owners.stream, "stream", line)
	}
	block := "stream { " + line + " }\n"
	if dir := p.reads(p.owners.dirs, "modules-enabled", "conf.d"); dir != "" {
		return p.addFile(ctx, filepath.Join(dir, "99-external-lb.conf"), block)
	}
	return p.addBlock(ctx, block)
}

func (p *installer) includeHTTP(ctx context.Context) error {
	n := p.nginx
	line := "include " + n.HTTPConf + ";"
	switch dir := p.reads(p.owners.httpDirs, "conf.d", "http.d"); {
	case p.owners.included[n.HTTPConf]:
		return p.Step("include", "nginx includes "+n.HTTPConf, true, nil)
	case p.owners.http == "":
		return p.addBlock(ctx, "http { "+line+" }\n")
	case dir != "":
		return p.addFile(ctx, filepath.Join(dir, "external-lb.conf"), line+"\n")
	}
	return p.addLine(ctx, p.owners.http, "http", line)
}

// reads finds the first of some directories beside the main file of which all files are
// among those of some patterns; "" if there is none.
func (p *installer) reads(patterns []string, dirs ...string) string {
	for _, dir := range dirs {
		beside := filepath.Join(filepath.Dir(p.nginx.Conf), dir)
		if slices.Contains(patterns, beside+"/*.conf") || slices.Contains(patterns, dir+"/*.conf") {
			return beside
		}
	}
	return ""
}

func (p *installer) addLine(ctx context.Context, path, block, line string) error {
	return p.change(ctx, path, "add `"+line+"` to the "+block+" block in "+path, func(text string) string { return within(text, block, line) })
}

func (p *installer) addFile(ctx context.Context, path, text string) error {
	return p.change(ctx, path, path, func(string) string { return "# Made by `external-lb host install`.\n" + text })
}

func (p *installer) addBlock(ctx context.Context, block string) error {
	path := p.nginx.Conf
	return p.change(ctx, path, "add `"+strings.TrimSpace(block)+"` to "+path, func(text string) string {
		return strings.TrimRight(text, "\n") + "\n\n" + block
	})
}

// change a file of nginx's in a step, after which it must load something.
func (p *installer) change(ctx context.Context, path, detail string, change func(string) string) error {
	p.Change()
	return p.Step("include", detail, false, func() error { return p.edit(ctx, path, change) })
}

// edit changes a file of nginx's, unless nginx refuses the result.
func (p *installer) edit(ctx context.Context, path string, change func(string) string) error {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := err == nil
	if err := engine.EditFile(path, []byte(change(string(before)))); err != nil {
		return err
	}
	n := p.nginx
	err = engine.Do(ctx, p, n.Binary, "-t", "-q", "-c", n.Conf)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("nginx refuses it, so it was undone: %w", err)
	if was {
		return errors.Join(err, engine.EditFile(path, before))
	}
	return errors.Join(err, os.Remove(path))
}

// Confinement: SELinux lets nginx read what is delivered, and neither connect to nodePorts nor
// listen on ports that are not for HTTP, the proof's among them.
func (p *installer) Confinement() engine.Confinement {
	_, proof, _ := net.SplitHostPort(p.nginx.Proof) // validated
	const port = "semanage port -a -t http_port_t -p tcp "
	return engine.Confinement{SELinux: []string{"setsebool -P httpd_can_network_connect on", port + proof}, PerPort: port + "PORT"}
}

func (p *installer) Load(ctx context.Context) error {
	const name = "nginx"
	said, err := p.nginx.Ask(ctx)
	if err == nil && !p.Changed() {
		p.Report(name, engine.StepPresent, "runs "+said.Digest.Short())
		return nil
	}
	if running, _ := p.nginx.Processes(0); !running {
		p.Report(name, engine.StepWarning, "does not run: start it ("+p.Family().HowToStart("nginx")+")")
		return nil
	}
	return p.Reload(ctx, name)
}
