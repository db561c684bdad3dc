package nginx

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// Daemon is nginx, which includes the files of a set as they are.
type Daemon struct {
	*Settings
	engine.Runner
	dir string // of the store
}

func open(p engine.Place) engine.Daemon {
	return &Daemon{p.Settings.(*Settings), p.Runner, p.Dir} // of Engine.Settings
}

func (n *Daemon) Name() string       { return "nginx" }
func (n *Daemon) OwnFile() string    { return "proof.conf" }
func (n *Daemon) StopsAtFirst() bool { return true }

func (n *Daemon) PIDFile() string { return n.Settings.PIDFile }

func (n *Daemon) Commands() [][]string {
	return [][]string{n.Settings.Check, n.CheckAll, n.Settings.Reload, n.Log}
}

func (n *Daemon) Unincluded() string {
	return fmt.Sprintf("nginx runs, but without external-lb's configuration: its stream block must include %s; `external-lb host install` sees to it, then `nginx -t && nginx -s reload`", n.IncludeConf)
}

// Apart are the files for the http block: the stream block answers.
func (n *Daemon) Apart(path string) bool { return strings.HasPrefix(path, engine.HTTPPrefix) }

func (n *Daemon) Prepared() bool {
	_, err := os.Stat(n.HTTPConf)
	return err == nil
}

func (n *Daemon) Unopened() string {
	return fmt.Sprintf("nginx does not listen here: its http block must include %s; `external-lb host install` sees to it, then `nginx -t && nginx -s reload`", n.HTTPConf)
}

func (n *Daemon) Stopped() string {
	return "nginx does not run: start it (systemctl start nginx); `nginx -t` says what it may lack"
}

// Own makes nginx say what it runs. It undoes what the owner's stream block may
// say about every server.
func (n *Daemon) Own(c engine.Candidate) ([]byte, error) {
	return fmt.Appendf(nil, `# Made by external-lb: says which configuration runs.
server {
    listen %s;
    allow all;
    access_log off;
    return "external-lb $nginx_version $pid %s";
}
`, n.Proof, c.Digest()), nil
}

var announcement = regexp.MustCompile(`\$pid ([0-9a-f]{64})";`)

func (n *Daemon) Announced(own []byte) (fileset.Digest, bool) {
	m := announcement.FindSubmatch(own)
	if m == nil {
		return "", false
	}
	return fileset.Digest(m[1]), true
}

// Ask asks nginx what it runs.
func (n *Daemon) Ask(ctx context.Context) (engine.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, engine.AnswerTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", n.Proof)
	if err != nil {
		return engine.Answer{}, err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return engine.Answer{}, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(c, 256))
	if err != nil {
		return engine.Answer{}, err
	}
	return parseAnswer(string(text))
}

var proofText = regexp.MustCompile(`^external-lb ([0-9.]{1,20}) ([0-9]{1,9}) ([0-9a-f]{64})$`)

func parseAnswer(text string) (engine.Answer, error) {
	m := proofText.FindStringSubmatch(text)
	if m == nil {
		return engine.Answer{}, fmt.Errorf("%.80q is not an answer of nginx", text)
	}
	pid, err := strconv.Atoi(m[2])
	return engine.Answer{Version: "nginx/" + m[1], PID: pid, Digest: fileset.Digest(m[3])}, err
}

func (n *Daemon) Check(ctx context.Context, _ engine.Candidate) (words string, err error) {
	return n.verdict(ctx, n.Settings.Check)
}

func (n *Daemon) Whole() []string { return n.CheckAll }

func (n *Daemon) CheckWhole(ctx context.Context, argv []string) (words string, err error) {
	return n.verdict(ctx, argv)
}

func (n *Daemon) verdict(ctx context.Context, argv []string) (words string, err error) {
	return engine.Verdict(ctx, n.Runner, argv, "nginx libnginx-mod-stream", emergencies)
}

// What a line begins with counts: clients write what comes later in lines of the log,
// such as the header Referer.
var (
	emergency    = regexp.MustCompile(`(?m)^(?:nginx: |` + stamp + `)\[emerg\] (?:\d+#\d+: )?(.*)$`)
	noConnection = regexp.MustCompile(`(?m)^` + stamp + `\[alert\] \d+#\d+: (?:\*\d+ )?(\d+ worker_connections are not enough)`)
)

const stamp = `\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `

// emergencies are the lines with which nginx refuses something, without stamps
// and without repetition, each on a line.
func emergencies(log string) string {
	var lines []string
	seen := map[string]bool{}
	for _, m := range emergency.FindAllStringSubmatch(log, -1) {
		if text := strings.TrimSpace(m[1]); !seen[text] {
			seen[text] = true
			lines = append(lines, text)
		}
	}
	return strings.Join(lines, "\n")
}

