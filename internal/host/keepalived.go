package host

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
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// keepalivedPrefix begins the paths of the files that are keepalived's, beside
// those of the daemon that carries the traffic.
const keepalivedPrefix = "keepalived/"

// keepalived keeps the addresses on one of several hosts, or keeps IPVS, or both.
// It includes the files of a set as they are.
type keepalived struct {
	KeepalivedSettings
	runner
	dir     string // of the store
	pidFile string // of the daemon that answers at the addresses; "": this one
	lvs     bool   // it keeps IPVS

	mu    sync.Mutex                                          // of what follows
	found string                                              // the version
	seen  map[fileset.Digest]map[fileset.Socket]virtualServer // of sets that were live lately
}

func newKeepalived(s Settings, r runner) *keepalived {
	k := &keepalived{KeepalivedSettings: s.Keepalived, runner: r, dir: s.vrrpDir(), pidFile: s.Nginx.PIDFile, seen: map[fileset.Digest]map[fileset.Socket]virtualServer{}}
	switch s.Engine {
	case EngineHAProxy:
		k.pidFile = s.HAProxy.PIDFile
	case EngineLVS:
		k.pidFile, k.lvs = "", true
	}
	return k
}

func (k *keepalived) name() string       { return "keepalived" }
func (k *keepalived) ownFile() string    { return "keepalived.conf" }
func (k *keepalived) stopsAtFirst() bool { return false }

func (k *keepalived) commands() [][]string {
	all := [][]string{k.Check, k.CheckAll, k.Reload}
	if k.lvs {
		all = append(all, k.Rules)
	}
	return all
}

// live is the file that the owner's configuration includes.
func (k *keepalived) live() string { return filepath.Join(k.dir, liveLink, k.ownFile()) }

func (k *keepalived) unincluded() string {
	return fmt.Sprintf("keepalived runs, but without external-lb's configuration: %s must hold `include %s`, to which `external-lb host install` sees; then `systemctl reload keepalived`", k.Conf, k.live())
}

func (k *keepalived) stopped() string {
	if k.lvs {
		return "keepalived does not run, so this host carries nothing: start it (systemctl start keepalived); `journalctl -u keepalived` says what it may lack"
	}
	return "keepalived does not run, so this host gets no addresses: start it (systemctl start keepalived); `journalctl -u keepalived` says what it may lack"
}

// processMark begins the name that keepalived's process takes with a
// configuration: any user can see that, and it changes with a reload. The kernel
// keeps 15 bytes of it.
const processMark = "elb-"

const markedDigits = 15 - len(processMark)

// own makes keepalived show what it runs, and names what must run for a host to
// have the addresses. It is never empty: an empty configuration would drop every
// address. Without anything to do, keepalived would start no process that could
// show something; an empty block of routes makes it.
func (k *keepalived) own(g *staged) ([]byte, error) {
	d := g.digest()
	uid, _, err := owner(k.dir)
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
	works := "/usr/bin/pgrep -F " + k.pidFile
	if k.lvs {
		works = "/usr/bin/true" // a keepalived that does not run has no addresses either
		fmt.Fprintf(&out, "    checker_process_name %s\n    startup_script \"%s\" root\n    enable_script_security\n",
			shown, strings.Join(k.loadRules(), " "))
	}
	fmt.Fprintf(&out, `}
static_routes {
}
vrrp_script external-lb {
    script "%s"
    user %s
    interval 1
    fall 2
    rise 1
}
`, works, account.Username)
	all, err := g.sources()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(f source) bool { return f.path == keepalivedMain }) {
		fmt.Fprintf(&out, "include %s\n", keepalivedMain)
	}
	if slices.ContainsFunc(all, func(f source) bool { return strings.HasPrefix(f.path, servicesPrefix) }) {
		out.WriteString("include " + servicesPrefix + "*.conf\n")
	}
	return out.Bytes(), nil
}

// servicesPrefix begins the paths of the fragments.
const servicesPrefix = "services/"

// loadRules is the command that loads the packet filter's rules, without sudo.
func (k *keepalived) loadRules() []string {
	argv, _ := withoutSudo(k.Rules)
	return argv
}

// keepalivedMain includes the other files of a set.
const keepalivedMain = keepalivedPrefix + "main.conf"

var announcedMark = regexp.MustCompile(`(?m)^# digest: ([0-9a-f]{64})$`)

func (k *keepalived) announced(own []byte) (fileset.Digest, bool) {
	m := announcedMark.FindSubmatch(own)
	if m == nil {
		return "", false
	}
	return fileset.Digest(m[1]), true
}

