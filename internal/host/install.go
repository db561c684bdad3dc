package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// InstallOptions say how a machine is to be prepared.
type InstallOptions struct {
	// Engine is nginx, haproxy or lvs; default: what the machine's settings say, or nginx.
	Engine string
	// AuthorizedKeys may deliver: each is a public key, or the name of a file with
	// public keys, one a line.
	AuthorizedKeys []string
	// Command is this program, which the keys run; default /usr/local/bin/external-lb.
	Command string
	// VRRP lets keepalived move the addresses between this machine and others.
	VRRP bool
	// NonlocalBind lets the daemon listen on addresses that the machine does not have
	// (yet), with a sysctl. VRRP needs it.
	NonlocalBind bool
	// DryRun changes nothing and says what would be done.
	DryRun bool
}

// StepResult is what became of a Step.
type StepResult string

// The results.
const (
	StepPresent StepResult = "present" // was there already
	StepDone    StepResult = "done"
	StepWould   StepResult = "would do" // in a dry run
	StepWarning StepResult = "warning"  // nothing done; Detail says what the administrator may want to do
	StepFailed  StepResult = "failed"   // and the error says why
)

// Step is one thing that a machine needs.
type Step struct {
	Name   string
	Result StepResult
	Detail string // what it is, or what to do
}

// account is the user that the controller logs in as.
const account = "external-lb"

// Install prepares this machine for deliveries; it must run as root. A second
// time it changes nothing. It returns the steps up to the one that failed.
func Install(ctx context.Context, o InstallOptions) ([]Step, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("preparing a machine takes root: run it with sudo")
	}
	setDefault(&o.Command, "/usr/local/bin/external-lb")
	if !filepath.IsAbs(o.Command) || !plainPath(o.Command) {
		return nil, fmt.Errorf("command %q: want an absolute path of letters, digits and /._-", o.Command)
	}
	in := &installer{InstallOptions: o, run: machine{}, settingsPath: SettingsPath}
	for _, step := range []func(context.Context) error{
		in.packages, in.settingsFile, in.user, in.directories, in.daemonFiles, in.firstGeneration, in.daemonIncludes,
		in.sudoers, in.keys, in.sysctl, in.daemonLoads, in.wildcards,
	} {
		if err := step(ctx); err != nil {
			return in.steps, err
		}
	}
	return in.steps, nil
}

// installer prepares a machine step by step; each uses what those before found.
type installer struct {
	InstallOptions
	run          runner
	steps        []Step
	settingsPath string

	settings Settings // of root
	parts    []*part  // the daemon that carries the traffic; and keepalived, with VRRP
	uid, gid int      // of the account; -1 in a dry run that would create it
	home     string   // of the account
}

// part of a machine: a daemon and what is delivered to it.
type part struct {
	agent    *Agent // with the settings of root
	preparer preparer
	changed  bool // the daemon must load something
}

// each part in its turn.
func (in *installer) each(do func(p *part) error) error {
	for _, p := range in.parts {
		if err := do(p); err != nil {
			return err
		}
	}
	return nil
}

// preparer does what differs by engine.
type preparer interface {
	programs() []program                                    // that must be installed
	read(ctx context.Context) (missing []string, err error) // reads the owner's configuration, which must be sound
	found() string                                          // what programs and read have found, in words
	settings() string                                       // lines of the machine's settings that are not the defaults
	files() error                                           // makes those that stand between the daemon and the deliveries
	include(ctx context.Context) error                      // lets the owner's daemon read what is delivered
	load(ctx context.Context) error                         // lets the daemon read all that once, if it runs, and wants the proof
}

// program that a package brings.
type program struct{ path, pkg string }

