package haproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// balanced is a Service with one port on two nodes.
func balanced() *engine.Service {
	return &engine.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "1"}, Frontends: []engine.Frontend{{
		Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: lb.TCP}, NodePort: 30080, Allow: lb.Clients{Everybody: true},
		Settings: lb.Settings{
			Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
			HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
		},
		Backends: []engine.Backend{{Node: "n1", Address: netip.MustParseAddrPort("10.0.0.1:30080")}, {Node: "n2", Address: netip.MustParseAddrPort("10.0.0.2:30080")}},
	}}}
}

// views of a Service's file and of the one that stands for the whole.
func views(t *testing.T, s *engine.Service) (own, main []byte) {
	t.Helper()
	v, err := viewOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if own, err = json.Marshal(v.Data); err == nil {
		main, err = json.Marshal(mainOf(v.Shared))
	}
	if err != nil {
		t.Fatal(err)
	}
	return own, main
}

func TestServerChanges(t *testing.T) {
	third := engine.Backend{Node: "n3", Address: netip.MustParseAddrPort("10.0.0.3:30080")}
	for name, c := range map[string]struct {
		change func(*engine.Frontend)
		ok     bool
		want   string // gone, appeared, and weights that changed
	}{
		"same":             {func(*engine.Frontend) {}, true, "0 0"},
		"one less":         {func(f *engine.Frontend) { f.Backends = f.Backends[:1] }, true, "1 0"},
		"one more":         {func(f *engine.Frontend) { f.Backends = append(f.Backends, third) }, true, "0 1"},
		"another weight":   {func(f *engine.Frontend) { f.Backends[0].Weight = 3 }, true, "0 0 3"},
		"another address":  {func(f *engine.Frontend) { f.Backends[1].Address = third.Address }, false, ""},
		"other parameters": {func(f *engine.Frontend) { f.Settings.MaxConnectionsPerNode = 1 }, false, ""},
		"another node":     {func(f *engine.Frontend) { f.Backends[1] = third }, true, "1 1"},
		"no node":          {func(f *engine.Frontend) { f.Backends = nil }, false, ""}, // nor a way to choose one
		"another port":     {func(f *engine.Frontend) { f.Listener.Port = 81 }, false, ""},
		"other clients":    {func(f *engine.Frontend) { f.Allow = lb.Clients{} }, false, ""},
		"another check":    {func(f *engine.Frontend) { f.Settings.HealthCheck.Type = lb.CheckTCP }, false, ""},
		"another drain":    {func(f *engine.Frontend) { f.Settings.Drain = time.Minute }, true, "0 0"},
		"a setting":        {func(f *engine.Frontend) { f.Settings.Retries = 1 }, false, ""},
	} {
		before, _ := views(t, balanced())
		s := balanced()
		c.change(&s.Frontends[0])
		after, _ := views(t, s)
		changes, err := serverChanges(engine.Change{Path: engine.Path(s.ID), Before: before, After: after})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		gone, appeared, weights := 0, 0, ""
		for _, change := range changes {
			gone, appeared = gone+len(change.gone), appeared+len(change.appeared)
			for _, s := range change.weighed {
				weights += " " + s.weight()
			}
		}
		if got := fmt.Sprint(gone, " ", appeared, weights); c.ok && got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Nodes are checked in the file that stands for the whole: a check comes with its node,
// and what follows it has its name.
func TestChecksChange(t *testing.T) {
	s := balanced()
	s.Frontends[0].Backends[1] = engine.Backend{Node: "n3", Address: netip.MustParseAddrPort("10.0.0.3:30080")}
	_, before := views(t, balanced())
	own, after := views(t, s)
	changes, err := serverChanges(engine.Change{Path: engine.MainPath, Before: before, After: after})
	if err != nil || len(changes) != 1 {
		t.Fatal(changes, err)
	}
	c, name := changes[0], changes[0].name
	type change struct {
		Gone, Appeared []server
		Spares         []string
	}
	port := func(address string) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(address), engine.KubeProxyPort)
	}
	want := change{[]server{{Name: "n2", Address: port("10.0.0.2")}}, []server{{Name: "n3", Address: port("10.0.0.3")}}, []string{"spare_1", "spare_2", "spare_3", "spare_4"}}
	if d := cmp.Diff(want, change{c.gone, c.appeared, c.spares}, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" || !c.checks() {
		t.Errorf("(-want +got):\n%s", d)
	}
	printed, err := printed(engine.Path(s.ID), own)
	if err != nil {
		t.Fatal(err)
	}
	followed := map[string]bool{}
	for _, b := range printed.Frontends[0].Backends {
		followed[b.Track] = true
	}
	if got := slices.Sorted(maps.Keys(followed)); !slices.Equal(got, []string{name + "/n1", name + "/n3"}) {
		t.Errorf("followed are %q", got)
	}
}