// ask looks which configuration keepalived's process shows, and finds the
// generation that has it.
func (k *keepalived) ask(ctx context.Context) (answer, error) {
	pid, shown := k.shown()
	if shown == "" {
		return answer{}, errors.New("keepalived shows no configuration of external-lb's")
	}
	version, err := k.version(ctx)
	if err != nil {
		return answer{}, err
	}
	a := answer{version, pid, fileset.Digest(shown)}
	owns, err := filepath.Glob(filepath.Join(k.dir, genDir, "*", filesDir, k.ownFile()))
	if err != nil {
		return a, err
	}
	for _, path := range owns {
		own, err := os.ReadFile(path)
		if d, ok := k.announced(own); err == nil && ok && strings.HasPrefix(string(d), shown) {
			a.digest = d
		}
	}
	return a, nil
}

// shown is the beginning of the digest that keepalived's process shows.
func (k *keepalived) shown() (pid int, digits string) {
	_, all := children(k.PIDFile, "keepalived", "keepalived")
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
	if k.lvs && processes < 2 && k.carries() {
		return 0, "" // the one that keeps IPVS has not started
	}
	return pid, digits
}

// carries reports whether anything of what is live is for IPVS.
func (k *keepalived) carries() bool {
	all, err := k.virtualServers(liveLink)
	if err != nil {
		return true
	}
	for _, v := range all {
		if len(v.realServers) > 0 {
			return true
		}
	}
	return false
}

// complaint is a line about a line of the configuration.
var complaint = regexp.MustCompile(`(?m)^\((\S+): Line (\d+)\) (.*)$`)

// complaints are the lines with which keepalived refuses something. What it only
// warns of is its owner's affair, but for an interface that is missing: it would
// end at a reload. It would load a file with errors and drop what it did not understand.
func complaints(log string) string {
	var lines []string
	for _, line := range complaint.FindAllString(log, -1) {
		if !strings.Contains(line, "WARNING") || noInterface.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// check tests a candidate, and has its lines read by the host first: what
// keepalived could be told to run, it would run as root.
func (k *keepalived) check(ctx context.Context, g *staged) (words string, err error) {
	all, err := g.sources()
	if err != nil {
		return "", err
	}
	for _, f := range all {
		if words := k.allowed(f); words != "" {
			return words, nil
		}
	}
	for p, e := range g.index {
		if e.Private { // which is not among the sources, and would be included unread
			return fmt.Sprintf("(%s: Line 1) this host does not give private files to keepalived", p), nil
		}
	}
	own, err := k.own(g)
	if err != nil {
		return "", err
	}
	if err := g.store.write(g.path(filesDir, k.ownFile()), own, publicMode, false); err != nil {
		return "", err
	}
	return k.verdict(ctx, k.Check)
}

// verdict of a check. keepalived 2.2 ends itself with SIGTERM after the test of a
// configuration that has a script, so that its words decide.
func (k *keepalived) verdict(ctx context.Context, argv []string) (words string, err error) {
	out, err := k.Run(ctx, argv)
	if words := complaints(out); words != "" && !strings.Contains(out, "sudo: ") {
		return words, ctx.Err()
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return "", ctx.Err()
		}
	}
	return verdict(ctx, said{out, err}, argv, "keepalived procps", complaints)
}

// said is a runner whose command has run already.
type said struct {
	out string
	err error
}

func (s said) Run(context.Context, []string) (string, error) { return s.out, s.err }

func (k *keepalived) reload(ctx context.Context, want fileset.Digest) error {
	words, err := k.verdict(ctx, k.CheckAll)
	if err != nil {
		return err
	}
	if words != "" {
		return &refusal{k.name(), words}
	}
	if !k.lvs {
		return k.hangUp(ctx, want)
	}
	live, err := k.virtualServers(liveLink)
	if err != nil {
		return err
	}
	before, err := k.virtualServers(backLink)
	if err != nil {
		return err
	}
	if _, err := ipvsCarries(); err != nil {
		return failed("%s", noIPVS)
	}
	if err := k.load(ctx, live, before); err != nil {
		return err
	}
	if err := k.hangUp(ctx, want); err != nil {
		return err
	}
	if !gone(before, live) {
		return nil // the rules are those already
	}
	return k.load(ctx, live, nil)
}

// hangUp makes keepalived read its configuration again, and waits for the proof.
func (k *keepalived) hangUp(ctx context.Context, want fileset.Digest) error {
	words, err := verdict(ctx, k.runner, k.Reload, "keepalived procps", oneLine)
	if err != nil {
		return err
	}
	if words != "" {
		return &refusal{k.name(), words}
	}
	p := k.proof(want, time.Duration(k.ProofTimeout))
	if !k.sameRouter() {
		p = k.decided(p)
	}
	return p.wait(ctx)
}

// proof is that the process shows the digest, that the kernel's table is as the
// files say, and, where this is the active host, that all addresses are here.
func (k *keepalived) proof(want fileset.Digest, within time.Duration) proof {
	lacks := ""
	var servers, before map[fileset.Socket]virtualServer
	if k.lvs {
		servers, _ = k.virtualServers(liveLink) // what cannot be read, keepalived does not show either
		before, _ = k.virtualServers(backLink)
	}
	ask := func(ctx context.Context) (answer, error) {
		a, err := k.ask(ctx)
		if err != nil {
			return a, err
		}
		lacks = ""
		if r := k.router(); r.active() {
			lacks = r.lacks()
		}
		if k.lvs && lacks == "" {
			lacks = differs(servers, before)
		}
		if lacks != "" {
			return a, errors.New(lacks)
		}
		return a, nil
	}
	// Its one process and the kernel's one table are seen as they are.
	return proof{daemon: k.name(), ask: ask, want: want, within: within, seen: k.lvs, refused: func(late bool) string {
		if !late {
			return ""
		}
		return cmp.Or(lacks, fmt.Sprintf("it has not proved to run it within %s; `journalctl -u keepalived` on the host says why", within))
	}}
}

func (k *keepalived) provesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return k.proof(want, min(limit, time.Duration(k.ProofTimeout))).wait(ctx) == nil
}

