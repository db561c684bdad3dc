package host

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// How often nginx must say the same in a row. Old workers answer for a moment
// after a reload; where they can be seen, it is known when they no longer do.
const (
	answersIfSeen   = 3
	answersIfUnseen = 20
	askEvery        = 10 * time.Millisecond
	readLogEvery    = 500 * time.Millisecond
)

// worker is a process that nginx's master has started for connections.
type worker struct {
	pid      int
	draining bool // of an earlier configuration; accepts nothing
}

// workers of the running daemon; master is 0 if it does not run.
func (n *nginx) workers() (master int, all []worker) {
	text, err := os.ReadFile(n.PIDFile)
	if err != nil {
		return 0, nil
	}
	master, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !bytes.HasPrefix(commandLine(master), []byte("nginx: master")) {
		return 0, nil
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return master, nil
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil || parent(pid) != master {
			continue
		}
		if title := commandLine(pid); bytes.HasPrefix(title, []byte("nginx: worker process")) {
			all = append(all, worker{pid, bytes.Contains(title, []byte("is shutting down"))})
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

// refusal is what nginx says instead of taking a configuration.
type refusal struct{ words string }

func (r *refusal) Error() string { return "nginx refuses the configuration: " + r.words }

// reload makes nginx load what is live, and waits until nothing but want
// accepts connections. An error of type *refusal: it did not take it.
func (n *nginx) reload(ctx context.Context, want fileset.Digest) error {
	_, all := n.workers()
	old := accepting(all)
	log := n.logTail(ctx)
	words, err := n.verdict(ctx, n.Reload)
	if err != nil {
		return err
	}
	if words != "" {
		return &refusal{words}
	}
	return n.prove(ctx, want, old, func() string { return newIn(log, n.logTail(ctx)) })
}

// prove waits until nothing but want accepts connections, and none of the old
// workers does. news is what the daemon has logged meanwhile.
func (n *nginx) prove(ctx context.Context, want fileset.Digest, old map[int]bool, news func() string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(n.ProofTimeout))
	defer cancel()
	need := answersIfUnseen
	if len(old) > 0 {
		need = answersIfSeen
	}
	again := time.NewTicker(askEvery)
	defer again.Stop()
	readLog := time.NewTicker(readLogEvery)
	defer readLog.Stop()
	streak := 0
	for {
		a, err := n.ask(ctx)
		if err == nil && a.digest == want && !old[a.pid] {
			streak++
		} else {
			streak = 0
		}
		if streak >= need && !n.anyAccepts(old) {
			return nil
		}
		select {
		case <-again.C:
		case <-readLog.C:
			if words := emergencies(news()); words != "" && !retries(words) {
				return &refusal{words}
			}
		case <-ctx.Done():
			log := news()
			words := cmp.Or(emergencies(log), tooFew.FindString(log))
			return &refusal{cmp.Or(words, fmt.Sprintf("it has not proved to run it within %s", time.Duration(n.ProofTimeout)))}
		}
	}
}

// retries reports whether nginx is about to try again to open a port that is
// taken, which it does for two seconds.
func retries(words string) bool {
	return strings.Contains(words, "Address already in use") && !strings.Contains(words, "still could not bind")
}

func (n *nginx) anyAccepts(old map[int]bool) bool {
	if len(old) == 0 {
		return false
	}
	_, all := n.workers()
	for pid := range accepting(all) {
		if old[pid] {
			return true
		}
	}
	return false
}

// proves reports whether nginx runs a configuration now.
func (n *nginx) proves(ctx context.Context, want fileset.Digest) bool {
	for range answersIfSeen {
		if a, err := n.ask(ctx); err != nil || a.digest != want {
			return false
		}
	}
	return true
}

var announcement = regexp.MustCompile(`\$pid ([0-9a-f]{64})";`)

// announced is the digest that a proof's configuration lets nginx say.
func announced(proof []byte) (fileset.Digest, bool) {
	m := announcement.FindSubmatch(proof)
	if m == nil {
		return "", false
	}
	return fileset.Digest(m[1]), true
}
