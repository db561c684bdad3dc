package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// InstallOptions say how a machine is to be prepared.
type InstallOptions struct {
	// AuthorizedKeys may deliver: each is a public key, or the name of a file with
	// public keys, one a line.
	AuthorizedKeys []string
	// Command is this program, which the keys run; default /usr/local/bin/external-lb.
	Command string
	// NonlocalBind lets nginx listen on addresses that the machine does not have
	// (yet), with a sysctl.
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
		in.packages, in.settingsFile, in.user, in.directories, in.nginxFiles, in.firstGeneration, in.include,
		in.sudoers, in.keys, in.sysctl, in.load, in.wildcards,
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

	settings Settings   // of root
	agent    *Agent     // with those
	owners   ownersConf // nginx's configuration as it is
	uid, gid int        // of the account; -1 in a dry run that would create it
	home     string     // of the account
	changed  bool       // nginx must load something
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

// directory makes sure that a directory is there and whose it is.
func (in *installer) directory(path string, mode fs.FileMode, uid, gid int) error {
	info, err := os.Stat(path)
	present := err == nil && info.IsDir() && info.Mode().Perm() == mode && ownedBy(info, uid, gid)
	return in.step("directory", path, present, func() error {
		return errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode), os.Chown(path, uid, gid))
	})
}
