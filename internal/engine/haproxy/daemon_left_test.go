package haproxy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// What workers say of their sessions: HAProxy 2.6 by itself, and in the long form.
const (
	sessions = `0x556e9f0f4e50: proto=tcpv4 src=127.0.0.1:47656 fe=a be=a srv=n1 ts=00 epoch=0 age=2s calls=3 rate=0 cpu=0 lat=0 rq[f=848000h,i=0,an=00h,rx=59m57s,wx=,ax=] rp[f=80048000h] scf=[8,0h,fd=13] exp=59m57s rc=0 c_exp=
0x556e9f0f4e60: proto=tcpv4 src=127.0.0.1:47657 fe=a be=b srv=n2 ts=00 epoch=0 age=2s calls=3
0x7f6f0c039ce0: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1
`
	longSessions = `0x7f24f0028a40: [27/Nov/2026:03:40:11.123456] id=7 proto=tcpv4 source=192.0.2.7:4711
  flags=0x44a, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x55d5d0, pend_pos=(nil) waiting=0 epoch=0x0
  frontend=a (id=2 mode=tcp), listener=? (id=1) addr=192.0.2.1:80
  backend=a (id=2 mode=tcp) addr=10.0.0.9:5000
  server=n1 (id=1) addr=10.0.0.1:30080
  task=0x7f24f0028c90 (state=0x00 nice=0 calls=3 rate=0 exp=59m59s tmask=0x1 age=5s)
0x7f24f0028a50: [27/Nov/2026:03:40:12.123456] id=8 proto=tcpv4 source=192.0.2.7:4712
  backend=<NONE> (id=-1 mode=-)
  server=<NONE> (id=-1)
`
)

func readSessions(text string) (all []string) {
	r := sessionReader{each: func(id, server string) { all = append(all, id+" "+server) }}
	for line := range strings.Lines(text) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	return all
}

func TestSessionsAreReadInEachForm(t *testing.T) {
	for text, want := range map[string][]string{
		sessions:     {"0x556e9f0f4e50 a/n1", "0x556e9f0f4e60 b/n2", "0x7f6f0c039ce0 <NONE>/<none>"},
		longSessions: {"0x7f24f0028a40 a/n1", "0x7f24f0028a50 <NONE>/<NONE>"},
		"0x1: be=a srv=n1 be=b srv=n2\n be=c srv=n3\n":               {"0x1 a/n1"}, // the first words alone
		"be=a srv=n1\n0x2;quit: be=a srv=n1\n  0x3: be=a srv=n1\n\n": nil,
		"Can't find the target PID matching the prefix '@!7'\n":      nil,
	} {
		if diff := cmp.Diff(want, readSessions(text)); diff != "" {
			t.Errorf("%s(-want +got):\n%s", text, diff)
		}
	}
}

// FuzzSessions: what a worker says becomes words of commands to it.
func FuzzSessions(f *testing.F) {
	f.Add(sessions)
	f.Add(longSessions)
	f.Fuzz(func(t *testing.T, text string) {
		for _, one := range readSessions(text) {
			id, _, _ := strings.Cut(one, " ")
			if !sessionText.MatchString(id + ":") {
				t.Errorf("%q out of %q", one, text)
			}
		}
	})
}

// daemon with a socket of its own.
func daemon(t *testing.T) *Daemon {
	t.Helper()
	dir := t.TempDir()
	return &Daemon{
		Settings: &Settings{Socket: filepath.Join(dir, "s"), HardStopAfter: engine.Duration(time.Hour)},
		left:     engine.NewLeaving(filepath.Join(dir, leavingFile)),
	}
}

