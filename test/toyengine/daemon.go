package toyengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// Daemon is toyd on one machine.
type Daemon struct {
	*Settings
	engine.Runner
	dir string // of the store
}

func open(p engine.Place) engine.Daemon {
	return &Daemon{p.Settings.(*Settings), p.Runner, p.Dir} // of Engine.Settings
}

func (d *Daemon) Name() string         { return "toyd" }
func (d *Daemon) StopsAtFirst() bool   { return false }
func (d *Daemon) PIDFile() string      { return d.Settings.PIDFile }
func (d *Daemon) Commands() [][]string { return [][]string{d.Settings.Reload} }

// OwnFile says which set it is in.
func (d *Daemon) OwnFile() string { return "generation" }

func (d *Daemon) Own(c engine.Candidate) ([]byte, error) { return []byte(c.Digest() + "\n"), nil }

var digest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (d *Daemon) Announced(own []byte) (fileset.Digest, bool) {
	text := strings.TrimSuffix(string(own), "\n")
	return fileset.Digest(text), digest.MatchString(text)
}

func (d *Daemon) Check(ctx context.Context, _ engine.Candidate) (words string, err error) {
	return d.verdict(ctx, d.Settings.Check)
}

func (d *Daemon) verdict(ctx context.Context, argv []string) (words string, err error) {
	return engine.Verdict(ctx, d.Runner, argv, "toyd procps", strings.TrimSpace)
}

// said is an answer of toyd, with what became of its last load.
type said struct {
	engine.Answer
	loads   int
	refused string
}

// tell asks toyd: "toy/1.0.0 PID DIGEST", and a line "LOADS WORDS".
func (d *Daemon) tell(ctx context.Context) (said, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
	if err != nil {
		return said{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return said{}, err
	}
	text, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil {
		return said{}, err
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	loads, refused, _ := strings.Cut(rest, " ")
	parts := strings.Fields(first)
	if len(parts) != 3 || !digest.MatchString(parts[2]) {
		return said{}, fmt.Errorf("%.80q is not an answer of toyd with external-lb's configuration", first)
	}
	out := said{Answer: engine.Answer{Version: parts[0], Digest: fileset.Digest(parts[2])}, refused: strings.TrimSpace(refused)}
	pid, pidErr := strconv.Atoi(parts[1])
	n, loadsErr := strconv.Atoi(loads)
	out.PID, out.loads = pid, n
	return out, errors.Join(pidErr, loadsErr)
}

func (d *Daemon) Ask(ctx context.Context) (engine.Answer, error) {
	s, err := d.tell(ctx)
	return s.Answer, err
}

func (d *Daemon) Reload(ctx context.Context, want fileset.Digest, least time.Duration) error {
	before, _ := d.tell(ctx) // it may run without us so far
	words, err := d.verdict(ctx, d.Settings.Reload)
	if err != nil {
		return err
	}
	if words != "" {
		return &engine.Refusal{Daemon: d.Name(), Message: words}
	}
	return d.proof(want, max(time.Duration(d.ProofTimeout), least), func(bool) string {
		if now, err := d.tell(ctx); err == nil && now.loads > before.loads {
			return now.refused
		}
		return ""
	}).Wait(ctx)
}

func (d *Daemon) proof(want fileset.Digest, within time.Duration, refused func(late bool) string) engine.Proof {
	return engine.Proof{Daemon: d.Name(), Ask: d.Ask, Want: want, Seen: true, Within: within, Refused: refused}
}

func (d *Daemon) ProvesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return d.proof(want, limit, func(bool) string { return "" }).Wait(ctx) == nil
}

func (d *Daemon) Processes(int) (running bool, old int) {
	pid, _ := engine.Children(d.Settings.PIDFile, "toyd", "toyd")
	return pid != 0, 0
}

func (d *Daemon) Version(ctx context.Context) (string, error) {
	out, err := d.Run(ctx, []string{d.Binary, "-v"})
	if err != nil {
		return "", errors.New(d.Binary + " cannot be run: install toyd")
	}
	return strings.TrimSpace(out), nil
}

func (d *Daemon) TooOld(version string) string {
	if engine.Older(version, name, [3]int{1, 0, 0}) {
		return version + " is too old: install toyd 1.0.0 or later"
	}
	return ""
}

func (d *Daemon) live() string { return filepath.Join(d.dir, engine.LiveLink) }

func (d *Daemon) Unincluded() string {
	return fmt.Sprintf("toyd runs, but without external-lb's configuration: %s must include %s, to which `external-lb host install` sees", d.Conf, d.live())
}

func (d *Daemon) Stopped() string { return "toyd does not run: start it" }