// packages finds what must be installed before, and reads the owner's configuration.
func (in *installer) packages(ctx context.Context) error {
	const name = "packages"
	if err := in.readSettings(); err != nil {
		return in.fail(name, err)
	}
	var missing []string
	needs := []program{{"sudo", "sudo"}, {"/usr/sbin/visudo", "sudo"}, {"/usr/sbin/sshd", "openssh-server"}, {"/usr/sbin/useradd", "passwd"}}
	var found []string
	for _, p := range in.parts {
		needs = append(p.preparer.programs(), needs...)
		found = append(found, p.preparer.found())
	}
	for _, need := range needs {
		if _, err := exec.LookPath(need.path); err != nil && !slices.Contains(missing, need.pkg) {
			missing = append(missing, need.pkg)
		}
	}
	if !slices.Contains(missing, in.settings.Engine) {
		err := in.each(func(p *part) error {
			more, err := p.preparer.read(ctx)
			missing = append(missing, more...)
			return err
		})
		if err != nil {
			return in.fail(name, err)
		}
	}
	if len(missing) > 0 {
		return in.fail(name, errors.New("missing: apt-get install "+strings.Join(missing, " ")))
	}
	in.report(name, StepPresent, strings.Join(append(found, "sudo", "sshd"), ", "))
	return nil
}

func (in *installer) daemonFiles(context.Context) error {
	return in.each(func(p *part) error { return p.preparer.files() })
}

func (in *installer) daemonIncludes(ctx context.Context) error {
	return in.each(func(p *part) error { return p.preparer.include(ctx) })
}

func (in *installer) daemonLoads(ctx context.Context) error {
	return in.each(func(p *part) error { return p.preparer.load(ctx) })
}

func (in *installer) firstGeneration(ctx context.Context) error {
	return in.each(func(p *part) error {
		present := p.agent.initialised()
		p.changed = p.changed || !present
		return in.step("first configuration", "empty, in "+p.agent.dir, present, func() error { return p.agent.initialise(ctx) })
	})
}

// loadStep lets a daemon that runs load what is live, and wants the proof.
func (in *installer) loadStep(ctx context.Context, name string, p *part) error {
	return in.step(name, "reload it, and have the configuration proved", false, func() error {
		s, err := openStore(p.agent.dir)
		if err != nil {
			return err
		}
		defer s.close() // nothing is written to a directory
		st, err := s.readState()
		if err != nil {
			return err
		}
		return p.agent.reloadGood(ctx, s, st.Good)
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

// step does one thing, unless it is there already.
func (in *installer) step(name, detail string, present bool, do func() error) error {
	result := StepPresent
	switch {
	case present:
	case in.DryRun:
		result = StepWould
	default:
		result = StepDone
		if err := do(); err != nil {
			in.report(name, StepFailed, detail)
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	in.report(name, result, detail)
	return nil
}

func (in *installer) report(name string, result StepResult, detail string) {
	in.steps = append(in.steps, Step{name, result, detail})
}

// fail is a step that nothing can be done about.
func (in *installer) fail(name string, err error) error {
	in.report(name, StepFailed, err.Error())
	return fmt.Errorf("%s: %w", name, err)
}

// command runs a command for its effect.
func (in *installer) command(ctx context.Context, argv ...string) error {
	if out, err := in.run.Run(ctx, argv); err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, oneLine(out))
	}
	return nil
}

// file makes sure that a file has a content, and that root owns it.
func (in *installer) file(name, path string, data []byte, mode fs.FileMode) error {
	have, err := os.ReadFile(path)
	return in.step(name, path, err == nil && bytes.Equal(have, data), func() error { return replaceFile(path, data, mode) })
}

// replaceFile writes a file of root's so that it is never seen half written.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+base+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// link makes sure that a link leads somewhere. What is there and is no link is
// somebody else's.
func (in *installer) link(name, path, target string) error {
	have, err := os.Readlink(path)
	return in.step(name, path+" → "+target, err == nil && have == target, func() error {
		if err == nil {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		return os.Symlink(target, path)
	})
}

// directory makes sure that a directory is there and whose it is.
func (in *installer) directory(path string, mode fs.FileMode, uid, gid int) error {
	info, err := os.Stat(path)
	present := err == nil && info.IsDir() && info.Mode().Perm() == mode && ownedBy(info, uid, gid)
	return in.step("directory", path, present, func() error {
		return errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode), os.Chown(path, uid, gid))
	})
}
