package host

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// nodeAt is the i-th node, of which the cluster says that it is well or not.
func nodeAt(t testing.TB, i int, status string) lb.Node {
	t.Helper()
	n := silentNode(i)
	says(t, netip.AddrPortFrom(n.IPv4, engine.KubeProxyPort), "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
	return n
}

// silentNode is one that does not answer whether it is well.
func silentNode(i int) lb.Node {
	return lb.Node{Name: fmt.Sprint("node", i), IPv4: netip.AddrFrom4([4]byte{198, 51, 100, byte(140 + i)})}
}

// checked are web and api, whose nodes are checked as the cluster says.
type checked struct {
	*box
	web, api *lb.Service
}

func newChecked(t *testing.T) *checked {
	t.Helper()
	b := newHAProxyBox(t)
	c := &checked{box: b}
	for name, s := range map[string]**lb.Service{"web": &c.web, "api": &c.api} {
		id, err := lb.NewID("default", name, "uid-"+name)
		if err != nil {
			t.Fatal(err)
		}
		at := public(t)
		*s = &lb.Service{
			ID: id, IPv4: lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}},
			Frontends: []lb.Frontend{{
				Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: lb.TCP}, NodePort: uint16(30000 + lastNodePort.Add(1)),
				Settings: lb.Settings{
					Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, Retries: 2, ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute,
					HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: 100 * time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 1},
				},
			}},
		}
	}
	c.web.Frontends[0].Settings.Algorithm = lb.SourceHash
	return c
}

// answers is a node that says a text at the nodePorts of both.
func (c *checked) answers(n lb.Node, text string) lb.Node {
	c.Helper()
	for _, s := range []*lb.Service{c.web, c.api} {
		says(c, netip.AddrPortFrom(n.IPv4, s.Frontends[0].NodePort), text)
	}
	return n
}

// several nodes are well, and say who they are.
func (c *checked) several(count int) (all []lb.Node) {
	c.Helper()
	for i := range count {
		all = append(all, c.answers(nodeAt(c, i, "200 OK"), fmt.Sprint("node", i)))
	}
	return all
}

// carry both on some nodes.
func (c *checked) carry(all []lb.Node, which ...int) Outcome {
	c.Helper()
	cfg := &lb.Config{Services: []*lb.Service{c.api, c.web}}
	for _, i := range which {
		cfg.Nodes = append(cfg.Nodes, all[i])
	}
	return c.send(cfg)
}

// at is where clients find the api.
func (c *checked) at() netip.AddrPort {
	l := c.api.Frontends[0].Listener
	return netip.AddrPortFrom(l.Address, l.Port)
}

// heard is who answers there.
func (c *checked) heard() string { return heardAt(c.at()) }

