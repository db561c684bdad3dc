package host

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// kernel is the daemon of LVS without a kernel that has IPVS: it remembers what it has loaded.
type kernel struct {
	engine.Daemon
	loaded  fileset.Digest
	reloads int
	refuses string // a part of the path of what it refuses
	broken  bool   // it takes nothing
	down    bool   // it does not run
}

func (k *kernel) Ask(context.Context) (engine.Answer, error) {
	if k.down {
		return engine.Answer{}, errors.New("keepalived does not run")
	}
	return engine.Answer{Version: "keepalived/2.2.7", PID: 1, Digest: k.loaded}, nil
}

func (k *kernel) ProvesWithin(_ context.Context, want fileset.Digest, _ time.Duration) bool {
	return k.loaded == want
}

func (k *kernel) Processes(int) (running bool, old int) { return !k.down, 0 }
func (k *kernel) Commands() [][]string                  { return nil }

func (k *kernel) Check(_ context.Context, c engine.Candidate) (words string, err error) {
	for _, p := range c.Paths() {
		if k.refuses != "" && strings.Contains(p, k.refuses) {
			return p, nil
		}
	}
	return "", nil
}

func (k *kernel) Blame(s engine.Suspects, words string) map[string]engine.Culprit {
	return map[string]engine.Culprit{words: {Reason: "keepalived does not like it"}}
}

func (k *kernel) Reload(_ context.Context, want fileset.Digest, _ time.Duration) error {
	if k.broken {
		return &engine.Refusal{Daemon: "keepalived", Message: "it is broken"}
	}
	k.loaded, k.reloads = want, k.reloads+1
	return nil
}

// newDatagramsBox makes a machine with nginx, beside which a kernel carries datagrams.
func newDatagramsBox(t *testing.T) (*box, *kernel) {
	t.Helper()
	b := newBoxOf(t, t.TempDir(), 8192, "datagrams: lvs\n")
	beside := b.agent.units[1]
	own, err := os.ReadFile(filepath.Join(beside.dir, engine.LiveLink, beside.daemon.OwnFile()))
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{Daemon: beside.daemon}
	k.loaded, _ = k.Announced(own)
	beside.daemon = k
	return b, k
}

// quic is a Service with TCP and UDP on one port.
func (b *box) quic(name string, at netip.AddrPort) *lb.Service {
	b.Helper()
	return changed(b.web(name, name, at), func(s *lb.Service) {
		udp := s.Frontends[0]
		udp.Listener.Protocol = lb.UDP
		s.Frontends = append(s.Frontends, udp)
	})
}

// of is a Service's file for one of the machine's daemons; "" if it has none.
func (b *box) of(unit int, s *lb.Service) string {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.agent.units[unit].dir, engine.LiveLink, engine.Path(s.ID)))
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	return string(text)
}

func TestDatagrams_EachDaemonGetsItsPorts(t *testing.T) {
	b, k := newDatagramsBox(t)
	at, other := public(t), public(t)
	quic, web := b.quic("quic", at), b.web("web", "web", other)
	dns := changed(b.quic("dns", public(t)), func(s *lb.Service) { s.Frontends = s.Frontends[1:] })
	b.proved(b.send(wants(b.node(), quic, web, dns)))
	b.says(at, "quic")
	for _, c := range []struct {
		service           *lb.Service
		byNginx, byKernel bool
	}{{quic, true, true}, {web, true, false}, {dns, false, true}} {
		if text := b.of(0, c.service); (text != "") != c.byNginx || strings.Contains(text, "udp") {
			t.Errorf("nginx reads of %s: %q", c.service.ID, text)
		}
		if text := b.of(1, c.service); strings.Contains(text, "protocol UDP") != c.byKernel || strings.Contains(text, "protocol TCP") {
			t.Errorf("keepalived reads of %s: %q", c.service.ID, text)
		}
	}
	if st := b.look(); st.Engine != "nginx+lvs" || !strings.Contains(st.EngineVersion, "keepalived/2") || !st.Running || !st.Proved {
		t.Errorf("%+v", st)
	}
	reloads := k.reloads
	b.proved(b.send(wants(b.node(), quic, changed(web, idle(time.Minute)), dns)))
	if k.reloads != reloads {
		t.Error("a change of TCP has reloaded what carries UDP")
	}
	b.proved(b.send(wants(b.node())))
	if b.of(0, quic)+b.of(1, quic) != "" {
		t.Error("it is still there")
	}
}

