package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// packages finds what must be installed before, and reads nginx's configuration.
func (in *installer) packages(ctx context.Context) error {
	const name = "packages"
	var missing []string
	for _, need := range []struct{ program, pkg string }{
		{DefaultSettings().Nginx.Binary, "nginx"}, {"sudo", "sudo"}, {"/usr/sbin/visudo", "sudo"}, {"/usr/sbin/sshd", "openssh-server"},
		{"/usr/sbin/useradd", "passwd"}, {"/usr/bin/tail", "coreutils"},
	} {
		if _, err := exec.LookPath(need.program); err != nil && !slices.Contains(missing, need.pkg) {
			missing = append(missing, need.pkg)
		}
	}
	if err := in.readSettings(); err != nil {
		return in.fail(name, err)
	}
	if !slices.Contains(missing, "nginx") {
		hasStream, err := in.readNginx(ctx)
		if err != nil {
			return in.fail(name, err)
		}
		if !hasStream {
			missing = append(missing, "libnginx-mod-stream")
		}
	}
	if len(missing) > 0 {
		return in.fail(name, errors.New("missing: apt-get install "+strings.Join(missing, " ")))
	}
	in.report(name, StepPresent, "nginx with stream, sudo, sshd")
	return nil
}

// readNginx reads the owner's configuration, which must be sound.
func (in *installer) readNginx(ctx context.Context) (hasStream bool, err error) {
	n := in.settings.Nginx
	version, err := (&nginx{n, in.run}).version(ctx)
	if err != nil {
		return false, err
	}
	if old := tooOld(version); old != "" {
		return false, errors.New(old)
	}
	dump, err := in.run.Run(ctx, []string{n.Binary, "-T", "-q", "-c", n.Conf})
	if err != nil {
		words := emergencies(dump)
		return false, fmt.Errorf("nginx refuses its own configuration: %s; mend that first", oneLine(words))
	}
	in.owners = readOwnersConf(dump, n.Conf)
	if len(in.owners.modules) > 0 {
		return true, nil
	}
	build, err := in.run.Run(ctx, []string{n.Binary, "-V"})
	if err != nil {
		return false, fmt.Errorf("%s -V: %w", n.Binary, err)
	}
	return slices.Contains(strings.Fields(build), "--with-stream"), nil
}

// nginxFiles are those that stand between nginx and the deliveries.
func (in *installer) nginxFiles(context.Context) error {
	n := in.settings.Nginx
	if err := in.file("check configuration", n.CheckConf, in.agent.checkConf(in.owners.modules), 0o644); err != nil {
		return err
	}
	return in.file("include file", n.IncludeConf, in.agent.includeConf(), 0o644)
}

func (in *installer) firstGeneration(ctx context.Context) error {
	present := in.agent.initialised()
	in.changed = in.changed || !present
	return in.step("first configuration", "empty, in "+in.agent.dir, present, func() error { return in.agent.initialise(ctx) })
}

// include lets the owner's nginx read what is delivered, with one line in his
// configuration or one file beside it.
func (in *installer) include(ctx context.Context) error {
	n := in.settings.Nginx
	line := "include " + n.IncludeConf + ";"
	if in.owners.included[n.IncludeConf] {
		return in.step("include", "nginx includes "+n.IncludeConf, true, nil)
	}
	in.changed = true
	if s := in.owners.stream; s != nil {
		return in.step("include", "add `"+line+"` to the stream block in "+s.path, false, func() error {
			return in.edit(ctx, s.path, func(text string) string {
				return text[:s.offset] + "\n    " + line + text[s.offset:]
			})
		})
	}
	block := "stream { " + line + " }\n"
	beside := filepath.Join(filepath.Dir(n.Conf), "modules-enabled")
	if slices.ContainsFunc(in.owners.dirs, func(p string) bool { return p == beside+"/*.conf" || p == "modules-enabled/*.conf" }) {
		path := filepath.Join(beside, "99-external-lb.conf")
		return in.step("include", path, false, func() error {
			return in.edit(ctx, path, func(string) string { return "# Made by `external-lb host install`.\n" + block })
		})
	}
	return in.step("include", "add `"+strings.TrimSpace(block)+"` to "+n.Conf, false, func() error {
		return in.edit(ctx, n.Conf, func(text string) string { return strings.TrimRight(text, "\n") + "\n\n" + block })
	})
}

// edit changes a file of nginx's, unless nginx refuses the result.
func (in *installer) edit(ctx context.Context, path string, change func(string) string) error {
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
	n := in.settings.Nginx
	err = in.command(ctx, n.Binary, "-t", "-q", "-c", n.Conf)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("nginx refuses it, so it was undone: %w", err)
	if was {
		return errors.Join(err, replaceFile(path, before, 0o644))
	}
	return errors.Join(err, os.Remove(path))
}

// load lets nginx read all that once, if it runs, and wants the proof.
func (in *installer) load(ctx context.Context) error {
	const name = "nginx"
	n := in.agent.nginx
	said, err := n.ask(ctx)
	if err == nil && !in.changed {
		in.report(name, StepPresent, "runs "+said.digest.Short())
		return nil
	}
	if master, _ := n.workers(); master == 0 {
		in.report(name, StepWarning, "does not run: start it (systemctl enable --now nginx)")
		return nil
	}
	return in.step(name, "reload it, and have the configuration proved", false, func() error {
		s, err := openStore(in.agent.dir)
		if err != nil {
			return err
		}
		defer s.close() // nothing is written to a directory
		st, err := s.readState()
		if err != nil {
			return err
		}
		return in.agent.reloadGood(ctx, s, st.Good)
	})
}

// wildcards warns of programs that take a port on every address.
func (in *installer) wildcards(context.Context) error {
	names := processes()
	seen := map[uint16]bool{}
	for _, l := range listeners() {
		port := l.Address.Port()
		if l.Network != "tcp" || !l.Address.Addr().IsUnspecified() || (port != 80 && port != 443) || seen[port] {
			continue
		}
		seen[port] = true
		in.report("ports", StepWarning, "no Service can have this port: "+describe(l, fileset.Socket{Network: "tcp", Address: l.Address}, names[l.inode]))
	}
	return nil
}
