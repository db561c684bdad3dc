package host

import (
	"os"
	"slices"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/preview"
)

// A power failure after the swap must not leave files with which the daemon does not start.
// So all that it reads is tested before, by its own command and under the paths that it has
// then: in a namespace of mounts where the candidate lies over what is live.

// preview is a command for which the candidate is live.
func (u *unit) preview(argv []string) []string {
	command, _ := engine.WithoutSudo(argv)
	return preview.Command(argv[:len(argv)-len(command)], u.settings.program, u.dir, command)
}

// Where this program is on a machine that is prepared: copied there by its owner, or by a
// package.
const (
	installed = "/usr/local/bin/external-lb"
	packaged  = "/usr/bin/external-lb"
)

// thisProgram is its path: as sudo's rules have it, where links lead there.
func thisProgram() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	this, err := os.Stat(path)
	for _, place := range []string{installed, packaged} {
		if there, thereErr := os.Stat(place); err == nil && thereErr == nil && os.SameFile(this, there) {
			return place, nil
		}
	}
	return path, err
}

// programPath is where keys, rights and services find this program: where it is, or, when it is
// elsewhere, where its owner is told to copy it.
func programPath() (string, error) {
	program, err := thisProgram()
	if program != packaged {
		program = installed
	}
	return program, err
}

// asItIs is a command for which nothing is other than it is.
func asItIs(argv []string) []string { return argv }

// commands are those that the account must be allowed.
func (u *unit) commands() [][]string {
	all := u.daemon.Commands()
	if d, can := u.daemon.(engine.WholeChecker); can {
		all = append(slices.Clip(all), u.preview(d.Whole()))
	}
	for _, argv := range [][]string{u.startCommand(), u.relieveCommand(), u.endLeftCommand()} {
		if argv != nil {
			all = append(slices.Clip(all), argv)
		}
	}
	return all
}
