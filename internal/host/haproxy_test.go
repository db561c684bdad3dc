package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/test/wait"
)

// haproxyConf is the owner's, with defaults that must not leak into what is delivered.
const haproxyConf = `
global
    maxconn 512
defaults
    mode http
    timeout connect 1ms
    timeout client 1ms
    timeout server 1ms
`

// newHAProxyBox makes a machine whose HAProxy runs the empty configuration.
func newHAProxyBox(t *testing.T) *box {
	t.Helper()
	b := &box{T: t, dir: t.TempDir(), settings: haproxySettings}
	b.take(b.newAgent(t.TempDir()))
	b.write("haproxy.cfg", []byte(haproxyConf))
	b.command = []string{"haproxy", "-W", "-f", b.in("haproxy.cfg"), "-f", b.haproxy().Live(), "-p", b.in("pid"), "-S", b.in("m")}
	b.boot()
	return b
}

func haproxySettings(b *box, root string) string {
	return fmt.Sprintf(`
engine: haproxy
root: %s
haproxy:
  conf: %[2]s
  checkAll: [haproxy, -c, -f, %[2]s, -f, %[1]s/haproxy/live/haproxy.cfg]
  reload: [pkill, -USR2, -F, %[3]s]
  pidFile: %[3]s
  proofTimeout: 10s
`+b.more, root, b.in("haproxy.cfg"), b.in("pid"))
}

func (b *box) haproxy() *haproxy.Daemon { return b.unit.daemon.(*haproxy.Daemon) }

// carried is a fragment that carries to somebody who says a text.
func carried(t testing.TB, name, text string, at netip.AddrPort) fileset.File {
	t.Helper()
	return fragment(t, name, carriedText(name, sayer(t, text), at), at)
}

func carriedText(name string, to, at netip.AddrPort) string {
	return fmt.Sprintf("listen %s\n    bind %s\n    server s %s\n", name, at, to)
}

// sayer says a text to whoever connects.
func sayer(t testing.TB, text string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, text) // a client that has gone is not missed
			c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		done.Wait()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// haproxySet is a set with the defaults that the renderer writes.