// changes are made to servers that nobody asks how they are.
func (h *Daemon) changes(t *testing.T, all ...proxyChange) {
	t.Helper()
	to, err := h.serverCommands(t.Context(), all, slots{})
	if err == nil {
		err = h.changeServers(t.Context(), to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// section of balanced.
const section = "default.web.1.192-0-2-1.80.tcp"

// Who left without a reload has as long as its drain or else hardStopAfter says, and is told to end
// once. Who came back is not, nor is anybody whom a reload leaves to HAProxy itself.
func TestServersThatLeftAreEnded(t *testing.T) {
	h := daemon(t)
	live := setOf(t)
	h.set = func(string) (engine.Set, error) { return live, nil }
	told := heard(t, h.Socket, "", "")
	repairs := func() (said []string) {
		t.Helper()
		if err := h.Repair(t.Context()); err != nil {
			t.Error(err)
		}
		for len(told) > 0 {
			said = append(said, <-told)
		}
		return said
	}
	change := func(p proxy, gone, appeared string) {
		t.Helper()
		c := proxyChange{proxy: &p, gone: []server{{Name: gone}}}
		if appeared != "" {
			c.appeared = []server{{Name: appeared}}
		}
		h.changes(t, c)
		for len(told) > 0 {
			<-told
		}
	}
	ends := func(name string) []string {
		return []string{"shutdown sessions server " + section + "/" + name, "del server " + section + "/" + name}
	}
	const drain = time.Nanosecond
	change(proxy{name: section}, "n1", "")
	if said := repairs(); said != nil {
		t.Errorf("it has time: %q", said)
	}
	change(proxy{name: section, drain: drain}, "n2", "")
	if said := repairs(); !slices.Equal(said, ends("n2")) {
		t.Errorf("its drain is over: %q", said)
	}
	h.HardStopAfter = 1
	if said := repairs(); !slices.Equal(said, ends("n1")) {
		t.Errorf("its time is over: %q", said)
	}
	if said := repairs(); said != nil {
		t.Errorf("it was told: %q", said)
	}
	for name, then := range map[string]func(){
		"came back":          func() { change(proxy{name: section}, "n3", "n1"); live = setOf(t, balanced()) },
		"is live":            func() { live = setOf(t, balanced()) },
		"of a reload before": func() { h.leftBehind(nil) },
	} {
		live = setOf(t)
		change(proxy{name: section}, "n1", "")
		then()
		if said := repairs(); slices.Contains(said, ends("n1")[0]) {
			t.Errorf("%s: %q", name, said)
		}
	}
	h.left.Leave(map[string]time.Duration{"owners/n1": drain})
	if said := repairs(); said != nil {
		t.Errorf("of the host's owner: %q", said)
	}
}

// Who left and cannot be noted is told at once, and not when its time is over.
func TestWhoCannotBeNotedIsToldAtOnce(t *testing.T) {
	h := daemon(t)
	h.left = engine.NewLeaving(filepath.Join(t.TempDir(), "none", leavingFile))
	h.left.Leave(map[string]time.Duration{section + "/n1": time.Hour})
	if err := h.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "who left is not noted") {
		t.Errorf("it says %v", err)
	}
}

// workers has HAProxy run with one that answers and an old one, so far as processes say that.
func (h *Daemon) workers(t *testing.T) {
	t.Helper()
	for range 2 {
		child := exec.Command("sleep", "60")
		child.Args[0] = "haproxy"
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = child.Process.Kill()
			_ = child.Wait() // it was killed
		})
	}
	h.Settings.PIDFile = filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(h.Settings.PIDFile, fmt.Append(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Old workers that do not end connections are left alone for a while, and that is said. Meanwhile the worker
// that answers ends others, each once.
func TestOldWorkersHoldBackNothingInTheCurrentOne(t *testing.T) {
	h := daemon(t)
	h.workers(t)
	asked := 0
	h.asRoot = func(context.Context) error {
		asked++
		return errors.New("an old worker hangs")
	}
	h.set = func(string) (engine.Set, error) { return setOf(t), nil }
	told := heard(t, h.Socket, "", "")
	for _, name := range []string{section + "/n1", section + "/n2"} {
		h.left.Leave(map[string]time.Duration{name: time.Nanosecond})
		if !h.Late() {
			t.Errorf("%s is not late", name)
		}
		if err := h.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "an old worker hangs") {
			t.Errorf("it says %v", err)
		}
		want := []string{"shutdown sessions server " + name, "del server " + name}
		var said []string
		for len(told) > 0 {
			said = append(said, <-told)
		}
		if !slices.Equal(said, want) {
			t.Errorf("it is told %q, want %q", said, want)
		}
	}
	if asked != 1 || h.Late() {
		t.Errorf("root was asked %d times; late: %v", asked, h.Late())
	}
	if err := h.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "an old worker hangs") {
		t.Errorf("it says %v", err)
	}
}

// Where root cannot end them, those that were told are forgotten when no worker has their connections any more.
func TestWhomNoWorkerHasIsForgotten(t *testing.T) {
	h := daemon(t)
	h.workers(t)
	h.asRoot = func(context.Context) error { return errors.New("its master has no socket") }
	h.set = func(string) (engine.Set, error) { return setOf(t), nil }
	heard(t, h.Socket, "", "")
	h.left.Leave(map[string]time.Duration{section + "/n1": 1})
	if err := h.Repair(t.Context()); err == nil || len(h.late()) != 1 {
		t.Errorf("%d are late, it says %v", len(h.late()), err)
	}
	h.HardStopAfter = 1
	if err := h.Repair(t.Context()); err != nil || len(h.late()) > 0 {
		t.Errorf("%d are late, it says %v", len(h.late()), err)
	}
}

// slow is a HAProxy that takes a while for each connection, one after the other.
func slow(t *testing.T, socket string, each time.Duration) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it is there until then
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n') // who asked has gone otherwise
			time.Sleep(each)
			_ = conn.Close()
		}
	}()
}

