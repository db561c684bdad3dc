package toyengine_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
	"github.com/external-lb/external-lb/test/toyengine"
)

// It is held to what the built-in engines are.
func TestItStatesEveryField(t *testing.T) {
	if err := toyengine.Engine.Stated(); err != nil {
		t.Error(err)
	}
}

// A fourth engine is three things, and the host carries traffic with it.
func TestAnotherEngineCarriesTraffic(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		m := prepared(t)
		n1 := lb.Node{Name: "n1", IPv4: netip.MustParseAddr("198.51.100.130")}
		n2 := lb.Node{Name: "n2", IPv4: netip.MustParseAddr("198.51.100.131")}
		one, both := []lb.Node{n1}, []lb.Node{n1, n2}
		m.node(n1, 30001, "one")
		m.node(n2, 30001, "two")
		m.node(n1, 30002, "second")
		web := carried(t, "web", 30001, "198.51.100.1:80")
		second := carried(t, "second", 30002, "198.51.100.1:81")
		at, other := netip.MustParseAddrPort("198.51.100.1:80"), netip.MustParseAddrPort("198.51.100.1:81")

		// What is delivered is carried and proved.
		if out := m.send(wants(one, web)); !out.Reloaded || len(out.Refused) > 0 {
			t.Fatalf("%+v", out)
		}
		m.says(at, "one")
		if st := m.look(); st.Engine != "toy" || st.EngineVersion != "toy/1.0.0" || !st.Running || st.Message != "" {
			t.Errorf("%+v", st)
		}
		if out := m.send(wants(one, web)); out.Reloaded {
			t.Error("reloaded for what is live")
		}

		// A node more, and a Service more.
		m.send(wants(both, web, second))
		if a, b := m.hear(at), m.hear(at); a+b != "onetwo" && a+b != "twoone" {
			t.Errorf("two connections reach %q and %q", a, b)
		}
		m.says(other, "second") // n2 does not answer there, and is passed over

		// What the engine cannot do is refused; the older version stays, and the others go on.
		sends := changed(web, func(s *lb.Settings) { s.SendProxy = lb.ProxyV2 })
		if r := m.refused(m.send(wants(one, sends, second)), lb.RefusedByEngine, "toyd has no PROXY protocol"); !r.OlderStays {
			t.Errorf("%+v", r)
		}
		m.says(at, "one")
		m.says(other, "second")

		// A port that somebody has is left out.
		m.node(lb.Node{IPv4: at.Addr()}, 82, "somebody else")
		ports := carried(t, "web", 30001, "198.51.100.1:80", "198.51.100.1:82")
		if r := m.refused(m.send(wants(one, ports, second)), lb.RefusedUnavailable, "is taken by"); r.Listener.Port != 82 {
			t.Errorf("%+v", r)
		}
		m.says(at, "one")

		m.ownersTemplates(one, web, second, at)
		before := m.send(wants(one, web, second))
		m.rollsBack(one, before, web, second, at)

		// It is told when toyd does not run, and carried on when it does again.
		m.stop()
		if st := m.look(); st.Running || st.Proved || !strings.Contains(st.Message, "toyd does not run: start it") {
			t.Errorf("%+v", st)
		}
		m.start()
		m.says(at, "one")
		m.proved(before)

		// What is no longer wanted is gone.
		m.send(wants(one, second))
		m.says(at, "")
		m.says(other, "second")
	})
}

