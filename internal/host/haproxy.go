package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// haproxy reads one file, which is put together from those of a set: with a file
// for each Service, a reload of some thousands would end it.
type haproxy struct {
	HAProxySettings
	runner
	dir string // of the store
}

func (h *haproxy) name() string       { return "HAProxy" }
func (h *haproxy) ownFile() string    { return "haproxy.cfg" }
func (h *haproxy) stopsAtFirst() bool { return false }

func (h *haproxy) commands() [][]string { return [][]string{h.CheckAll, h.Reload} }

func (h *haproxy) unincluded() string {
	return fmt.Sprintf("HAProxy runs, but without external-lb's configuration: EXTRAOPTS in %s must hold `-f %s`, to which `external-lb host install` sees; then restart it once (systemctl restart haproxy)",
		h.Environment, h.live())
}

func (h *haproxy) stopped() string {
	return "HAProxy does not run: start it (systemctl start haproxy); `journalctl -u haproxy` says what it may lack"
}

// live is the file that the owner's HAProxy reads beside its own.
func (h *haproxy) live() string { return filepath.Join(h.dir, liveLink, h.ownFile()) }

// fileMark begins what comes from one file of a set, so that line numbers lead to it.
const fileMark = "# file: "

// own is the whole configuration, headed by what makes HAProxy say what it runs.
// Its socket belongs to the user who delivers. Relative paths would be looked for
// where the owner keeps his certificates, so what is delivered finds its own by a
// variable.
func (h *haproxy) own(g *staged) ([]byte, error) {
	all, err := g.sources()
	if err != nil {
		return nil, err
	}
	uid, gid, err := owner(h.dir)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `# Made by external-lb. Changes are overwritten.
global
    set-var proc.external_lb str(%s)
    stats socket %s uid %d gid %d mode 600 level admin expose-fd listeners
    hard-stop-after %dms
    setenv EXTERNAL_LB_SET %s
`, g.digest(), h.Socket, uid, gid, time.Duration(h.HardStopAfter).Milliseconds(), g.root())
	for _, f := range all {
		fmt.Fprintf(&out, "\n%s%s\n", fileMark, f.path)
		out.Write(f.data)
	}
	return out.Bytes(), nil
}

// owner of a directory.
func owner(dir string) (uid, gid int, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid), nil
}

var announcedVar = regexp.MustCompile(`(?m)^    set-var proc\.external_lb str\(([0-9a-f]{64})\)$`)

func (h *haproxy) announced(own []byte) (fileset.Digest, bool) {
	m := announcedVar.FindSubmatch(own)
	if m == nil {
		return "", false
	}
	return fileset.Digest(m[1]), true
}