// However slow HAProxy is: those of whom it was told are done with, also in old workers, and the others are next.
func TestASlowHAProxyIsToldOneAfterAnother(t *testing.T) {
	h := daemon(t)
	h.workers(t)
	var marked map[string]bool
	h.asRoot = func(context.Context) (err error) {
		marked, err = h.left.Marked()
		return errors.Join(err, errors.New("an old worker hangs"))
	}
	h.set = func(string) (engine.Set, error) { return setOf(t), nil }
	slow(t, h.Socket, tellTime/5)
	many := map[string]time.Duration{}
	for i := range 1000 {
		many[fmt.Sprint(section, "/n", i)] = time.Nanosecond
	}
	h.left.Leave(many)
	if err := h.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "an old worker hangs") {
		t.Errorf("it says %v", err)
	}
	untold, told := h.left.Untold(h.late())
	if len(untold) == 0 || len(told) == 0 || len(marked) != len(told) {
		t.Errorf("%d are told, and %d are not; root knows of %d", len(told), len(untold), len(marked))
	}
	h.old = engine.Pause{}
	if first := h.due(h.late())[:len(untold)]; !slices.Equal(slices.Sorted(slices.Values(first)), untold) {
		t.Error("those that were told are due before the others")
	}
}

// set of what Services print, by their names.
func setOf(t *testing.T, all ...*engine.Service) engine.Set {
	t.Helper()
	printed := map[string][]byte{engine.MainPath: []byte("[]")}
	for _, s := range all {
		printed[engine.Path(s.ID)], _ = views(t, s)
	}
	return engine.Set{
		Paths: slices.Sorted(maps.Keys(printed)),
		Read:  func(path string) ([]byte, error) { return printed[path], nil },
		Sum:   func(path string) lb.Sum { return sha256.Sum256(printed[path]) },
	}
}

