package keepalived

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// Daemon is keepalived, which moves the addresses between hosts. It includes the
// files of a set as they are.
type Daemon struct {
	*Settings
	engine.Runner
	Dir string // of the store
	Set func(link string) (engine.Set, error)
	// Carrier is the pid file of the daemon that answers at the addresses; "": this one.
	Carrier string
	// Beside says what else it keeps; nil: nothing.
	Beside *Beside

	mu    sync.Mutex
	found string // the version
}

// Beside is what keepalived keeps beside the addresses, for an engine that is built
// on it.
type Beside struct {
	// Globals are lines among keepalived's global ones; shown is the name that its
	// second process takes.
	Globals func(shown string) string
	// Carries reports whether there is anything for that process to do: it starts then.
	Carries func() bool
	// Lacks looks at what is live, once, and makes what says how the machine is not as
	// that wants it; "" if it is.
	Lacks func() func() string
}

func open(p engine.Place) engine.Daemon {
	return &Daemon{Settings: p.Settings.(*Settings), Runner: p.Runner, Dir: p.Dir, Set: p.Set, Carrier: p.Carrier} // of Addresses.Settings
}

func (k *Daemon) Name() string       { return "keepalived" }
func (k *Daemon) OwnFile() string    { return "keepalived.conf" }
func (k *Daemon) StopsAtFirst() bool { return false }

func (k *Daemon) PIDFile() string { return k.Settings.PIDFile }

func (k *Daemon) Commands() [][]string {
	return [][]string{k.Settings.Check, k.CheckAll, k.Settings.Reload}
}

// Live is the file that the owner's configuration includes.
func (k *Daemon) Live() string { return filepath.Join(k.Dir, engine.LiveLink, k.OwnFile()) }

func (k *Daemon) Unincluded() string {
	return fmt.Sprintf("keepalived runs, but without external-lb's configuration: %s must contain `include %s`: run `external-lb host install`, then `systemctl reload keepalived`", k.Conf, k.Live())
}

func (k *Daemon) Stopped() string {
	return "keepalived does not run, so this host gets no addresses: start it (systemctl start keepalived); `journalctl -u keepalived` says what it may lack"
}

// processMark begins the name that keepalived's process takes with a
// configuration: any user can see that, and it changes with a reload. The kernel
// keeps 15 bytes of it.
const processMark = "elb-"

const markedDigits = 15 - len(processMark)

// Own makes keepalived show what it runs, and names what must run for a host to
// have the addresses. It is never empty: an empty configuration would drop every
// address. Without anything to do, keepalived would start no process that could
// show something; an empty block of routes makes it.
func (k *Daemon) Own(c engine.Candidate) ([]byte, error) {
	d := c.Digest()
	uid, _, err := engine.Owner(k.Dir)
	if err != nil {
		return nil, err
	}
	account, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil, err
	}
	shown := processMark + string(d[:markedDigits])
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Made by external-lb. Changes are overwritten.\n# digest: %s\nglobal_defs {\n    vrrp_process_name %s\n", d, shown)
	works := "/usr/bin/true" // a keepalived that does not run has no addresses either
	if k.Carrier != "" {
		works = "/usr/bin/pgrep -F " + k.Carrier
	}
	if k.Beside != nil {
		out.WriteString(k.Beside.Globals(shown))
	}
	fmt.Fprintf(&out, `}
static_routes {
}
vrrp_script external-lb {
    script "%s"
    user %s
    interval 1
    timeout 5
    fall 2
    rise 1
}
`, works, account.Username)
	paths := c.Paths()
	if slices.Contains(paths, mainPath) {
		fmt.Fprintf(&out, "include %s\n", mainPath)
	}
	if slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, engine.ServicesPrefix) }) {
		out.WriteString("include " + engine.ServicesPrefix + "*.conf\n")
	}
	return out.Bytes(), nil
}

var announcedMark = regexp.MustCompile(`(?m)^# digest: ([0-9a-f]{64})$`)

func (k *Daemon) Announced(own []byte) (fileset.Digest, bool) {
	m := announcedMark.FindSubmatch(own)
	if m == nil {
		return "", false
	}
	return fileset.Digest(m[1]), true
}

// Ask looks which configuration keepalived's process shows, and finds the
// generation that has it.
func (k *Daemon) Ask(ctx context.Context) (engine.Answer, error) {
	pid, shown := k.shown()
	if shown == "" {
		return engine.Answer{}, errors.New("keepalived shows no configuration of external-lb's")
	}
	version, err := k.Version(ctx)
	if err != nil {
		return engine.Answer{}, err
	}
	a := engine.Answer{Version: version, PID: pid, Digest: fileset.Digest(shown)}
	owns, err := filepath.Glob(filepath.Join(k.Dir, engine.GenerationsDir, "*", engine.FilesDir, k.OwnFile()))
	if err != nil {
		return a, err
	}
	for _, path := range owns {
		own, err := os.ReadFile(path)
		if d, ok := k.Announced(own); err == nil && ok && strings.HasPrefix(string(d), shown) {
			a.Digest = d
		}
	}
	return a, nil
}

