package haproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// Daemon is HAProxy, which reads one file, which is put together from those of a set: with a file
// for each Service, a reload of some thousands would end it.
type Daemon struct {
	*Settings
	engine.Runner
	dir string // of the store
	set func(link string) (engine.Set, error)

	left   *engine.Leaving
	pause  engine.Pause                    // where connections were ended, or could not be
	old    engine.Pause                    // where those in old workers could not be
	unread engine.Pause                    // where a Service could not be read, so nobody knows whether its are to be
	asRoot func(ctx context.Context) error // has EndLeft done; nil: this process can
}

func open(p engine.Place) engine.Daemon {
	return &Daemon{
		Settings: p.Settings.(*Settings), // of Engine.Settings
		Runner:   p.Runner, dir: p.Dir, set: p.Set, left: engine.NewLeaving(filepath.Join(p.Dir, leavingFile)), asRoot: p.AsRoot,
		pause: engine.Pause{Rest: endRest},
	}
}

func (h *Daemon) Name() string       { return "HAProxy" }
func (h *Daemon) OwnFile() string    { return "haproxy.cfg" }
func (h *Daemon) StopsAtFirst() bool { return false }

func (h *Daemon) PIDFile() string { return h.Settings.PIDFile }

func (h *Daemon) Commands() [][]string { return [][]string{h.CheckAll, h.Settings.Reload} }

func (h *Daemon) Unincluded() string {
	if slices.Contains(h.commandLine(), h.Live()) { // HAProxy does not make its socket anew at a reload
		return fmt.Sprintf("HAProxy does not answer at its socket %s, which somebody has removed or replaced, as a restored backup does: restart it once (systemctl restart haproxy)", h.Socket)
	}
	return fmt.Sprintf("HAProxy runs, but without external-lb's configuration: %s in %s must hold `-f %s`, to which `external-lb host install` sees; then restart it once (systemctl restart haproxy)",
		h.variable(), h.Environment, h.Live())
}

func (h *Daemon) Stopped() string {
	return "HAProxy does not run: start it (systemctl start haproxy); `journalctl -u haproxy` says what it may lack"
}

// Live is the file that the owner's HAProxy reads beside its own.
func (h *Daemon) Live() string { return filepath.Join(h.dir, engine.LiveLink, h.OwnFile()) }

// fileMark begins what comes from one file of a set, so that line numbers lead to it.
const fileMark = "# file: "

// Own is the whole configuration, headed by what makes HAProxy say what it runs.
// Its socket belongs to the user who delivers. Relative paths would be looked for
// where the owner keeps his certificates, so what is delivered finds its own by a
// variable.
func (h *Daemon) Own(c engine.Candidate) ([]byte, error) {
	all, err := c.Sources()
	if err != nil {
		return nil, err
	}
	uid, gid, err := engine.Owner(h.dir)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	size := 4 << 10
	for _, f := range all {
		size += len(f.Path) + len(f.Data) + 16
	}
	out.Grow(size) // it is Services times nodes: growing would take twice that for a moment
	fmt.Fprintf(&out, `# Made by external-lb. Changes are overwritten.
global
    set-var proc.external_lb str(%s)
    stats socket %s uid %d gid %d mode 600 level admin expose-fd listeners
    hard-stop-after %dms
    setenv EXTERNAL_LB_SET %s
`, c.Digest(), h.Socket, uid, gid, time.Duration(h.HardStopAfter).Milliseconds(), c.Root())
	for _, f := range all {
		fmt.Fprintf(&out, "\n%s%s\n", fileMark, f.Path)
		out.Write(f.Data)
	}
	return out.Bytes(), nil
}

var announcedVar = regexp.MustCompile(`(?m)^    set-var proc\.external_lb str\(([0-9a-f]{64})\)$`)

func (h *Daemon) Announced(own []byte) (fileset.Digest, bool) {
	m := announcedVar.FindSubmatch(own)
	if m == nil {
		return "", false
	}
	return fileset.Digest(m[1]), true
}