// tell sends commands, and returns what HAProxy answers: a blank line ends the
// answer to each.
func (h *haproxy) tell(ctx context.Context, commands ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(c, strings.Join(commands, ";")+"\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(c)
	return string(text), err
}

// ask asks HAProxy what it runs.
func (h *haproxy) ask(ctx context.Context) (answer, error) {
	text, err := h.tell(ctx, "get var proc.external_lb", "show info")
	if err != nil {
		return answer{}, err
	}
	return parseInfo(text)
}

var (
	varText     = regexp.MustCompile(`(?m)^proc\.external_lb: type=str value=<([0-9a-f]{64})>$`)
	versionText = regexp.MustCompile(`(?m)^Version: ([0-9][0-9A-Za-z.+~-]{0,60})$`)
	pidText     = regexp.MustCompile(`(?m)^Pid: ([0-9]{1,9})$`)
)

func parseInfo(text string) (answer, error) {
	digest, version, pid := varText.FindStringSubmatch(text), versionText.FindStringSubmatch(text), pidText.FindStringSubmatch(text)
	if digest == nil || version == nil || pid == nil {
		return answer{}, fmt.Errorf("%.80q is not an answer of HAProxy with external-lb's configuration", text)
	}
	number, err := strconv.Atoi(pid[1])
	return answer{"haproxy/" + version[1], number, fileset.Digest(digest[1])}, err
}

// check tests a candidate alone, without the owner's files and rights.
func (h *haproxy) check(ctx context.Context, g *staged) (words string, err error) {
	own, err := h.own(g)
	if err != nil {
		return "", err
	}
	if err := g.store.write(g.path(filesDir, h.ownFile()), own, publicMode, false); err != nil {
		return "", err
	}
	return h.verdict(ctx, h.Check)
}

func (h *haproxy) verdict(ctx context.Context, argv []string) (words string, err error) {
	return verdict(ctx, h.runner, argv, "haproxy procps", alerts)
}

// reload lets a new worker take over. All is checked before: a worker that cannot
// start would leave all ports without an answer for two seconds.
func (h *haproxy) reload(ctx context.Context, want fileset.Digest) error {
	old := map[int]bool{}
	if a, err := h.ask(ctx); err == nil {
		old[a.pid] = true
	}
	for _, argv := range [][]string{h.CheckAll, h.Reload} {
		words, err := h.verdict(ctx, argv)
		if err != nil {
			return err
		}
		if words != "" {
			return &refusal{h.name(), words}
		}
	}
	p := h.proof(want, time.Duration(h.ProofTimeout))
	p.old = old
	return p.wait(ctx)
}

func (h *haproxy) proof(want fileset.Digest, within time.Duration) proof {
	return proof{daemon: h.name(), ask: h.ask, want: want, within: within, refused: func(late bool) string {
		if !late {
			return ""
		}
		return fmt.Sprintf("it has not proved to run it within %s; `journalctl -u haproxy` on the host says why", within)
	}}
}

func (h *haproxy) provesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return h.proof(want, min(limit, time.Duration(h.ProofTimeout))).wait(ctx) == nil
}

// worry says when every node fails a check that all Services share: then nothing
// answers, and more often than not it is the check that does not get through.
func (h *haproxy) worry(ctx context.Context) string {
	main, err := os.ReadFile(filepath.Join(h.dir, liveLink, "main.conf"))
	if err != nil {
		return ""
	}
	for _, p := range parseProxies(main) {
		if !p.checks() {
			continue
		}
		all, err := h.slotsOf(ctx, p.name())
		all = slices.DeleteFunc(all, func(s slot) bool { return s.maint })
		if err == nil && len(all) > 0 && !slices.ContainsFunc(all, func(s slot) bool { return !s.down }) {
			return fmt.Sprintf("every node fails its health check on port %d (%s and so on), so nothing answers: %s",
				all[0].at.Port(), all[0].at, checkAdvice)
		}
	}
	return ""
}

// processes counts the workers beside the one that answers. A master that waits
// for its workers has none of its own configuration.
func (h *haproxy) processes(current int) (running bool, old int) {
	master, all := children(h.PIDFile, "haproxy", "haproxy")
	for _, pid := range all {
		if current != 0 && pid != current {
			old++
		}
	}
	return master != 0, old
}

// version of the binary, without asking a daemon.
func (h *haproxy) version(ctx context.Context) (string, error) {
	out, err := h.Run(ctx, []string{h.Binary, "-v"})
	m := regexp.MustCompile(`(?m)^HAProxy version ([0-9][0-9A-Za-z.+~-]{0,60})`).FindStringSubmatch(out)
	if err != nil || m == nil {
		return "", errors.New(h.Binary + " cannot be run: apt-get install haproxy")
	}
	return "haproxy/" + m[1], nil
}

// oldestHAProxy has what the rendered configuration and its reloads use.
var oldestHAProxy = [3]int{2, 6, 0}

func (h *haproxy) tooOld(version string) string {
	if !older(version, "haproxy", oldestHAProxy) {
		return ""
	}
	return fmt.Sprintf("%s is too old, external-lb needs HAProxy %d.%d or later: upgrade it (Debian 12 has 2.6)", version, oldestHAProxy[0], oldestHAProxy[1])
}