func heardAt(at netip.AddrPort) string {
	seen := map[string]bool{}
	for range 40 {
		seen[hear(at)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

func TestHAProxy_NodesComeAndGoWithoutAReload(t *testing.T) {
	c := newChecked(t)
	all := c.several(7)
	c.carry(all, 0, 1)
	said, err := c.haproxy().Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		nodes  []int
		reload bool
		want   string
	}{
		{[]int{0, 1, 2}, false, "node0 node1 node2"}, // by a spare check
		{[]int{0, 2}, false, "node0 node2"},
		{[]int{2}, false, "node2"},
		{[]int{0, 2}, false, "node0 node2"},                                     // by the check that it had
		{[]int{0, 2, 3, 4, 5}, false, "node0 node2 node3 node4 node5"},          // by the other spare ones
		{[]int{0, 2, 3, 4, 5, 6}, true, "node0 node2 node3 node4 node5 node6"},  // no spare check is left
		{[]int{1, 2, 3, 4, 5, 6}, false, "node1 node2 node3 node4 node5 node6"}, // and now there is
		{nil, true, ""},
		{[]int{1}, true, "node1"},
	} {
		out := c.carry(all, step.nodes...)
		if out.Reloaded != step.reload {
			t.Errorf("%v: reloaded: %t", step.nodes, out.Reloaded)
		}
		wait.True(c, fmt.Sprintf("%v carry", step.nodes), func() bool { return c.heard() == step.want })
		if now, err := c.haproxy().Ask(t.Context()); err != nil || (now.PID == said.PID) == step.reload {
			t.Errorf("%v: the worker changed: %t, %v", step.nodes, now.PID != said.PID, err)
		} else {
			said = now
		}
	}
	// What is on disk says the same: a restart serves it.
	c.carry(all, 1, 2)
	c.stop()
	c.start()
	wait.True(c, "after a restart", func() bool { return c.heard() == "node1 node2" })
}

// A weight changes without a reload, also that of a node that came while HAProxy ran.
func TestHAProxy_WeightsChangeWithoutAReload(t *testing.T) {
	c := newChecked(t)
	all := c.several(2)
	weighed := func(targets ...lb.Target) Outcome {
		c.api = changed(c.api, func(s *lb.Service) { s.IPv4.Targets = lb.Targets{Nodes: targets} })
		return c.carry(all, 0, 1)
	}
	weighed(lb.Target{Node: "node0"})
	for _, step := range []struct {
		weight uint16
		want   int // of 40 connections on the second node
	}{{1, 20}, {3, 30}, {7, 35}, {1, 20}} {
		if out := weighed(lb.Target{Node: "node0"}, lb.Target{Node: "node1", Weight: step.weight}); out.Reloaded {
			t.Errorf("weight %d: reloaded", step.weight)
		}
		wait.True(c, fmt.Sprintf("%d spreads", step.weight), func() bool {
			got := 0
			for range 40 {
				if hear(c.at()) == "node1" {
					got++
				}
			}
			return got == step.want
		})
	}
}

// A node that is ill gets nothing, also if it came while HAProxy ran.
func TestHAProxy_NodesThatCameAreChecked(t *testing.T) {
	c := newChecked(t)
	all := append(c.several(1), c.answers(nodeAt(t, 1, "503 Service Unavailable"), "node1"))
	c.carry(all, 0)
	if out := c.carry(all, 0, 1); out.Reloaded {
		t.Error("reloaded")
	}
	wait.True(c, "the node that is ill gets nothing", func() bool { return c.heard() == "node0" })
}

// A node came while HAProxy ran, and is checked in a spare slot. Whoever gets it later
// follows that, whatever was restarted in between.
func TestHAProxy_ANodeThatCameIsGivenToAnotherServiceLater(t *testing.T) {
	for name, between := range map[string]func(c *checked){
		"nothing":            func(*checked) {},
		"the agent restarts": func(c *checked) { c.take(c.newAgent("")) },
		"HAProxy restarts":   func(c *checked) { c.stop(); c.start() }, // and the check has a name of its own
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecked(t)
			all := append(c.several(2), c.answers(nodeAt(c, 2, "503 Service Unavailable"), "node2"))
			c.api = changed(c.api, func(s *lb.Service) { s.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "node0"}}} })
			c.carry(all, 0)
			if out := c.carry(all, 0, 1, 2); out.Reloaded {
				t.Error("reloaded for the first Service")
			}
			between(c)
			for _, nodes := range [][]lb.Target{{{Node: "node0"}, {Node: "node1"}}, {{Node: "node0"}, {Node: "node1"}, {Node: "node2"}}} {
				c.api = changed(c.api, func(s *lb.Service) { s.IPv4.Targets.Nodes = nodes })
				if out := c.carry(all, 0, 1, 2); out.Reloaded {
					t.Errorf("%v: reloaded for the second Service", nodes)
				}
				wait.True(c, "the nodes that are well carry it", func() bool { return c.heard() == "node0 node1" })
			}
		})
	}
}

func TestHAProxy_SaysThatEveryNodeFailsItsCheck(t *testing.T) {
	c := newChecked(t)
	all := []lb.Node{c.answers(silentNode(0), "node0"), c.answers(nodeAt(t, 1, "200 OK"), "node1")} // the first as behind a firewall
	c.carry(all, 0)
	wait.True(c, "it is told", func() bool {
		return strings.Contains(c.status().message, "every node fails its health check on port 10256")
	})
	c.carry(all, 0, 1)
	wait.True(c, "one node is well", func() bool { return c.status().message == "" })
}

// A machine gets another name, and another machine the name of one that left: who asks
// how they are goes with the address.
func TestHAProxy_NodesThatAreNotWhoTheyWere(t *testing.T) {
	t.Run("renamed", func(t *testing.T) {
		c := newChecked(t)
		all := c.several(2)
		all = append(all, lb.Node{Name: "node3", IPv4: all[1].IPv4})
		for _, step := range []struct {
			nodes []int
			want  string
		}{{[]int{0, 1}, "node0 node1"}, {[]int{0, 2}, "node0 node1"}, {[]int{2}, "node1"}} {
			c.carry(all, step.nodes...)
			wait.True(c, fmt.Sprint(step.nodes, " carry it"), func() bool { return c.heard() == step.want })
		}
	})
	t.Run("back at another address", func(t *testing.T) {
		c := newChecked(t)
		all := c.several(2)
		c.carry(all, 0, 1)
		c.carry(all, 0)
		all[1] = c.answers(nodeAt(t, 2, "200 OK"), "node1 anew")
		all[1].Name = "node1"
		for _, node := range []string{"node0", "node1"} {
			c.api = changed(c.api, func(s *lb.Service) { s.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: node}}} })
			c.carry(all, 0, 1)
		}
		wait.True(c, "it carries", func() bool { return c.heard() == "node1 anew" })
	})
}

