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

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// InstallOptions say how a machine is to be prepared.
type InstallOptions struct {
	// Engine is one of the table; default: what the machine's settings say, or the first.
	Engine string
	// Family of distributions whose layout this machine has; default: the one that it says.
	Family string
	// Datagrams is the engine that carries all that is not TCP; default: what the machine's
	// settings say, or the one above.
	Datagrams string
	// AuthorizedKeys may deliver: each is a public key, or the name of a file with
	// public keys, one a line.
	AuthorizedKeys []string
	// Command is this program, which the keys run; default /usr/bin/external-lb if a package
	// has brought it, else /usr/local/bin/external-lb.
	Command string
	// VRRP lets addresses move between this machine and others.
	VRRP bool
	// NonlocalBind lets the daemon listen on addresses that the machine does not have
	// (yet), with a sysctl. VRRP needs it.
	NonlocalBind bool
	// Admit says what a machine that is prepared for the first time may carry. Later, its
	// settings are the administrator's.
	Admit admit.Rules
	// DryRun changes nothing and says what would be done.
	DryRun bool
}

// Step is one thing that a machine needs.
type Step struct {
	Name   string
	Result engine.StepResult
	Detail string // what it is, or what to do
}

// account is the user that the controller logs in as.
const account = "external-lb"

// Install prepares this machine for deliveries; it must run as root. A second
// time it changes nothing. It returns the steps up to the one that failed.
func Install(ctx context.Context, o InstallOptions, t *engine.Table) ([]Step, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("preparing a machine takes root: run it with sudo")
	}
	program, err := programPath()
	if err != nil {
		return nil, err
	}
	engine.SetDefault(&o.Command, program)
	if !filepath.IsAbs(o.Command) || !engine.PlainPath(o.Command) {
		return nil, fmt.Errorf("command %q: want an absolute path of letters, digits and /._-", o.Command)
	}
	in := &installer{InstallOptions: o, Runner: engine.Machine{}, table: t, settingsPath: SettingsPath}
	for _, step := range []func(context.Context) error{
		in.packages, in.settingsFile, in.user, in.directories, in.daemonFiles, in.firstGeneration, in.daemonIncludes,
		in.sudoers, in.keys, in.sysctl, in.confinement, in.daemonLoads, in.restoring, in.agent, in.wildcards, in.limits,
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
	engine.Runner
	table        *engine.Table
	steps        []Step
	settingsPath string

	settings Settings // of root
	parts    []*part  // a daemon each, in the order of deliveries
	uid, gid int      // of the account; -1 in a dry run that would create it
	home     string   // of the account
}

// part of a machine: a daemon and what is delivered to it.
type part struct {
	*installer
	engine.Installer
	unit    *unit // with the settings of root
	changed bool  // the daemon must load something
}

// Account that deliveries are made by.
func (p *part) Account() (uid, gid int) { return p.uid, p.gid }

// Family that the machine is of.
func (p *part) Family() *engine.Family { return p.settings.family }

// Change notes that the daemon must load something.
func (p *part) Change() { p.changed = true }

// Changed reports whether the daemon must load something.
func (p *part) Changed() bool { return p.changed }

// each part in its turn.
func (in *installer) each(do func(p *part) error) error {
	for _, p := range in.parts {
		if err := do(p); err != nil {
			return err
		}
	}
	return nil
}

// commonPrograms are needed whatever the daemon is.
var commonPrograms = []engine.Program{
	{Path: "sudo", Package: "sudo"}, {Path: "/usr/sbin/visudo", Package: "sudo"},
	{Path: "/usr/sbin/sshd", Package: "openssh-server"}, {Path: "/usr/sbin/useradd", Package: "passwd"},
}

// packages finds what must be installed before, and reads the owner's configuration.
func (in *installer) packages(ctx context.Context) error {
	const name = "packages"
	if err := in.readSettings(); err != nil {
		return in.fail(name, err)
	}
	family := in.settings.family
	in.sayFamily()
	var missing []string
	miss := func(programs ...engine.Program) {
		for _, need := range programs {
			if !there(need.Path) && !slices.Contains(missing, need.Package) {
				missing = append(missing, need.Package)
			}
		}
	}
	var found []string
	for _, p := range slices.Backward(in.parts) {
		miss(p.Programs()...)
	}
	miss(commonPrograms...)
	for _, p := range in.parts {
		if why := p.unit.Layouts[family.Name].Cannot; why != "" {
			return in.fail(name, errors.New(why))
		}
		found = append(found, p.Found())
		if slices.Contains(missing, p.Programs()[0].Package) {
			continue
		}
		more, err := p.Read(ctx)
		if err != nil {
			return in.fail(name, err)
		}
		missing = append(missing, more...)
	}
	if len(missing) > 0 {
		return in.fail(name, errors.New("missing: "+family.Get+" "+strings.Join(inFamily(family, missing), " ")))
	}
	in.Report(name, engine.StepPresent, strings.Join(append(found, "sudo", "sshd"), ", "))
	return nil
}

// there reports whether a program is there. BusyBox has many by their names, which know less.
func there(program string) bool {
	path, err := exec.LookPath(program)
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(path)
	return err == nil && filepath.Base(real) != "busybox"
}