func haproxySet(t testing.TB, fragments ...fileset.File) *fileset.Set {
	t.Helper()
	main, err := fileset.NewFile("main.conf", []byte("defaults external-lb\n    mode tcp\n    timeout connect 1s\n    timeout client 10s\n    timeout server 10s\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := fileset.New(append(fragments, main)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHAProxy_ApplyProvesWhatIsLive(t *testing.T) {
	b := newHAProxyBox(t)
	web, dns := local(t), local(t)
	out := b.apply(haproxySet(t, carried(t, "web", "one", web), carried(t, "dns", "dns", dns)))
	if !out.Reloaded || len(out.Refused) > 0 {
		t.Fatalf("outcome: %+v", out)
	}
	b.says(web, "one")
	b.says(dns, "dns")
	want := haproxySet(t, carried(t, "web", "two", web))
	if out = b.apply(want); out.Live != want.Digest() {
		t.Fatalf("live is %s, want %s", out.Live, want.Digest())
	}
	b.says(web, "two")
	b.says(dns, "")
	if v := b.status().version; !strings.HasPrefix(v, "haproxy/2.") {
		t.Errorf("engine version %q", v)
	}
	if out = b.apply(want); out.Reloaded {
		t.Error("reloaded though nothing changed")
	}
}

// HAProxy's own file is the whole configuration: however large that is, it is not taken for one that is gone.
func TestHAProxy_ALargeConfigurationIsWhole(t *testing.T) {
	b := newHAProxyBox(t)
	live := b.apply(haproxySet(t, carried(t, "web", "one", local(t)))).Live
	if err := os.Truncate(b.haproxy().Live(), maxRecord+1); err != nil { // a file of holes takes no room
		t.Fatal(err)
	}
	s, err := openStore(b.unit.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if digest, ok := b.unit.digest(s, s.linked(engine.LiveLink)); !ok || digest != live {
		t.Errorf("%s, %t, not %s", digest, ok, live)
	}
}

// HAProxy names every line that it refuses: the lines of one file lead back to
// the fragments.
func TestHAProxy_RefusedFragmentsAreLeftOutAndTheOthersGoLive(t *testing.T) {
	b := newHAProxyBox(t)
	at := local(t)
	good := carried(t, "b-good", "good", at)
	all := haproxySet(t,
		fragment(t, "a-bad", "listen a\n    lissen 1\n"), good,
		fragment(t, "c-bad", "listen c\n    bind 127.0.0.1:1\n    balance sometimes\n"))
	for round := range 2 {
		out := b.apply(all)
		if diff := cmp.Diff([]string{"services/a-bad.conf", "services/c-bad.conf"}, out.paths()); diff != "" {
			t.Fatal(diff)
		}
		for i, word := range []string{"lissen", "balance"} {
			if reason := out.Refused[i].Reason; !strings.Contains(reason, word) || strings.Contains(reason, b.unit.dir) {
				t.Errorf("reason %q: want HAProxy's words on %s", reason, word)
			}
		}
		if out.Reloaded != (round == 0) || out.Live != haproxySet(t, good).Digest() {
			t.Fatalf("round %d: %+v", round, out)
		}
		b.says(at, "good")
	}
}

// Either would pass HAProxy's check and stop all of its ports for two seconds.
func TestHAProxy_WhatCannotBeBoundIsFoundBeforeTheReload(t *testing.T) {
	b := newHAProxyBox(t)
	at, taken := local(t), sayer(t, "somebody else")
	out := b.apply(haproxySet(t,
		carried(t, "here", "here", at),
		carried(t, "taken", "x", taken),
		carried(t, "absent", "x", netip.MustParseAddrPort("192.0.2.9:80"))))
	if diff := cmp.Diff([]string{"services/absent.conf", "services/taken.conf"}, out.paths()); diff != "" {
		t.Fatal(diff)
	}
	if !strings.Contains(out.Refused[0].Reason, "is not on this host") || !strings.Contains(out.Refused[1].Reason, "is taken by host.test") {
		t.Errorf("reasons: %+v", out.Refused)
	}
	b.says(at, "here")
	b.says(taken, "somebody else")
}

// The owner's own file may break at any time: what runs goes on.
func TestHAProxy_ABrokenConfigurationOfTheOwnersIsNotLoaded(t *testing.T) {
	b := newHAProxyBox(t)
	at := local(t)
	before := b.apply(haproxySet(t, carried(t, "web", "one", at)))
	b.write("haproxy.cfg", []byte(haproxyConf+"nonsense\n"))
	e := b.fails(CodeMachine, b.order(haproxySet(t, carried(t, "web", "two", at))))
	if !strings.Contains(e.Message, "it refuses what its owner has written: ") || !strings.Contains(e.Message, "nonsense") || !strings.Contains(e.Message, b.in("haproxy.cfg")) {
		t.Errorf("message: %s", e.Message)
	}
	b.consistent(before.Live)
	b.says(at, "one")
	b.write("haproxy.cfg", []byte(haproxyConf))
	b.apply(haproxySet(t, carried(t, "web", "two", at)))
	b.says(at, "two")
}

func TestHAProxy_TamperingShows(t *testing.T) {
	b := newHAProxyBox(t)
	at := local(t)
	want := haproxySet(t, carried(t, "web", "one", at))
	b.apply(want)
	own := b.haproxy().Live()
	text, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	put(t, own, strings.Replace(string(text), "mode tcp", "mode http", 1))
	if b.status().proved {
		t.Fatal("the status does not tell that HAProxy's file was changed")
	}
	b.apply(want)
	b.says(at, "one")
}

// standing is a connection by way of HAProxy that nobody has said anything on.
type standing struct{ near, far net.Conn }

func standingAt(t *testing.T, at netip.AddrPort, silent net.Listener) standing {
	t.Helper()
	near, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return standing{near, far}
}

func (s standing) lives(t *testing.T) {
	t.Helper()
	fmt.Fprint(s.far, "still here")
	word := make([]byte, 10)
	if _, err := s.near.Read(word); err != nil || string(word) != "still here" {
		t.Errorf("the connection says %q, %v", word, err)
	}
}

// Connections of an earlier configuration live on, on a worker that is counted.
func TestHAProxy_OldWorkersAreCounted(t *testing.T) {
	b := newHAProxyBox(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	at, to := local(t), netip.MustParseAddrPort(silent.Addr().String())
	b.apply(haproxySet(t, fragment(t, "web", carriedText("web", to, at), at)))
	c := standingAt(t, at, silent)
	b.apply(haproxySet(t, carried(t, "other", "x", local(t)), fragment(t, "web", carriedText("web", to, at), at)))
	wait.True(b, "one old worker is left", func() bool { return b.status().oldWorkers == 1 })
	c.lives(t)
	c.near.Close()
	wait.True(b, "the old worker ends", func() bool { return b.status().oldWorkers == 0 })
}

func TestHAProxy_SaysWhyItProvesNothing(t *testing.T) {
	b := newHAProxyBox(t)
	b.stop()
	if m := b.status().message; !strings.HasPrefix(m, "HAProxy does not run: start it") {
		t.Errorf("stopped: %q", m)
	}
	b.command = append(b.command[:4:4], "-p", b.in("pid")) // without what is delivered
	b.write("haproxy.cfg", fmt.Appendf([]byte(haproxyConf), "listen own\n    bind %s\n", local(t)))
	b.startUnasked()
	wait.True(b, "it is told apart", func() bool {
		m := b.status().message
		return strings.Contains(m, "HAProxy runs, but without external-lb's configuration")
	})
}

// HAProxy makes its socket at its start alone.
func TestHAProxy_SaysThatItsSocketIsGone(t *testing.T) {
	b := newHAProxyBox(t)
	socket := b.haproxy().Socket
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	if m := b.status().message; !strings.HasPrefix(m, "HAProxy does not answer at its socket "+socket) {
		t.Error(m)
	}
	b.stop()
	b.startUnasked()
	wait.True(b, "it is well", func() bool { return b.status().message == "" })
}

func TestHAProxy_Install(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		options := InstallOptions{Engine: "haproxy", AuthorizedKeys: []string{aKey}}
		want := map[string]engine.StepResult{
			"family": engine.StepPresent, "packages": engine.StepPresent, "directory": engine.StepDone, "settings": engine.StepDone, "user": engine.StepDone, "first configuration": engine.StepDone,
			"include": engine.StepDone, "sudo rights": engine.StepDone, "authorized keys": engine.StepDone, "haproxy": engine.StepWarning, "first model": engine.StepDone, "agent": engine.StepWarning,
		}
		if diff := cmp.Diff(want, install(t, options)); diff != "" {
			t.Error(diff)
		}
		const start = `. /etc/default/haproxy; mkdir -p /run/haproxy
			haproxy -W -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg $EXTRAOPTS >/dev/null 2>&1 </dev/null`
		run(t, "sh", "-ec", start)
		for name, result := range install(t, options) {
			if result != engine.StepPresent && name != "agent" { // no systemd runs there
				t.Errorf("a second time: %s is %s", name, result)
			}
		}
		// As the account, with the rights that it was given.
		at := local(t)
		status := run(t, "su", account, "-c", "sudo -n haproxy -c -f /etc/haproxy/haproxy.cfg -f /var/lib/external-lb/haproxy/live/haproxy.cfg && sudo -n pkill -USR2 -F /run/haproxy.pid && ! sudo -n true 2>/dev/null")
		t.Log(status)
		s, err := LoadSettings(SettingsPath, &engines.Table)
		if err != nil {
			t.Fatal(err)
		}
		b := &box{T: t}
		b.take(agentOf(t, s))
		b.apply(haproxySet(t, carried(t, "web", "one", at)))
		if got := hear(at); got != "one" {
			t.Errorf("%s says %q", at, got)
		}
	})
}

func TestHAProxy_InstallKeepsTheOptionsOfItsOwner(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		put(t, "/etc/default/haproxy", "CONFIG=/etc/haproxy/haproxy.cfg\nEXTRAOPTS='-de -m 512'\n# the end\n")
		defer hidden(t, "/etc/default/haproxy")()
		install(t, InstallOptions{Engine: "haproxy", AuthorizedKeys: []string{aKey}})
		text, err := os.ReadFile("/etc/default/haproxy")
		if err != nil {
			t.Fatal(err)
		}
		want := "CONFIG=/etc/haproxy/haproxy.cfg\nEXTRAOPTS=\"-de -m 512 -f /var/lib/external-lb/haproxy/live/haproxy.cfg\"\n# the end\n"
		if diff := cmp.Diff(want, string(text)); diff != "" {
			t.Error(diff)
		}
	})
}