// shown is the beginning of the digest that keepalived's process shows.
func (k *Daemon) shown() (pid int, digits string) {
	_, all := engine.Children(k.Settings.PIDFile, "keepalived", "keepalived")
	processes := 0
	for _, one := range all {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", one))
		said, ours := strings.CutPrefix(strings.TrimSpace(string(name)), processMark)
		if err != nil || !ours {
			continue
		}
		if digits != "" && said != digits {
			return 0, "" // one of them has not reloaded yet
		}
		pid, digits = one, said
		processes++
	}
	if k.Beside != nil && processes < 2 && k.Beside.Carries() {
		return 0, "" // the second one has not started
	}
	return pid, digits
}

// Check tests a candidate.
func (k *Daemon) Check(ctx context.Context, c engine.Candidate) (words string, err error) {
	own, err := k.Own(c)
	if err != nil {
		return "", err
	}
	if err := c.Write(k.OwnFile(), own); err != nil {
		return "", err
	}
	words, _, err = k.verdict(ctx, k.Settings.Check)
	return words, err
}

// The exit codes of a check that has found something.
const (
	exitTest     = 5
	exitSecurity = 6 // scripts that others could change
)

// verdict of a check: what it refuses of a set of ours, and what of the owner's it would
// not run with. Its words decide: it ends alike for what it does not mind.
func (k *Daemon) verdict(ctx context.Context, argv []string) (ours, owners string, err error) {
	out, err := k.Run(ctx, argv)
	exit, ended := errors.AsType[*exec.ExitError](err)
	if err != nil && !(ended && (exit.ExitCode() == exitTest || exit.ExitCode() == exitSecurity)) {
		ours, err = engine.VerdictOn(ctx, out, err, argv, "keepalived procps", engine.OneLine)
		if err == nil && exit.Exited() { // it has tested nothing; a signal says that the set has ended it
			ours, err = "", engine.Failed("keepalived cannot test its configuration: %s", ours)
		}
		return ours, "", err
	}
	if ours = complaints(out, k.ours); ours != "" {
		return ours, "", ctx.Err()
	}
	return "", deadly(out), ctx.Err()
}

func (k *Daemon) Whole() []string { return k.CheckAll }

func (k *Daemon) CheckWhole(ctx context.Context, argv []string) (words string, err error) {
	ours, owners, err := k.verdict(ctx, argv)
	if owners != "" {
		err = &engine.Refusal{Daemon: k.Name(), Message: fmt.Sprintf(
			"it would end at a reload: %s (see %s)", engine.OneLine(owners), k.Conf)}
	}
	return ours, err
}

// Reload makes keepalived read its configuration again, and waits for the proof.
func (k *Daemon) Reload(ctx context.Context, want fileset.Digest, least time.Duration) error {
	words, err := engine.Verdict(ctx, k.Runner, k.Settings.Reload, "keepalived procps", engine.OneLine)
	if err != nil {
		return err
	}
	if words != "" {
		return &engine.Refusal{Daemon: k.Name(), Message: words}
	}
	p := k.proof(want, max(time.Duration(k.ProofTimeout), least))
	if !k.sameRouter() {
		p = k.decided(p)
	}
	return p.Wait(ctx)
}

// proof is that the process shows the digest, that the kernel's table is as the
// files say, and, where this is the active host, that all addresses are here.
func (k *Daemon) proof(want fileset.Digest, within time.Duration) engine.Proof {
	lacks := ""
	beside := func() string { return "" }
	if k.Beside != nil {
		beside = k.Beside.Lacks()
	}
	ask := func(ctx context.Context) (engine.Answer, error) {
		a, err := k.Ask(ctx)
		if err != nil {
			return a, err
		}
		if lacks = cmp.Or(k.lacking(), beside()); lacks != "" {
			return a, errors.New(lacks)
		}
		return a, nil
	}
	// Its one process and the kernel's one table are seen as they are.
	return engine.Proof{Daemon: k.Name(), Ask: ask, Want: want, Within: within, Seen: k.Beside != nil, Refused: func(late bool) string {
		if !late {
			return ""
		}
		return cmp.Or(lacks, engine.NotWithin(within)+" `journalctl -u keepalived` there says more")
	}}
}

func (k *Daemon) ProvesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return k.proof(want, min(limit, time.Duration(k.ProofTimeout))).Wait(ctx) == nil
}

func (k *Daemon) Processes(int) (running bool, old int) {
	master, _ := engine.Children(k.Settings.PIDFile, "keepalived", "keepalived")
	return master != 0, 0
}

// Version of the binary, without asking a daemon.
func (k *Daemon) Version(ctx context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.found != "" {
		return k.found, nil
	}
	out, err := k.Run(ctx, []string{k.Binary, "--version"})
	m := regexp.MustCompile(`(?m)^Keepalived v([0-9][0-9A-Za-z.+~-]{0,60})`).FindStringSubmatch(out)
	if err != nil || m == nil {
		return "", errors.New(k.Binary + " cannot be run: install the package keepalived")
	}
	k.found = "keepalived/" + m[1]
	return k.found, nil
}

// oldest has names of processes.
var oldest = [3]int{2, 2, 0}

func (k *Daemon) TooOld(version string) string {
	if !engine.Older(version, "keepalived", oldest) {
		return ""
	}
	return fmt.Sprintf("%s is too old, external-lb needs keepalived %d.%d or later: upgrade it (Debian 12 has 2.2)", version, oldest[0], oldest[1])
}

func (k *Daemon) Limits(int, int) string { return "" }
