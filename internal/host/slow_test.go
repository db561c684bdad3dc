package host

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// sluggish is a daemon that takes its time, and more than its settings say.
type sluggish struct {
	*instant
	check, reload time.Duration
	late          int
}

func (d *sluggish) Whole() []string { return []string{"check"} }

func (d *sluggish) CheckWhole(context.Context, []string) (string, error) {
	time.Sleep(d.check)
	return "", nil
}

func (d *sluggish) Reload(_ context.Context, want fileset.Digest, least time.Duration) error {
	within := max(30*time.Second, least)
	if time.Sleep(min(d.reload, within)); d.reload > within {
		d.late++
		return &engine.Refusal{Daemon: "slow", Message: engine.NotWithin(within), Late: true}
	}
	d.runs = want
	return nil
}

// A host that is merely slow takes what is good: one reload that is late, or a check that takes long,
// says how long the next one may take.
func TestASlowHostTakesWhatIsGood(t *testing.T) {
	bindAnything(t)
	for name, c := range map[string]struct {
		check, reload time.Duration
		late          int // reloads, with those of the ways back
	}{
		"it is quick":                   {0, time.Second, 0},
		"nothing is known of it":        {0, 100 * time.Second, 2},
		"its check tells":               {20 * time.Second, 150 * time.Second, 0},
		"its check tells half of it":    {4 * time.Second, 70 * time.Second, 1},
		"at the end of patience":        {0, mostPatience, 4},
		"its check takes very long too": {10 * time.Minute, mostPatience, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDeliveries(t, 1, 1)
				u := d.agent.units[0]
				s := &sluggish{instant: u.daemon.(*instant), check: c.check, reload: c.reload}
				u.daemon = s
				send := func(change func(*lb.Service)) error {
					next := *d.cfg
					next.Services = []*lb.Service{changed(next.Services[0], change)}
					now, err := d.coder.Encode(&next)
					if err != nil {
						t.Fatal(err)
					}
					d.seq++
					if _, err := d.agent.Apply(t.Context(), d.delivery(now)); err != nil {
						return err
					}
					d.cfg, d.set = &next, now
					return nil
				}
				err := send(idle(time.Minute))
				for range 9 {
					if err == nil {
						break
					}
					if !strings.HasSuffix(err.Error(), "is the host overloaded?") {
						t.Errorf("message: %v", err)
					}
					err = send(idle(time.Minute))
				}
				if err != nil || s.late != c.late {
					t.Errorf("%d reloads were late, want %d; %v", s.late, c.late, err)
				}
				if err := send(idle(2 * time.Minute)); err != nil || s.late != c.late {
					t.Errorf("the next change: %d reloads were late; %v", s.late-c.late, err)
				}
			})
		})
	}
}

// odd is an nginx that is as somebody wants.
type odd struct {
	*nginx.Daemon
	reload func(context.Context, fileset.Digest, time.Duration) error
	ask    func(context.Context) (engine.Answer, error)
	proves func(ctx context.Context, want fileset.Digest, limit time.Duration) bool
}

func newOdd(b *box) *odd {
	n := b.nginx()
	o := &odd{Daemon: n, reload: n.Reload, ask: n.Ask, proves: n.ProvesWithin}
	b.unit.daemon = o
	return o
}

func (o *odd) Reload(ctx context.Context, want fileset.Digest, least time.Duration) error {
	return o.reload(ctx, want, least)
}

func (o *odd) Ask(ctx context.Context) (engine.Answer, error) { return o.ask(ctx) }

func (o *odd) ProvesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool {
	return o.proves(ctx, want, limit)
}

// crashed makes a machine of which an agent died on the way from "one" to "two".
func crashed(t *testing.T, step string) (b *box, one, two *fileset.Set) {
	t.Helper()
	b = newBox(t)
	at := local(t)
	one, two = set(t, service(t, "web", "one", at)), set(t, service(t, "web", "two", at))
	b.apply(one)
	if died, err := b.applyAndCrash(step, b.order(two)); !died {
		t.Fatalf("the step did not come: %v", err)
	}
	b.take(b.newAgent(""))
	return b, one, two
}

// Who hangs up while what was begun is undone does not leave that to the next one, who would reload again.
func TestWhatIsUndoneIsUndoneOnce(t *testing.T) {
	b, one, _ := crashed(t, "reload")
	ctx, hangUp := context.WithCancel(t.Context())
	o := newOdd(b)
	reloads := 0
	o.reload = func(ctx context.Context, want fileset.Digest, least time.Duration) error {
		reloads++
		hangUp()
		return o.Daemon.Reload(ctx, want, least)
	}
	if _, err := b.unit.status(ctx); err == nil {
		t.Error("a status for somebody who has hung up")
	}
	if _, err := os.Lstat(filepath.Join(b.unit.dir, nextStateFile)); err == nil {
		t.Error("it is not finished")
	}
	b.consistent(one.Digest())
	if reloads != 1 {
		t.Errorf("%d reloads", reloads)
	}
}