// logTail is the end of the error log; "" if it cannot be read.
func (n *Daemon) logTail(ctx context.Context) string {
	out, err := n.Run(ctx, n.Log)
	if err != nil {
		return ""
	}
	return out
}

// newIn is what a log has got since an earlier look at its end.
func newIn(before, now string) string {
	const enough = 2048
	mark := before[max(0, len(before)-enough):]
	if i := strings.LastIndex(now, mark); mark != "" && i >= 0 {
		return now[i+len(mark):]
	}
	return now
}

// Version of the binary, without asking a daemon.
func (n *Daemon) Version(ctx context.Context) (string, error) {
	out, err := n.Run(ctx, []string{n.Binary, "-v"})
	_, version, ok := strings.Cut(engine.OneLine(out), "nginx version: ")
	if err != nil || !ok {
		return "", fmt.Errorf("%s cannot be run: install nginx, and its stream module", n.Binary)
	}
	return strings.Fields(version)[0], nil
}

// worker is a process that nginx's master has started for connections.
type worker struct {
	pid      int
	draining bool // of an earlier configuration; accepts nothing
}

// workers of the running daemon; master is 0 if it does not run.
func (n *Daemon) workers() (master int, all []worker) {
	master, pids := engine.Children(n.Settings.PIDFile, "nginx: master", "nginx: worker process")
	for _, pid := range pids {
		all = append(all, worker{pid, bytes.Contains(engine.CommandLine(pid), []byte("is shutting down"))})
	}
	return master, all
}

func (n *Daemon) Processes(int) (running bool, old int) {
	master, all := n.workers()
	return master != 0, len(all) - len(accepting(all))
}

// Old are the workers that take no connections.
func (n *Daemon) Old(int) (pids []int) {
	_, all := n.workers()
	for _, w := range all {
		if w.draining {
			pids = append(pids, w.pid)
		}
	}
	return pids
}

// accepting are the workers that take connections.
func accepting(all []worker) map[int]bool {
	pids := map[int]bool{}
	for _, w := range all {
		if !w.draining {
			pids[w.pid] = true
		}
	}
	return pids
}

func (n *Daemon) anyAccepts(old map[int]bool) bool {
	_, all := n.workers()
	for pid := range accepting(all) {
		if old[pid] {
			return true
		}
	}
	return false
}

func (n *Daemon) Reload(ctx context.Context, want fileset.Digest, least time.Duration) error {
	_, all := n.workers()
	old := accepting(all)
	log := n.logTail(ctx)
	words, err := n.verdict(ctx, n.Settings.Reload)
	if err != nil {
		return err
	}
	if words != "" {
		return &engine.Refusal{Daemon: n.Name(), Message: words}
	}
	p := n.proof(want, max(time.Duration(n.ProofTimeout), least))
	if len(old) > 0 {
		p.Old, p.Accepts = old, n.anyAccepts
	}
	p.Refused = func(late bool) string {
		news := newIn(log, n.logTail(ctx))
		words := emergencies(news)
		switch {
		case late:
			if m := noConnection.FindStringSubmatch(news); m != nil {
				return cmp.Or(words, m[1])
			}
			return words
		case retries(words):
			return ""
		}
		return words
	}
	return p.Wait(ctx)
}

func (n *Daemon) proof(want fileset.Digest, within time.Duration) engine.Proof {
	return engine.Proof{Daemon: n.Name(), Ask: n.Ask, Want: want, Within: within, Refused: func(bool) string { return "" }}
}

func (n *Daemon) ProvesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return n.proof(want, min(limit, time.Duration(n.ProofTimeout))).Wait(ctx) == nil
}

// retries reports whether nginx is about to try again to open a port that is
// taken, which it does for two seconds.
func retries(words string) bool {
	return strings.Contains(words, "Address already in use") && !strings.Contains(words, "still could not bind")
}

// oldestNginx has every directive that the rendered configuration uses:
// proxy_half_close came with 1.21.4.
var oldestNginx = [3]int{1, 21, 4}

func (n *Daemon) TooOld(version string) string {
	if !engine.Older(version, "nginx", oldestNginx) {
		return ""
	}
	return fmt.Sprintf("%s is too old, external-lb needs nginx %d.%d.%d or later: upgrade it (Debian 12 has 1.22)",
		version, oldestNginx[0], oldestNginx[1], oldestNginx[2])
}
