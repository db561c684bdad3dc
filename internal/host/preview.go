package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
)

// A power failure after the swap must not leave files with which the daemon does not start.
// So all that it reads is tested before, by its own command and under the paths that it has
// then: in a namespace of mounts where the candidate lies over what is live.

// preview is a command for which the candidate is live.
func (u *unit) preview(argv []string) []string {
	command, _ := engine.WithoutSudo(argv)
	sudo := argv[:len(argv)-len(command)]
	return slices.Concat(sudo, []string{u.settings.program, "host", "preview", u.dir}, command)
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

// Preview becomes a command for which the candidate in the directory of a store is live.
// It is root's: the account, whose the directory is, leads it nowhere else by links.
func Preview(dir string, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err == nil {
		runtime.LockOSThread() // the namespace is this thread's, and the command's after that
		err = overlay(dir)
	}
	if err == nil {
		err = syscall.Exec(path, argv, os.Environ())
	}
	return fmt.Errorf(engine.CannotPreview+"%w", err)
}

// overlay lays the candidate over what is live, for this thread alone.
func overlay(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	store, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	candidate, err := filesBehind(store, engine.CandidateLink)
	if err != nil {
		return err
	}
	live, err := filesBehind(store, engine.LiveLink)
	if err != nil {
		return err
	}
	return os.NewSyscallError("mount", unix.Mount(inProc(candidate), inProc(live), "", unix.MS_BIND, ""))
}

func inProc(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

var filesOfGeneration = regexp.MustCompile(`^` + engine.GenerationsDir + `/[0-9]+/` + engine.FilesDir + `$`)

// filesBehind opens the files that a link of a store leads to, and nothing else.
func filesBehind(store int, link string) (fd int, err error) {
	target := make([]byte, 64)
	n, err := unix.Readlinkat(store, link, target)
	if err != nil {
		return -1, &os.PathError{Op: "readlink", Path: link, Err: err}
	}
	if !filesOfGeneration.Match(target[:n]) {
		return -1, errors.New(link + " does not lead to a generation")
	}
	fd, err = unix.Openat2(store, string(target[:n]), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: link, Err: err}
	}
	return fd, nil
}
