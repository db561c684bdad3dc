// Package preview runs a daemon's own check of a candidate as if that were live: under the paths, and with
// all else, that the daemon will read. An agent runs it as root once or more for each delivery, so it is small,
// and done before anything else of this program is initialised: see docs/design/0032-preview-before-all-else.md.
package preview

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What lies in a store's directory.
const (
	LiveLink       = "live"      // → the files that the daemon includes
	CandidateLink  = "candidate" // → the files that the isolated check includes
	GenerationsDir = "gen"       // gen/7/files
	FilesDir       = "files"
)

// Cannot begins what is said where a command cannot be shown a candidate as live.
const Cannot = "external-lb cannot show the candidate as live: "

// The words after the program's name: `external-lb host preview DIRECTORY COMMAND…`.
var words = []string{"host", "preview"}

// Command is a command for which the candidate in the directory of a store is live, run by a program
// that this package is part of. What is before it, such as sudo, stays before it.
func Command(before []string, program, dir string, argv []string) []string {
	return slices.Concat(before, []string{program}, words, []string{dir}, argv)
}

// Go initialises packages in the order of their paths, as far as imports allow: this one comes before those of
// Kubernetes, since what it imports is what nearly all packages do. Regular expressions would make it come late.
func init() {
	if len(os.Args) < 5 || !slices.Equal(os.Args[1:3], words) {
		return
	}
	fmt.Fprintf(os.Stderr, "%s%v\n", Cannot, become(os.Args[3], os.Args[4:]))
	os.Exit(1)
}

// become a command for which the candidate in the directory of a store is live. It is root's: the account,
// whose the directory is, leads it nowhere else by links.
func become(dir string, argv []string) error {
	path, err := lookUp(argv[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the namespace is this thread's, and the command's after that
	if err := overlay(dir); err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}

// lookUp finds a program as a shell would.
func lookUp(name string) (path string, err error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		if path = dir + "/" + name; strings.HasPrefix(dir, "/") && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", &os.PathError{Op: "look up", Path: name, Err: syscall.ENOENT}
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
	candidate, err := filesBehind(store, CandidateLink)
	if err != nil {
		return err
	}
	live, err := filesBehind(store, LiveLink)
	if err != nil {
		return err
	}
	return os.NewSyscallError("mount", unix.Mount(inProc(candidate), inProc(live), "", unix.MS_BIND, ""))
}

func inProc(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// filesBehind opens the files that a link of a store leads to, and nothing else.
func filesBehind(store int, link string) (fd int, err error) {
	target := make([]byte, 64)
	n, err := unix.Readlinkat(store, link, target)
	if err != nil {
		return -1, &os.PathError{Op: "readlink", Path: link, Err: err}
	}
	generation, begins := strings.CutPrefix(string(target[:n]), GenerationsDir+"/")
	generation, ends := strings.CutSuffix(generation, "/"+FilesDir)
	if !begins || !ends || generation == "" || strings.Trim(generation, "0123456789") != "" {
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