// A slow host runs what it has loaded, though it cannot say so often in a second.
func TestASlowHostKeepsWhatItRuns(t *testing.T) {
	b, _, two := crashed(t, "commit")
	o := newOdd(b)
	o.proves = func(_ context.Context, want fileset.Digest, limit time.Duration) bool {
		return limit > 8*time.Second && want == two.Digest()
	}
	b.consistent(two.Digest())
}

// A daemon that runs what was before is not asked for long.
func TestWhatWasNotLoadedIsUndoneAtOnce(t *testing.T) {
	b, one, _ := crashed(t, "reload")
	o := newOdd(b)
	asked := 0
	o.proves = func(context.Context, fileset.Digest, time.Duration) bool {
		asked++
		return false
	}
	if b.consistent(one.Digest()); asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
}

// A daemon that is too slow to answer is not said to lack the configuration.
func TestADaemonThatDoesNotAnswer(t *testing.T) {
	b, _, two := crashed(t, "reload")
	o := newOdd(b)
	refuses := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}
	for _, c := range []struct {
		err   error
		words string
	}{
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "nginx runs, and does not answer within 10s: is the host overloaded?"},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, "nginx runs, and does not answer within 10s: is the host overloaded?"},
		{refuses, o.Unincluded()},
	} {
		o.ask = func(context.Context) (engine.Answer, error) { return engine.Answer{}, c.err }
		if e := b.fails(CodeMachine, b.order(two)); e.Message != c.words { // what the crash has left cannot be undone
			t.Errorf("a delivery says %q, want %q", e.Message, c.words)
		}
		if st := b.status(); st.message != c.words {
			t.Errorf("the status says %q, want %q", st.message, c.words)
		}
	}
	o.ask = o.Daemon.Ask
	b.apply(two)
	o.ask = func(context.Context) (engine.Answer, error) { return engine.Answer{}, os.ErrDeadlineExceeded }
	if e := b.fails(CodeMachine, b.order(two)); !strings.Contains(e.Message, "does not answer within") {
		t.Errorf("a delivery says %q", e.Message)
	}
}

// Templates of the owner's that a daemon was only too slow to prove are tried again, and not for ever.
func TestTemplatesThatAreLate(t *testing.T) {
	b := newBox(t)
	web := b.web("web", "one", public(t))
	b.send(wants(b.node(), web))
	const name = "service.conf.tmpl"
	plain := builtIn(t, name)
	o := newOdd(b)
	mark, late, tried := "", 0, 0
	o.reload = func(ctx context.Context, want fileset.Digest, least time.Duration) error {
		if text, err := os.ReadFile(b.file(web)); err == nil && strings.HasSuffix(string(text), mark) {
			if tried++; tried <= late {
				return &engine.Refusal{Daemon: "nginx", Message: engine.NotWithin(time.Minute), Late: true}
			}
		}
		return o.Daemon.Reload(ctx, want, least)
	}
	send := func(ending string, words ...string) Status {
		t.Helper()
		if _, err := b.agent.Apply(t.Context(), b.delivery(encoded(t, wants(b.node(), web)))); err != nil {
			t.Fatal(err)
		}
		st := b.look()
		if !st.Proved || !strings.HasSuffix(b.text(web), ending) || (st.Templates == "") != (len(words) == 0) ||
			slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(st.Templates, w) }) {
			t.Errorf("proved: %t, told: %q, live:\n%s", st.Proved, st.Templates, b.text(web))
		}
		return st
	}
	const slowly, again = "within 1m0s: is the host overloaded?", "; the next delivery tries them again"

	mark, late = "# first\n", 1
	b.template(name, plain+mark)
	send("}\n", slowly, "the built-in ones are in force"+again)
	send("# first\n")

	mark, late, tried = "# second\n", lateTrials, 0
	b.template(name, plain+mark)
	for range lateTrials - 1 {
		send("# first\n", slowly, "the last good ones are in force"+again)
	}
	for range 3 {
		if st := send("# first\n", slowly); strings.Contains(st.Templates, again) || st.Outdated {
			t.Errorf("told: %q, to be made anew: %t", st.Templates, st.Outdated)
		}
	}
	if tried != lateTrials {
		t.Errorf("%d trials", tried)
	}
}
