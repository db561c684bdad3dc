package host

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// daemon is the software that carries this machine's traffic: how the files of a
// set become its configuration, how that is checked and loaded, and how the
// daemon says what it runs.
type daemon interface {
	runner

	name() string                                                   // as people write it
	version(ctx context.Context) (string, error)                    // of the binary, without asking the daemon
	tooOld(version string) string                                   // what to do about a version that lacks something; "" if it lacks nothing
	commands() [][]string                                           // those that the account must be allowed
	processes(current int) (running bool, old int)                  // old ones carry connections of earlier configurations; current is who answers
	limits(listeners, pid int) string                               // what stands in the way of so many listeners; "" if nothing
	unincluded() string                                             // what to do when it runs without this configuration
	stopped() string                                                // what to do when it does not run
	ask(ctx context.Context) (answer, error)                        // what it runs
	check(ctx context.Context, g *staged) (words string, err error) // tests a candidate by itself; words if the daemon refuses it

	// ownFile is the host's own file in a set's directory, which lets the daemon
	// say what it runs; own makes it, and announced reads what the daemon will say.
	ownFile() string
	own(g *staged) ([]byte, error)
	announced(own []byte) (fileset.Digest, bool)

	// reload makes the daemon load what is live, and waits until nothing but want
	// accepts connections. An error of type *refusal: it did not take it.
	reload(ctx context.Context, want fileset.Digest) error
	// provesWithin reports whether the daemon runs a configuration, or will soon.
	provesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool

	// blame finds the fragments that the daemon's words are about, and why each is
	// refused; lacks reports whether they are about the machine instead, and
	// advise says then what to do about it, or nil.
	blame(s suspects, words string) map[string]string
	lacks(words string) bool
	advise(words string, listeners int) error
	// stopsAtFirst: a check says nothing of the files behind the first that is wrong.
	stopsAtFirst() bool
}

func newDaemon(s Settings, r runner) daemon {
	switch s.Engine {
	case EngineHAProxy:
		return &haproxy{s.HAProxy, r, s.dir()}
	case EngineLVS:
		return newKeepalived(s, r)
	}
	return &nginx{s.Nginx, r, s.dir()}
}

// source is a file from which a configuration is put together.
type source struct {
	path string
	data []byte
}

// answer is what a daemon says that it runs.
type answer struct {
	version string // nginx/1.22.1
	pid     int    // of the process that answers
	digest  fileset.Digest
}

// refusal is what a daemon says instead of taking a configuration.
type refusal struct{ daemon, words string }

func (r *refusal) Error() string { return r.daemon + " refuses the configuration: " + r.words }

// proves reports whether the daemon runs a configuration now.
func proves(ctx context.Context, d daemon, want fileset.Digest) bool {
	for range answersIfSeen {
		if a, err := d.ask(ctx); err != nil || a.digest != want {
			return false
		}
	}
	return true
}

// How often a daemon must say the same in a row. Old workers answer for a moment
// after a reload; where they can be seen, it is known when they no longer do.
const (
	answersIfSeen   = 3
	answersIfUnseen = 20
	askEvery        = 10 * time.Millisecond
	readLogEvery    = 500 * time.Millisecond
)

// proof waits for one after a reload.
type proof struct {
	daemon  string
	ask     func(context.Context) (answer, error)
	want    fileset.Digest
	old     map[int]bool                // processes that accepted before
	accepts func(old map[int]bool) bool // whether any of them still does, as far as that can be seen
	seen    bool                        // what answers is all that there is
	refused func(late bool) string      // what the daemon has said against it meanwhile; "" nothing
	within  time.Duration
}

// wait until nothing but the configuration accepts connections.
func (p proof) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.within)
	defer cancel()
	need := answersIfUnseen
	if p.seen || len(p.old) > 0 && p.accepts != nil {
		need = answersIfSeen
	}
	again := time.NewTicker(askEvery)
	defer again.Stop()
	readLog := time.NewTicker(readLogEvery)
	defer readLog.Stop()
	streak := 0
	for {
		a, err := p.ask(ctx)
		if err == nil && a.digest == p.want && !p.old[a.pid] {
			streak++
		} else {
			streak = 0
		}
		if streak >= need && (p.accepts == nil || !p.accepts(p.old)) {
			return nil
		}
		select {
		case <-again.C:
		case <-readLog.C:
			if words := p.refused(false); words != "" {
				return &refusal{p.daemon, words}
			}
		case <-ctx.Done():
			return &refusal{p.daemon, cmp.Or(p.refused(true), fmt.Sprintf("it has not proved to run it within %s", p.within))}
		}
	}
}

// commandTimeout is how long the daemon's own check may take.
const commandTimeout = 2 * time.Minute

// runner runs commands: the machine, or one that fails in a test.
type runner interface {
	// Run returns what the command printed on both outputs. The error says that
	// it could not run or did not exit with 0.
	Run(ctx context.Context, argv []string) (string, error)
}

// machine runs commands for real.
type machine struct{}

// raiseOpenFiles lets the commands open as many files as this process may: the
// daemon's check opens every listener.
var raiseOpenFiles = sync.OnceFunc(func() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // a check that needs more will say so
	}
})

func (machine) Run(ctx context.Context, argv []string) (string, error) {
	raiseOpenFiles()
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return string(out), err
}

// verdict runs a command of a daemon: its words if it refuses, or an error if it
// cannot be run at all. excerpt finds the words that matter in what it prints.
func verdict(ctx context.Context, r runner, argv []string, packages string, excerpt func(string) string) (words string, err error) {
	out, err := r.Run(ctx, argv)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case strings.Contains(out, "sudo: "):
		return "", failed("sudo does not let this user run %q: %s; run `external-lb host install` again", strings.Join(argv, " "), oneLine(out))
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", failed("%s is not installed: apt-get install %s sudo", argv[0], packages)
	case !errors.As(err, &exit):
		return "", failed("%q: %v", strings.Join(argv, " "), err)
	}
	return cmp.Or(excerpt(out), oneLine(out), fmt.Sprintf("%q: %v", strings.Join(argv, " "), err)), nil
}

// oneLine makes any output fit for a message.
func oneLine(out string) string {
	text := strings.Join(strings.Fields(out), " ")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}

// children of the process in a pid file, by the beginning of their command line;
// master is 0 if that process does not run.
func children(pidFile, masterTitle, title string) (master int, all []int) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, nil
	}
	master, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !bytes.Contains(commandLine(master), []byte(masterTitle)) {
		return 0, nil
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return master, nil
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err == nil && parent(pid) == master && bytes.Contains(commandLine(pid), []byte(title)) {
			all = append(all, pid)
		}
	}
	return master, all
}

func commandLine(pid int) []byte {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // a process that has gone has none
	return data
}

func parent(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1]) // 0 is nobody's parent
	return ppid
}

// openFiles is how many files a process may open.
func openFiles(pid int) (int, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	m := openFilesLimit.FindSubmatch(data)
	if err != nil || m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}

var openFilesLimit = regexp.MustCompile(`(?m)^Max open files\s+(\d+)`)

func roundUp(n int) int { return (n + 1023) / 1024 * 1024 }

// older compares a version such as nginx/1.22.1 with the oldest that will do.
func older(version, product string, oldest [3]int) bool {
	var v [3]int
	number, ok := strings.CutPrefix(version, product+"/")
	if !ok {
		return false // what it cannot do, it will say itself
	}
	n, _ := fmt.Sscanf(number, "%d.%d.%d", &v[0], &v[1], &v[2]) // a release in the making may have no third number
	return n >= 2 && slices.Compare(v[:], oldest[:]) < 0
}
