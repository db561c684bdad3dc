package host

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/fileset"
)

// nodes are HTTP servers that say that they are well, and who they are otherwise.
type nodes struct {
	health, traffic []netip.AddrPort
}

// well says that a node is.
func well(t testing.TB) netip.AddrPort {
	return sayer(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

// several nodes are well.
func several(t testing.TB, count int) (all nodes) {
	for i := range count {
		all.health, all.traffic = append(all.health, well(t)), append(all.traffic, sayer(t, fmt.Sprint("node", i)))
	}
	return all
}

// checkedSet carries web and api to some of the nodes, as the renderer would.
func checkedSet(t testing.TB, web, api netip.AddrPort, all nodes, which ...int) *fileset.Set {
	t.Helper()
	main := "defaults external-lb\n    mode tcp\n    timeout connect 1s\n    timeout client 10s\n    timeout server 10s\n" +
		"backend checks\n    option httpchk\n    http-check send meth GET uri /healthz\n    http-check expect status 200\n    timeout check 1s\n" +
		"    default-server check inter 100ms rise 1 fall 1\n"
	servers := ""
	for _, i := range which {
		main += fmt.Sprintf("    server node%d %s\n", i, all.health[i])
		servers += fmt.Sprintf("    server node%d %s id %d track checks/node%d\n", i, all.traffic[i], 100+i, i)
	}
	for i := range 2 {
		main += fmt.Sprintf("    server spare_%d 0.0.0.0:1 disabled\n", i)
	}
	mainFile, err := fileset.NewFile("main.conf", []byte(main))
	if err != nil {
		t.Fatal(err)
	}
	listen := func(name string, at netip.AddrPort) fileset.File {
		text := fmt.Sprintf("# %[1]s\nlisten %[1]s\n    bind %[2]s\n    balance source\n    hash-type consistent\n%[3]s", name, at, servers)
		text = strings.Replace(text, "    balance source\n    hash-type consistent\n", "    balance roundrobin\n", strings.Count(name, "api"))
		return fragment(t, name, text, at)
	}
	s, err := fileset.New(mainFile, listen("web", web), listen("api", api))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// heardAt is who answers there.
func heardAt(at netip.AddrPort) string {
	seen := map[string]bool{}
	for range 40 {
		seen[hear(at)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

func TestHAProxy_NodesComeAndGoWithoutAReload(t *testing.T) {
	b := newHAProxyBox(t)
	all := several(t, 5)
	web, api := local(t), local(t)
	heard := func() string { return heardAt(api) }
	b.apply(checkedSet(t, web, api, all, 0, 1))
	said, err := b.agent.haproxy().ask(t.Context())
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
		{[]int{0, 2}, false, "node0 node2"},                   // by the check that it had
		{[]int{0, 2, 3}, false, "node0 node2 node3"},          // by the second spare one
		{[]int{0, 2, 3, 4}, true, "node0 node2 node3 node4"},  // no spare check is left
		{[]int{1, 2, 3, 4}, false, "node1 node2 node3 node4"}, // and now there is
		{nil, false, ""},
		{[]int{1}, false, "node1"},
	} {
		out := b.apply(checkedSet(t, web, api, all, step.nodes...))
		if out.Reloaded != step.reload {
			t.Errorf("%v: reloaded: %t", step.nodes, out.Reloaded)
		}
		b.eventually(fmt.Sprintf("%v carry", step.nodes), func() bool { return heard() == step.want })
		if now, err := b.agent.haproxy().ask(t.Context()); err != nil || (now.pid == said.pid) == step.reload {
			t.Errorf("%v: the worker changed: %t, %v", step.nodes, now.pid != said.pid, err)
		} else {
			said = now
		}
	}
	// What is on disk says the same: a restart serves it.
	b.stop()
	b.start()
	if got := heard(); got != "node1" {
		t.Errorf("after a restart: %q", got)
	}
}

// A weight changes without a reload, also that of a node that came while HAProxy ran.
func TestHAProxy_WeightsChangeWithoutAReload(t *testing.T) {
	b := newHAProxyBox(t)
	all := several(t, 2)
	web, api := local(t), local(t)
	weighed := func(weight string, which ...int) *fileset.Set {
		set := checkedSet(t, web, api, all, which...)
		var files []fileset.File
		for f := range set.All() {
			if strings.HasSuffix(f.Path, "api.conf") {
				text := strings.ReplaceAll(string(f.Data), " id 101 track", weight+" track")
				f = fragment(t, "api", text, api)
			}
			files = append(files, f)
		}
		out, err := fileset.New(files...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	b.apply(weighed("", 0))
	for _, step := range []struct {
		weight string
		want   int // of 40 connections on the second node
	}{{"", 20}, {" weight 3", 30}, {" weight 7", 35}, {"", 20}} {
		if out := b.apply(weighed(step.weight, 0, 1)); out.Reloaded {
			t.Errorf("weight %q: reloaded", step.weight)
		}
		b.eventually(fmt.Sprintf("%q spreads", step.weight), func() bool {
			got := 0
			for range 40 {
				if hear(api) == "node1" {
					got++
				}
			}
			return got == step.want
		})
	}
}

// A node that is ill gets nothing, also if it came while HAProxy ran.
func TestHAProxy_NodesThatCameAreChecked(t *testing.T) {
	b := newHAProxyBox(t)
	ill := sayer(t, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
	all := nodes{health: []netip.AddrPort{well(t), ill}, traffic: []netip.AddrPort{sayer(t, "node0"), sayer(t, "node1")}}
	web, api := local(t), local(t)
	b.apply(checkedSet(t, web, api, all, 0))
	if out := b.apply(checkedSet(t, web, api, all, 0, 1)); out.Reloaded {
		t.Error("reloaded")
	}
	b.eventually("the node that is ill gets nothing", func() bool {
		for range 20 {
			if hear(api) != "node0" {
				return false
			}
		}
		return true
	})
}

func TestHAProxy_SaysThatEveryNodeFailsItsCheck(t *testing.T) {
	b := newHAProxyBox(t)
	silent := local(t) // nothing listens there, as behind a firewall
	all := nodes{health: []netip.AddrPort{silent, well(t)}, traffic: []netip.AddrPort{sayer(t, "node0"), sayer(t, "node1")}}
	web, api := local(t), local(t)
	b.apply(checkedSet(t, web, api, all, 0))
	b.eventually("it is told", func() bool {
		return strings.Contains(b.status().Message, fmt.Sprintf("every node fails its health check on port %d", silent.Port()))
	})
	b.apply(checkedSet(t, web, api, all, 0, 1))
	b.eventually("one node is well", func() bool { return b.status().Message == "" })
}

// A machine gets another name, and another machine the name of one that left: who asks
// how they are goes with the address.
func TestHAProxy_NodesThatAreNotWhoTheyWere(t *testing.T) {
	t.Run("renamed", func(t *testing.T) {
		b, all, web, api := newHAProxyBox(t), several(t, 4), local(t), local(t)
		all.health[3], all.traffic[3] = all.health[1], all.traffic[1]
		for _, step := range []struct {
			nodes []int
			want  string
		}{{[]int{0, 1}, "node0 node1"}, {[]int{0, 3}, "node0 node1"}, {[]int{3}, "node1"}} {
			b.apply(checkedSet(t, web, api, all, step.nodes...))
			b.eventually(fmt.Sprint(step.nodes, " carry it"), func() bool { return heardAt(api) == step.want })
		}
	})
	t.Run("back at another address", func(t *testing.T) {
		b, all, web, api := newHAProxyBox(t), several(t, 2), local(t), local(t)
		b.apply(checkedSet(t, web, api, all, 0, 1))
		b.apply(checkedSet(t, web, api, all, 0))
		all.health[1], all.traffic[1] = well(t), sayer(t, "node1 anew")
		both := func(webNodes, apiNodes []int) {
			t.Helper()
			var files []fileset.File
			for path, of := range map[string][]int{"main.conf": {0, 1}, "services/web.conf": webNodes, "services/api.conf": apiNodes} {
				f, ok := checkedSet(t, web, api, all, of...).Get(path)
				if !ok {
					t.Fatal(path)
				}
				files = append(files, f)
			}
			set, err := fileset.New(files...)
			if err != nil {
				t.Fatal(err)
			}
			b.apply(set)
		}
		both([]int{0, 1}, []int{0})
		both([]int{0, 1}, []int{1})
		b.eventually("it carries", func() bool { return heardAt(api) == "node1 anew" })
	})
}

// Connections to a node that goes live on; it gets no new ones.
func TestHAProxy_ANodeThatGoesKeepsItsConnections(t *testing.T) {
	b := newHAProxyBox(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	all := nodes{health: []netip.AddrPort{well(t), well(t)}, traffic: []netip.AddrPort{netip.MustParseAddrPort(silent.Addr().String()), sayer(t, "node1")}}
	web, api := local(t), local(t)
	b.apply(checkedSet(t, web, api, all, 0))
	c := standingAt(t, api, silent)
	if out := b.apply(checkedSet(t, web, api, all, 1)); out.Reloaded {
		t.Error("reloaded")
	}
	c.lives(t)
	b.says(api, "node1")
	// It comes back while its old server is still there: a reload sorts that out.
	b.apply(checkedSet(t, web, api, all, 0, 1))
}

func TestServerChanges(t *testing.T) {
	const before = "# a\nlisten a\n    bind 192.0.2.1:80\n    server n1 10.0.0.1:30080 track c/n1\n    server n2 10.0.0.2:30080\n"
	for name, c := range map[string]struct {
		after string
		ok    bool
		want  string // gone, appeared, and weights that changed
	}{
		"same":             {before, true, "0 0"},
		"one less":         {strings.Replace(before, "    server n2 10.0.0.2:30080\n", "", 1), true, "1 0"},
		"another weight":   {strings.Replace(before, "10.0.0.1:30080", "10.0.0.1:30080 weight 3", 1), true, "0 0 3"},
		"another address":  {strings.Replace(before, "10.0.0.2", "10.0.0.3", 1), false, ""},
		"other parameters": {strings.Replace(before, "10.0.0.2:30080", "10.0.0.2:30080 maxconn 1", 1), false, ""},
		"another node":     {strings.Replace(before, "n2 10.0.0.2", "n3 10.0.0.3", 1), true, "1 1"},
		"another port":     {strings.Replace(before, "192.0.2.1:80", "192.0.2.1:81", 1), false, ""},
		"another proxy":    {before + "listen b\n    bind 192.0.2.1:81\n", false, ""},
		"a setting":        {before + "    retries 1\n", false, ""},
	} {
		changes, err := serverChanges([]byte(before), []byte(c.after))
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