// Other templates for datagrams make other files, too.
func TestDatagrams_TheirTemplatesCount(t *testing.T) {
	a := newAgentOf(t, "datagrams: lvs\n")
	was := a.made(a.builtIn)
	a.beside = a.builtIn
	if a.made(a.builtIn) == was {
		t.Error("they do not")
	}
}

// What one daemon refuses of a Service, the other one does not carry either, or keeps at
// the older version that both have.
func TestDatagrams_ARefusalIsForAllOfAService(t *testing.T) {
	b, k := newDatagramsBox(t)
	at, other := public(t), public(t)
	quic, web := b.quic("quic", at), b.web("web", "web", other)
	k.refuses = "quic"
	out := b.send(wants(b.node(), quic, web))
	b.one(out.Refused, lb.RefusedByEngine, "keepalived does not like it")
	b.carriesNow(out, "web")
	b.says(at, "")
	b.says(other, "web")

	k.refuses = ""
	b.proved(b.send(wants(b.node(), quic, web)))
	before := b.of(0, quic)
	k.refuses = "quic"
	next := changed(quic, func(s *lb.Service) { // what both daemons print
		for i := range s.Frontends {
			s.Frontends[i].Settings.Algorithm = lb.SourceHash
		}
	})
	out = b.send(wants(b.node(), next, web))
	if r := b.one(out.Refused, lb.RefusedByEngine, "keepalived does not like it"); !r.OlderStays || !out.Proved {
		t.Errorf("%+v", out)
	}
	if now := b.of(0, quic); now != before {
		t.Errorf("nginx carries the new version of what keepalived keeps at the old one:\n%s", now)
	}
	b.says(at, "quic")
}

// Where the second daemon fails, nobody may take the Service for live or for gone.
func TestDatagrams_LiveIsWhatAllCarry(t *testing.T) {
	b, k := newDatagramsBox(t)
	quic, web := b.quic("quic", public(t)), b.web("web", "web", public(t))
	key := lb.ServiceKey(quic.ID)
	want := encoded(t, wants(b.node(), quic, web))
	k.broken = true
	b.failsWith(CodeMachine, wants(b.node(), quic, web))
	if sum, there := b.look().Live.Sums()[key]; !there || sum == want.Manifest().Sums()[key] {
		t.Errorf("its second daemon has failed: live as %x, %t", sum, there)
	}
	k.broken = false
	b.proved(b.sendItems(want))

	next := wants(b.node(), changed(quic, idle(time.Minute)), web)
	nextSum := encoded(t, next).Manifest().Sums()[key]
	k.refuses = "" // a setting that the kernel does not know makes the same file: it is a relabelling
	b.proved(b.send(next))
	if got := b.look().Live.Sums()[key]; got != nextSum {
		t.Errorf("live as %x, want %x", got, nextSum)
	}

	k.broken = true
	b.failsWith(CodeMachine, wants(b.node(), web))
	if _, there := b.look().Live.Sums()[key]; !there {
		t.Error("it is taken for gone, and the kernel carries it")
	}
	k.broken = false
	b.proved(b.send(wants(b.node(), web)))
}

// While keepalived is down, nginx gets ahead of it. What is refused then keeps the version that was
// delivered last, which keepalived has still: nobody loses the Service.
func TestDatagrams_AnOlderVersionStaysWhileOneIsDown(t *testing.T) {
	b, k := newDatagramsBox(t)
	b.refusesSevenSeconds()
	at := public(t)
	quic := b.quic("quic", at)
	key := lb.ServiceKey(quic.ID)
	out := b.send(wants(b.node(), quic))
	first, carried := out.Live.Sums()[key], b.of(0, quic)
	b.proved(out)
	k.down = true
	b.failsWith(CodeMachine, wants(b.node(), changed(quic, idle(time.Minute))))
	if b.of(0, quic) == carried {
		t.Fatal("nginx is not ahead")
	}
	bad := changed(quic, idle(7*time.Second))
	b.failsWith(CodeMachine, wants(b.node(), bad))
	if now := b.of(0, quic); now != carried {
		t.Errorf("nginx carries\n%s\nnot what was delivered last:\n%s", now, carried)
	}
	b.says(at, "quic")
	k.down = false
	out = b.send(wants(b.node(), bad))
	if r := b.one(out.Refused, lb.RefusedByEngine, "lissen"); !r.OlderStays || out.Live.Sums()[key] != first {
		t.Errorf("%+v, live as %x, want %x", r, out.Live.Sums()[key], first)
	}
}