func (k *keepalived) processes(int) (running bool, old int) {
	master, _ := children(k.PIDFile, "keepalived", "keepalived")
	return master != 0, 0
}

// version of the binary, without asking a daemon.
func (k *keepalived) version(ctx context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.found != "" {
		return k.found, nil
	}
	out, err := k.Run(ctx, []string{k.Binary, "--version"})
	m := regexp.MustCompile(`(?m)^Keepalived v([0-9][0-9A-Za-z.+~-]{0,60})`).FindStringSubmatch(out)
	if err != nil || m == nil {
		return "", errors.New(k.Binary + " cannot be run: apt-get install keepalived")
	}
	k.found = "keepalived/" + m[1]
	return k.found, nil
}

// oldestKeepalived has names of processes.
var oldestKeepalived = [3]int{2, 2, 0}

func (k *keepalived) tooOld(version string) string {
	if !older(version, "keepalived", oldestKeepalived) {
		return ""
	}
	return fmt.Sprintf("%s is too old, external-lb needs keepalived %d.%d or later: upgrade it (Debian 12 has 2.2)", version, oldestKeepalived[0], oldestKeepalived[1])
}

func (k *keepalived) limits(int, int) string { return "" }

func (k *keepalived) lacks(words string) bool { return noInterface.MatchString(words) }

var noInterface = regexp.MustCompile(`WARNING - interface (\S+) for vrrp_instance external-lb doesn't exist`)

func (k *keepalived) advise(words string, _ int) error {
	if m := noInterface.FindStringSubmatch(words); m != nil {
		return failed("this host has no interface %s: correct virtualAddresses.vrrp.interface of the Balancer, or name the host's interface so", m[1])
	}
	return nil
}

// keepalivedLine is every line that a delivered file may have. Nothing of it can
// run a program, read another file or reach beyond the virtual router.
var keepalivedLine = regexp.MustCompile(`^\s*(?:` + strings.Join([]string{
	`#[^\x00-\x1f\x7f]*`, `\}`, ``,
	`vrrp_instance external-lb \{`, `version 3`, `interface [A-Za-z0-9][-A-Za-z0-9_.]{0,14}`,
	`virtual_router_id \d{1,3}`, `priority \d{1,3}`, `advert_int \d{1,2}(?:\.\d{1,2})?`,
	`virtual_ipaddress \{`, `virtual_ipaddress_excluded \{`, `track_script \{`, `external-lb`,
	`[0-9a-f.:]{2,45}/\d{1,3}`, `include addresses/\*\.conf`,
}, "|") + `)$`)

// allowed says which line of a delivered file this host does not give
// to keepalived; "" if none.
func (k *keepalived) allowed(f source) string {
	number, pattern := 0, keepalivedLine
	if k.lvs && !isKeepaliveds(f.path) {
		pattern = lvsLine
		if _, err := parseVirtualServers(f.data); err != nil {
			return fmt.Sprintf("(%s: Line 1) %s", f.path, err)
		}
	}
	for line := range strings.Lines(string(f.data)) {
		number++
		if line = strings.TrimRight(line, "\n"); !pattern.MatchString(line) {
			return fmt.Sprintf("(%s: Line %d) this host does not give %.60q to keepalived", f.path, number, strings.TrimSpace(line))
		}
	}
	return ""
}