func TestWhoIsGoneHasItsDrain(t *testing.T) {
	drains := func(d time.Duration, change ...func(*engine.Frontend)) *engine.Service {
		s := balanced()
		s.Frontends[0].Settings.Drain = d
		for _, c := range change {
			c(&s.Frontends[0])
		}
		return s
	}
	one := func(f *engine.Frontend) { f.Backends = f.Backends[:1] }
	none := func(f *engine.Frontend) { f.Backends = nil }
	elsewhere := func(f *engine.Frontend) { f.Listener.Port = 81 }
	for name, c := range map[string]struct {
		before, now engine.Set
		want        map[string]time.Duration
	}{
		"nobody":                      {setOf(t, drains(time.Minute)), setOf(t, drains(time.Minute)), nil},
		"another drain alone":         {setOf(t, drains(time.Minute)), setOf(t, drains(time.Hour)), nil},
		"a node":                      {setOf(t, drains(time.Minute)), setOf(t, drains(time.Minute, one)), map[string]time.Duration{section + "/n2": time.Minute}},
		"a node, with a new drain":    {setOf(t, drains(0)), setOf(t, drains(time.Hour, one)), map[string]time.Duration{section + "/n2": time.Hour}},
		"a node, and without a drain": {setOf(t, drains(time.Minute)), setOf(t, drains(0, one)), nil},
		"all nodes":                   {setOf(t, drains(time.Second)), setOf(t, drains(time.Second, none)), map[string]time.Duration{section + "/n1": time.Second, section + "/n2": time.Second}},
		"the Service":                 {setOf(t, drains(time.Minute)), setOf(t), map[string]time.Duration{section + "/n1": time.Minute, section + "/n2": time.Minute}},
		"a Service without a drain":   {setOf(t, drains(0)), setOf(t), nil},
		"a port":                      {setOf(t, drains(time.Minute)), setOf(t, drains(time.Hour, elsewhere)), map[string]time.Duration{section + "/n1": time.Minute, section + "/n2": time.Minute}},
		"who has come":                {setOf(t), setOf(t, drains(time.Minute)), nil},
	} {
		got, _, err := goneServers(c.before, c.now, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil {
			c.want = map[string]time.Duration{}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// master is the socket of one, whose workers, by their ids, say which sessions they have. What it was
// told to end is sent.
func master(t *testing.T, workers map[string]func(say func(text string) error)) (socket string, ended chan string) {
	t.Helper()
	socket, ended = filepath.Join(t.TempDir(), "m"), make(chan string, 100_000)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it is there until then
	serve := func(conn net.Conn) {
		defer conn.Close()
		line, _ := bufio.NewReader(conn).ReadString('\n')
		for command := range strings.SplitSeq(strings.TrimSpace(line), ";") {
			to, what, _ := strings.Cut(command, " ")
			if what == "show sess" {
				workers[to](func(text string) error { _, err := io.WriteString(conn, text); return err })
			} else {
				ended <- to + " " + what
			}
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return socket, ended
}

// Of workers that say nothing, or more than there is time for, others know nothing; and what was
// heard of one is ended whether it says more or not.
func TestWorkersHoldBackNoOther(t *testing.T) {
	gone := make(chan struct{})
	t.Cleanup(func() { close(gone) })
	hangs := func(func(string) error) { <-gone }
	endless := func(say func(string) error) {
		for i := 0; say(fmt.Sprintf("0x%x: be=a srv=n1\n0x%x: be=a srv=n2\n", 2*i+1, 2*i+2)) == nil; i++ {
		}
	}
	socket, ended := master(t, map[string]func(func(string) error){
		"@!1": hangs, "@!2": endless, "@!3": func(say func(string) error) { _ = say("0x3: be=a srv=n1\n") }, // who asked has gone otherwise
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := endInAll(ctx, socket, []int{1, 2, 3}, map[string]bool{"a/n1": true})
	if err == nil || !strings.Contains(err.Error(), "an old worker does not say which connections it has") {
		t.Errorf("it says %v", err)
	}
	told := map[string]bool{}
	for len(ended) > 0 {
		told[<-ended] = true
	}
	for _, want := range []string{"@!2 shutdown session 0x1", "@!2 shutdown session 0x1f", "@!3 shutdown session 0x3"} {
		if !told[want] {
			t.Errorf("not told: %q, but %d others", want, len(told))
		}
	}
	if told["@!2 shutdown session 0x2"] {
		t.Error("told to end what stays")
	}
}