// Connections to a node that goes live on; it gets no new ones.
func TestHAProxy_ANodeThatGoesKeepsItsConnections(t *testing.T) {
	c := newChecked(t)
	silent, err := net.Listen("tcp", netip.AddrPortFrom(silentNode(0).IPv4, c.api.Frontends[0].NodePort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	all := []lb.Node{nodeAt(t, 0, "200 OK"), c.answers(nodeAt(t, 1, "200 OK"), "node1")}
	c.carry(all, 0)
	stands := standingAt(t, c.at(), silent)
	if out := c.carry(all, 1); out.Reloaded {
		t.Error("reloaded")
	}
	stands.lives(t)
	c.says(c.at(), "node1")
	// It comes back while its old server is still there: a reload sorts that out.
	c.carry(all, 0, 1)
}

// What the owner's templates make of a node, nobody knows: HAProxy reads its file.
func TestHAProxy_TemplatesOfTheOwnersTakeAReload(t *testing.T) {
	c := newChecked(t)
	all := c.several(2)
	c.carry(all, 0)
	dir := t.TempDir()
	c.agent.settings.Templates = dir
	if err := os.Mkdir(filepath.Join(dir, "haproxy"), 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../templates/haproxy/listen.conf.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "haproxy", "listen.conf.tmpl"), strings.Replace(string(text), "{{$parameters}}", "{{$parameters}} slowstart 1ms", 1))
	for _, which := range [][]int{{0}, {0, 1}} {
		if out := c.carry(all, which...); !out.Reloaded {
			t.Errorf("%v: not reloaded", which)
		}
		wait.True(c, fmt.Sprint(which, " carry"), func() bool { return c.heard() == strings.Repeat("node0", 1)+strings.Repeat(" node1", len(which)-1) })
	}
}

// What a daemon goes by is held against what was made, as its files are.
func TestHAProxy_TamperingWithWhatIsKnownShows(t *testing.T) {
	c := newChecked(t)
	all := c.several(1)
	c.carry(all, 0)
	kept := func() string {
		files, err := os.Readlink(filepath.Join(c.unit.dir, engine.LiveLink))
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(c.unit.dir, filepath.Dir(files), viewPath(engine.MainPath))
	}
	put(t, kept(), "null")
	if c.status().proved {
		t.Error("it does not show")
	}
	c.carry(all, 0)
	if text, err := os.ReadFile(kept()); err != nil || string(text) == "null" {
		t.Errorf("%s, %v", text, err)
	}
}

// flaky is a node whose next check fails when it is told so. checked is how many there
// were since then.
func (c *checked) flaky(i int) (n lb.Node, fail func(), checked func() int32) {
	c.Helper()
	n = c.answers(silentNode(i), fmt.Sprint("node", i))
	var count atomic.Int32
	count.Store(1)
	l, err := net.Listen("tcp", netip.AddrPortFrom(n.IPv4, engine.KubeProxyPort).String())
	if err != nil {
		c.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if count.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	var done sync.WaitGroup
	done.Go(func() { server.Serve(l) }) // until it is closed
	c.Cleanup(func() { server.Close(); done.Wait() })
	return n, func() { count.Store(0) }, count.Load
}

// One failed check is no reason to leave a node out where two are asked for, also if it
// is the first of a node that came, or of a worker that began.
func TestHAProxy_AFirstCheckThatFailsIsOneCheck(t *testing.T) {
	c := newChecked(t)
	for _, s := range []*lb.Service{c.api, c.web} {
		check := &s.Frontends[0].Settings.HealthCheck
		check.Interval, check.Rise, check.Fall = time.Second, 2, 2
	}
	node1, fail, since := c.flaky(1)
	failed := func() bool { return since() > 0 }
	all := append(c.several(1), node1)
	c.carry(all, 0)
	fail()
	if out := c.carry(all, 0, 1); out.Reloaded {
		t.Error("reloaded")
	}
	wait.True(c, "a check has failed", failed)
	c.carry(all, 1)
	if got := c.heard(); got != "node1" {
		t.Errorf("after a node came: heard %q", got)
	}
	wait.True(c, "the next one is good", func() bool { return since() > 2 })
	fail()
	c.api = changed(c.api, func(s *lb.Service) { s.Frontends[0].Settings.Retries = 1 })
	if out := c.carry(all, 1); !out.Reloaded {
		t.Error("not reloaded")
	}
	wait.True(c, "a check has failed", failed)
	if got := c.heard(); got != "node1" {
		t.Errorf("after a reload: heard %q", got)
	}
}

// A reload sends nothing to a node that is down.
func TestHAProxy_ANodeThatIsDownIsDownAfterAReload(t *testing.T) {
	c := newChecked(t)
	for _, s := range []*lb.Service{c.api, c.web} {
		s.Frontends[0].Settings.HealthCheck.Interval = 2 * time.Second
	}
	all := append(c.several(1), c.answers(nodeAt(t, 1, "503 Service Unavailable"), "node1"))
	c.carry(all, 0, 1)
	wait.True(c, "the node that is ill gets nothing", func() bool { return c.heard() == "node0" })
	for retries := range int32(3) {
		c.api = changed(c.api, func(s *lb.Service) { s.Frontends[0].Settings.Retries = 3 + retries })
		if out := c.carry(all, 0, 1); !out.Reloaded {
			t.Error("not reloaded")
		}
		if got := c.heard(); got != "node0" {
			t.Errorf("heard %q", got)
		}
	}
}