// inFamily are the names of packages of Debian's in a family, each once.
func inFamily(f *engine.Family, packages []string) (names []string) {
	for _, debians := range packages {
		if name := f.Package(debians); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// sayFamily says what this machine is taken for.
func (in *installer) sayFamily() {
	const name = "family"
	taken := in.settings.family.Name
	is, id := engine.ThisFamily()
	switch {
	case is == in.settings.family && id == taken:
		in.Report(name, engine.StepPresent, id)
	case is == in.settings.family:
		in.Report(name, engine.StepPresent, id+", laid out as "+taken)
	case is == nil:
		in.Report(name, engine.StepWarning, fmt.Sprintf("%s is of no family that is known (%s), and is taken for %s: if its files lie elsewhere, give --family, or write their paths into %s and run this again",
			id, strings.Join(engine.FamilyNames(), ", "), taken, in.settingsPath))
	default:
		in.Report(name, engine.StepWarning, id+" is taken for "+taken+", as it was said")
	}
}

func (in *installer) daemonFiles(context.Context) error {
	return in.each(func(p *part) error { return p.Files() })
}

func (in *installer) daemonIncludes(ctx context.Context) error {
	return in.each(func(p *part) error { return p.Include(ctx) })
}

func (in *installer) daemonLoads(ctx context.Context) error {
	return in.each(func(p *part) error { return p.Load(ctx) })
}

func (in *installer) firstGeneration(ctx context.Context) error {
	a := &Agent{settings: in.settings}
	if err := in.Step("first model", "empty, in "+in.settings.modelDir(), a.initialised(), a.initialise); err != nil {
		return err
	}
	if err := in.whoDelivers(ctx); err != nil {
		return err
	}
	return in.each(func(p *part) error {
		present := p.unit.initialised()
		p.changed = p.changed || !present
		return in.Step("first configuration", "what is live, or else an empty one, in "+p.unit.dir, present, func() error { return p.unit.initialise(ctx) })
	})
}

// Reload lets a daemon that runs load what is live, and wants the proof.
func (p *part) Reload(ctx context.Context, name string) error {
	if p.unit.lacks() {
		p.Report(name, engine.StepWarning, "not reloaded: the last good configuration in "+p.unit.dir+" is damaged; the next delivery makes it anew")
		return nil
	}
	return p.Step(name, "reload it, and have the configuration proved", false, func() error {
		s, err := openStore(p.unit.dir)
		if err != nil {
			return err
		}
		defer s.close() // nothing is written to a directory
		st, err := s.readState()
		if err != nil {
			return err
		}
		_, err = p.unit.reloadGood(ctx, s, st.Good)
		return err
	})
}

// limits are the owner's. With ones that do not carry a balancer, all Services stop at once
// when one of them is busy: such a machine is not ready.
func (in *installer) limits(context.Context) error {
	var advice []string
	for _, p := range in.parts {
		if t, ok := p.Installer.(engine.Thrifty); ok {
			advice = append(advice, t.Short()...)
		}
	}
	if len(advice) > 0 {
		return in.fail("limits", errors.New("this host is prepared, but its own settings do not carry a balancer: "+strings.Join(advice, ", and ")+
			"; then let the daemon read that, and run this again"))
	}
	return nil
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
		in.Report("ports", engine.StepWarning, "no Service can have this port: "+describe(l, fileset.Socket{Network: "tcp", Address: l.Address}, names[l.inode], in.table))
	}
	return nil
}

// Step does one thing, unless it is there already.
func (in *installer) Step(name, detail string, present bool, do func() error) error {
	result := engine.StepPresent
	switch {
	case present:
	case in.DryRun:
		result = engine.StepWould
	default:
		result = engine.StepDone
		if err := do(); err != nil {
			in.Report(name, engine.StepFailed, detail)
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	in.Report(name, result, detail)
	return nil
}

// Report what became of a step.
func (in *installer) Report(name string, result engine.StepResult, detail string) {
	in.steps = append(in.steps, Step{name, result, detail})
}

// fail is a step that nothing can be done about.
func (in *installer) fail(name string, err error) error {
	in.Report(name, engine.StepFailed, err.Error())
	return fmt.Errorf("%s: %w", name, err)
}

// File makes sure that a file has a content, and that root owns it.
func (in *installer) File(name, path string, data []byte, mode fs.FileMode) error {
	have, err := os.ReadFile(path)
	present := err == nil && bytes.Equal(have, data)
	if present { // sshd and sudo ignore what they may not read, or what others could write
		info, err := os.Stat(path)
		present = err == nil && info.Mode().Perm() == mode.Perm() && ownedBy(info, os.Geteuid(), os.Getegid())
	}
	return in.Step(name, path, present, func() error { return engine.ReplaceFile(path, data, mode) })
}

// Link makes sure that a link leads somewhere. What is there and is no link is
// somebody else's.
func (in *installer) Link(name, path, target string) error {
	have, err := os.Readlink(path)
	return in.Step(name, path+" → "+target, err == nil && have == target, func() error {
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
	return in.Step("directory", path, present, func() error {
		return errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode), os.Chown(path, uid, gid))
	})
}
