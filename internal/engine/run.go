package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/preview"
)

// commandTimeout is how long the daemon's own check may take, also on a machine that is merely slow.
const commandTimeout = 10 * time.Minute

// Runner runs commands: the machine, or one that fails in a test.
type Runner interface {
	// Run returns what the command printed on both outputs. The error says that
	// it could not run or did not exit with 0.
	Run(ctx context.Context, argv []string) (string, error)
}

// Machine runs commands for real.
type Machine struct{}

// raiseOpenFiles lets the commands open as many files as this process may: the
// daemon's check opens every listener.
var raiseOpenFiles = sync.OnceFunc(func() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // a check that needs more will say so
	}
})

func (Machine) Run(ctx context.Context, argv []string) (string, error) {
	return runWithin(ctx, commandTimeout, (*os.Process).Kill, argv)
}

// runWithin kills what takes longer than a limit. What sudo runs is root's and cannot be killed:
// then what it has to say is waited for, and counts.
func runWithin(ctx context.Context, limit time.Duration, kill func(*os.Process) error, argv []string) (string, error) {
	raiseOpenFiles()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	late := time.AfterFunc(limit, func() { _ = kill(cmd.Process) }) // or it ends by itself
	err := cmd.Wait()
	inTime := late.Stop()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case !inTime && failed && !exit.Exited():
		err = fmt.Errorf("took longer than %s: is the host overloaded?", limit)
	}
	return out.String(), err
}

// Verdict runs a command of a daemon: its words if it refuses, or an error if it
// cannot be run at all. excerpt finds the words that matter in what it prints.
func Verdict(ctx context.Context, r Runner, argv []string, packages string, excerpt func(string) string) (words string, err error) {
	out, err := r.Run(ctx, argv)
	return VerdictOn(ctx, out, err, argv, packages, excerpt)
}

// VerdictOn is the Verdict of a command that has run.
func VerdictOn(ctx context.Context, out string, err error, argv []string, packages string, excerpt func(string) string) (words string, _ error) {
	out = sudoMinds.ReplaceAllString(out, "")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case strings.Contains(out, preview.Cannot):
		return "", Failed("%s", OneLine(out))
	case sudoRefuses.MatchString(out):
		return "", Failed("sudo does not let this user run %q: %s; run `external-lb host install` again", strings.Join(argv, " "), OneLine(out))
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", Failed("%s is not installed: install the packages %s sudo", argv[0], packages)
	case !errors.As(err, &exit):
		return "", Failed("%q: %v", strings.Join(argv, " "), err)
	}
	return cmp.Or(excerpt(out), OneLine(out), fmt.Sprintf("%q: %v", strings.Join(argv, " "), err)), nil
}

// What sudo says of itself: it minds some things and runs the command all the same.
var (
	sudoMinds   = regexp.MustCompile(`(?m)^sudo: (?:unable to resolve host |setrlimit\(|unable to send audit message).*\n?`)
	sudoRefuses = regexp.MustCompile(`(?m)^sudo: `)
)

// OneLine makes any output fit for a message.
func OneLine(out string) string {
	text := strings.Join(strings.Fields(out), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// Do runs a command for its effect.
func Do(ctx context.Context, r Runner, argv ...string) error {
	if out, err := r.Run(ctx, argv); err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, OneLine(out))
	}
	return nil
}

// Fault is what the machine could not do; what ran before runs on.
type Fault struct{ message string }

func (f *Fault) Error() string { return f.message }

// Failed makes a Fault, which says what to do.
func Failed(format string, args ...any) error { return &Fault{fmt.Sprintf(format, args...)} }

// WithoutSudo is the command that runs as root.
func WithoutSudo(argv []string) (command []string, viaSudo bool) {
	if len(argv) < 3 || (argv[0] != "sudo" && argv[0] != "/usr/bin/sudo") || argv[1] != "-n" {
		return argv, false
	}
	return argv[2:], true
}