// prepared is a machine whose owner has toyd, and has prepared it for deliveries.
func prepared(t *testing.T) *machine {
	if err := os.WriteFile("/etc/toyd.conf", []byte("# the owner's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &machine{T: t}
	m.start()
	t.Cleanup(m.stop)
	if r := install(t); r["include"] != engine.StepDone || r["toyd"] != engine.StepDone || r["first configuration"] != engine.StepDone {
		t.Fatalf("%v", r)
	}
	for name, result := range install(t) {
		if result != engine.StepPresent && name != "agent" { // no systemd runs there
			t.Errorf("a second time: %s is %s", name, result)
		}
	}
	// The account may do what the engine says that it must.
	if out, err := exec.CommandContext(t.Context(), "su", "external-lb", "-c", "sudo -n /usr/bin/pkill -HUP -F /run/toyd.pid && ! sudo -n true 2>/dev/null").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	m.boot()
	return m
}

// ownersTemplates are in force, and what toyd refuses of them is blamed on the Service
// that it is about.
func (m *machine) ownersTemplates(nodes []lb.Node, web, second *lb.Service, at netip.AddrPort) {
	m.Helper()
	builtIn, err := render.BuiltIn(toyengine.Engine)
	if err != nil {
		m.Fatal(err)
	}
	dir := filepath.Join(host.TemplatesDir, "toy")
	const file = "service.conf.tmpl"
	text := builtIn[file] + `{{range .Frontends}}{{if eq .Connect "7s"}}lissen{{end}}{{end}}` + "\n# the owner's\n"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
	if out := m.send(wants(nodes, web, second)); len(out.Refused) > 0 {
		m.Fatalf("%+v", out.Refused)
	}
	live, err := os.ReadFile(filepath.Join("/var/lib/external-lb/toy/live", engine.Path(web.ID)))
	if err != nil || !strings.Contains(string(live), "# the owner's") {
		m.Errorf("%s, %v", live, err)
	}
	slow := changed(web, func(s *lb.Settings) { s.ConnectTimeout = 7 * time.Second })
	if r := m.refused(m.send(wants(nodes, slow, second)), lb.RefusedByEngine, `unknown directive "lissen"`); r.Key != lb.ServiceKey(web.ID) || !r.OlderStays {
		m.Errorf("%+v", r)
	}
	m.says(at, "one")
	if err := os.RemoveAll(dir); err != nil {
		m.Fatal(err)
	}
}

// rollsBack what toyd does not take, whatever the reason.
func (m *machine) rollsBack(nodes []lb.Node, before host.Outcome, web, second *lb.Service, at netip.AddrPort) {
	m.Helper()
	next := wants(nodes, changed(web, func(s *lb.Settings) { s.ConnectTimeout = 3 * time.Second }), second)
	const conf = "/etc/toyd.conf"
	owners, err := os.ReadFile(conf)
	if err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(conf, append([]byte("nonsense\n"), owners...), 0o644); err != nil {
		m.Fatal(err)
	}
	m.fails(host.CodeRolledBack, "nonsense", next, before)
	m.says(at, "one")
	if err := os.WriteFile(conf, owners, 0o644); err != nil {
		m.Fatal(err)
	}

	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.toyd.Process.Pid))
	if err != nil {
		m.Fatal(err)
	}
	var listeners []string
	for port := range 60 {
		listeners = append(listeners, fmt.Sprintf("198.51.100.1:%d", 1000+port))
	}
	many := wants(nodes, web, second, carried(m, "many", 30001, listeners...))
	raise := m.limitFiles(uint64(len(files) + 40))
	m.fails(host.CodeMachine, "too many open files: raise toyd's limit of open files to", many, before)
	m.says(at, "one")
	raise()
	m.send(many)
	m.says(netip.MustParseAddrPort(listeners[59]), "one")
	m.send(wants(nodes, web, second))
}

// limitFiles that toyd may open, for a while.
func (m *machine) limitFiles(most uint64) (again func()) {
	m.Helper()
	var was unix.Rlimit
	set := func(next, was *unix.Rlimit) {
		m.Helper()
		if err := unix.Prlimit(m.toyd.Process.Pid, unix.RLIMIT_NOFILE, next, was); err != nil {
			m.Fatal(err)
		}
	}
	set(nil, &was)
	set(&unix.Rlimit{Cur: most, Max: was.Max}, nil)
	return func() { set(&was, nil) }
}