// heard is an HAProxy that has the slots of one backend of checks, and takes everything.
// It sends what it is told. Servers that are n1 have connections.
func heard(t *testing.T, socket string, digest fileset.Digest, slots string) <-chan string {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it is there until then
	answers := map[string]string{
		"show servers state ": slots, "add server ": "New server registered.\n", "del server ": "Server deleted.\n",
		"get var ": "proc.external_lb: type=str value=<" + string(digest) + ">\n", "show info": "Version: 2.6.12\nPid: 1\n",
	}
	told := make(chan string, 1000)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(told)
				return
			}
			line, _ := bufio.NewReader(conn).ReadString('\n')
			for command := range strings.SplitSeq(strings.TrimSpace(line), ";") {
				told <- command
				if strings.HasPrefix(command, "del server ") && strings.HasSuffix(command, "/n1") {
					_, _ = io.WriteString(conn, "Server still has connections attached to it, cannot remove it.\n")
					continue
				}
				for prefix, answer := range answers {
					if strings.HasPrefix(command, prefix) {
						_, _ = io.WriteString(conn, answer) // who asked has gone otherwise
					}
				}
			}
			_ = conn.Close()
		}
	}()
	return told
}

// However much a delivery changes, HAProxy is asked once for the slots of each backend of
// checks: docs/design/0014-slots-of-checks.md.
func TestSlotsAreAskedForOnce(t *testing.T) {
	after := balanced()
	after.Frontends[0].Backends[1] = engine.Backend{Node: "n3", Address: netip.MustParseAddrPort("10.0.0.3:30080")}
	var files [2]engine.Change
	files[0].Path, files[1].Path = engine.Path(after.ID), engine.MainPath
	files[0].Before, files[1].Before = views(t, balanced())
	files[0].After, files[1].After = views(t, after)
	changes, err := serverChanges(files[1])
	if err != nil {
		t.Fatal(err)
	}
	backend := changes[0].name
	slot := func(name, address, operational, admin string) string {
		f := slices.Repeat([]string{"-"}, 19)
		f[1], f[3], f[4], f[5], f[6], f[18] = backend, name, address, operational, admin, fmt.Sprint(engine.KubeProxyPort)
		return strings.Join(f, " ") + "\n"
	}
	h := daemon(t)
	digest := fileset.Digest(strings.Repeat("a", 64))
	told := heard(t, h.Socket, digest, slot("n1", "10.0.0.1", "2", "0")+slot("n2", "10.0.0.2", "2", "0")+slot("spare_1", "0.0.0.0", "0", "1"))
	if err := h.HotReload(t.Context(), files[:], digest); err != nil {
		t.Fatal(err)
	}
	asked := map[string]int{}
	for len(told) > 0 {
		asked[<-told]++
	}
	if n := asked["show servers state "+backend]; n != 1 {
		t.Errorf("asked %d times", n)
	}
	for _, command := range []string{"spare_1 addr 10.0.0.3 port 10256", "spare_1 state ready", "n2 state maint"} {
		if asked["set server "+backend+"/"+command] != 1 {
			t.Errorf("it does not say %q: %v", command, asked)
		}
	}
}

// counted counts what it runs.
type counted struct{ n *int }

func (c counted) Run(context.Context, []string) (string, error) {
	*c.n++
	return "", nil
}

// A reload has more time than the settings say, where the host is known to be slow, and HAProxy is not
// told a second time before a third of that is over.
func TestAReloadHasMoreTimeThanTheSettingsSay(t *testing.T) {
	h := daemon(t)
	told := 0
	h.ProofTimeout, h.Runner = 1, counted{&told}
	h.set = func(string) (engine.Set, error) { return engine.Set{}, nil }
	l, err := net.Listen("unix", h.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // it is there until then
	before, want := strings.Repeat("0", 64), strings.Repeat("1", 64)
	go func() {
		for asked := 0; ; asked++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n') // whatever it is
			digest, pid := want, 2
			if asked < 5 {
				digest, pid = before, 1
			}
			_, _ = fmt.Fprintf(conn, "proc.external_lb: type=str value=<%s>\nVersion: 2.6.12\nPid: %d\n", digest, pid) // who asked has gone otherwise
			_ = conn.Close()
		}
	}()
	if err := h.Reload(t.Context(), fileset.Digest(want), time.Hour); err != nil || told != 1 {
		t.Errorf("it was told %d times; %v", told, err)
	}
}