// tell sends commands, and returns what HAProxy answers: a blank line ends the
// answer to each.
func (h *Daemon) tell(ctx context.Context, commands ...string) (string, error) {
	var text strings.Builder
	err := h.lines(ctx, func(line string) { text.WriteString(line + "\n") }, commands...)
	return text.String(), err
}

// lines of what HAProxy answers to commands: it may be much.
func (h *Daemon) lines(ctx context.Context, each func(line string), commands ...string) error {
	return talk(ctx, h.Socket, strings.Join(commands, ";")+"\n", maxStatistics, each)
}

// talk to HAProxy at one of its sockets, until it has said everything, in so many bytes at most.
func talk(ctx context.Context, socket, words string, most int64, each func(line string)) error {
	ctx, cancel := context.WithTimeout(ctx, engine.AnswerTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(conn, words); err != nil {
		return err
	}
	bounded := &io.LimitedReader{R: conn, N: most}
	all := bufio.NewScanner(bounded)
	for all.Scan() {
		each(all.Text())
	}
	if all.Err() == nil && bounded.N <= 0 {
		return fmt.Errorf("HAProxy says more than %d MiB", most>>20)
	}
	return all.Err()
}

// Ask asks HAProxy what it runs.
func (h *Daemon) Ask(ctx context.Context) (engine.Answer, error) {
	text, err := h.tell(ctx, "get var proc.external_lb", "show info")
	if err != nil {
		return engine.Answer{}, err
	}
	return parseInfo(text)
}

var (
	varText     = regexp.MustCompile(`(?m)^proc\.external_lb: type=str value=<([0-9a-f]{64})>$`)
	versionText = regexp.MustCompile(`(?m)^Version: ([0-9][0-9A-Za-z.+~-]{0,60})$`)
	pidText     = regexp.MustCompile(`(?m)^Pid: ([0-9]{1,9})$`)
)

func parseInfo(text string) (engine.Answer, error) {
	digest, version, pid := varText.FindStringSubmatch(text), versionText.FindStringSubmatch(text), pidText.FindStringSubmatch(text)
	if digest == nil || version == nil || pid == nil {
		return engine.Answer{}, fmt.Errorf("%.80q is not an answer of HAProxy with external-lb's configuration", text)
	}
	number, err := strconv.Atoi(pid[1])
	return engine.Answer{Version: "haproxy/" + version[1], PID: number, Digest: fileset.Digest(digest[1])}, err
}

// Check tests a candidate alone, without the owner's files and rights.
func (h *Daemon) Check(ctx context.Context, c engine.Candidate) (words string, err error) {
	own, err := h.Own(c)
	if err != nil {
		return "", err
	}
	if err := c.Write(h.OwnFile(), own); err != nil {
		return "", err
	}
	return h.verdict(ctx, h.Settings.Check)
}

func (h *Daemon) verdict(ctx context.Context, argv []string) (words string, err error) {
	return engine.Verdict(ctx, h.Runner, argv, "haproxy procps", alerts)
}

func (h *Daemon) Whole() []string { return h.CheckAll }

func (h *Daemon) CheckWhole(ctx context.Context, argv []string) (words string, err error) {
	return h.verdict(ctx, argv)
}

// Reload lets a new worker take over. One that cannot start would leave all ports without
// an answer for two seconds: all is checked before.
func (h *Daemon) Reload(ctx context.Context, want fileset.Digest, least time.Duration) error {
	old := map[int]bool{}
	if a, err := h.Ask(ctx); err == nil {
		old[a.PID] = true
	}
	known, knownErr := h.standings(ctx)
	gone, back, goneErr := h.goneWithReload()
	if goneErr != nil {
		h.left.Miss(goneErr)
	}
	h.leave(gone, back) // when it is live, this process may not be there any more
	// A master that is about to begin anew loses the signal for the next reload: it is
	// told once more, long before the time is over.
	within := max(time.Duration(h.ProofTimeout), least)
	first, rest := h.proof(want, within), h.proof(want, within)
	first.Within /= 3
	rest.Within -= first.Within
	var err error
	for _, p := range []engine.Proof{first, rest} {
		if err := h.run(ctx, h.Settings.Reload); err != nil {
			return err
		}
		p.Old = old
		if err = p.Wait(ctx); err == nil {
			h.leftBehind(gone)
			if knownErr == nil {
				_ = h.goOn(ctx, known) // it is live; and else its own checks tell it anew
			}
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// run a command of HAProxy's, which may refuse.
func (h *Daemon) run(ctx context.Context, argv []string) error {
	words, err := h.verdict(ctx, argv)
	if err == nil && words != "" {
		return &engine.Refusal{Daemon: h.Name(), Message: words}
	}
	return err
}

func (h *Daemon) proof(want fileset.Digest, within time.Duration) engine.Proof {
	return engine.Proof{Daemon: h.Name(), Ask: h.Ask, Want: want, Within: within, Refused: func(late bool) string {
		if !late {
			return ""
		}
		return engine.NotWithin(within) + " `journalctl -u haproxy` there says more"
	}}
}

func (h *Daemon) ProvesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return h.proof(want, min(limit, time.Duration(h.ProofTimeout))).Wait(ctx) == nil
}

// Diagnose says when every node fails a check that all Services share: then nothing
// answers, and more often than not it is the check that does not get through.
func (h *Daemon) Diagnose(ctx context.Context) string {
	var checks []checkGroup
	live, err := h.set(engine.LiveLink)
	if err == nil {
		_, err = live.View(engine.MainPath, &checks)
	}
	if err != nil {
		return "" // what has happened to the files is told anyway
	}
	for _, c := range checks {
		all, err := h.slotsOf(ctx, c.Name)
		all = slices.DeleteFunc(all, func(s slot) bool { return s.maint })
		if err == nil && len(all) > 0 && !slices.ContainsFunc(all, func(s slot) bool { return !s.down }) {
			return fmt.Sprintf("every node fails its health check on port %d (%s and so on), so nothing answers: %s",
				all[0].at.Port(), all[0].at, engine.CheckAdvice)
		}
	}
	return ""
}

// Processes counts the workers beside the one that answers. A master that waits
// for its workers has none of its own configuration.
func (h *Daemon) Processes(current int) (running bool, old int) {
	master, _ := engine.Children(h.Settings.PIDFile, "haproxy", "haproxy")
	return master != 0, len(h.Old(current))
}

func (h *Daemon) Old(current int) []int {
	_, all := engine.Children(h.Settings.PIDFile, "haproxy", "haproxy")
	return slices.DeleteFunc(all, func(pid int) bool { return current == 0 || pid == current })
}

// Version of the binary, without asking a daemon.
func (h *Daemon) Version(ctx context.Context) (string, error) {
	out, err := h.Run(ctx, []string{h.Binary, "-v"})
	m := regexp.MustCompile(`(?m)^HAProxy version ([0-9][0-9A-Za-z.+~-]{0,60})`).FindStringSubmatch(out)
	if err != nil || m == nil {
		return "", errors.New(h.Binary + " cannot be run: install the package haproxy")
	}
	return "haproxy/" + m[1], nil
}

// oldestHAProxy has what the rendered configuration and its reloads use.
var oldestHAProxy = [3]int{2, 6, 0}

func (h *Daemon) TooOld(version string) string {
	if !engine.Older(version, "haproxy", oldestHAProxy) {
		return ""
	}
	return fmt.Sprintf("%s is too old, external-lb needs HAProxy %d.%d or later: upgrade it (Debian 12 has 2.6)", version, oldestHAProxy[0], oldestHAProxy[1])
}
