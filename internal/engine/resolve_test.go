package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// table is nodes with addresses, such as n1=10.0.0.1,fd00::1.
func table(nodes ...string) *Nodes {
	var all []lb.Node
	for _, text := range nodes {
		name, addresses, _ := strings.Cut(text, "=")
		n := lb.Node{Name: strings.TrimSuffix(name, "-"), Draining: strings.HasSuffix(name, "-")}
		for _, a := range strings.Split(addresses, ",") {
			if a := netip.MustParseAddr(a); a.Is4() {
				n.IPv4 = a
			} else {
				n.IPv6 = a
			}
		}
		all = append(all, n)
	}
	return NewNodes(all)
}

// web is a Service at 192.0.2.1:80 and [2001:db8::1]:80, nodePort 30080, that all nodes carry.
func web(change func(s *lb.Service)) *lb.Service {
	s := &lb.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "uid"}}
	s.IPv4.Targets.All, s.IPv6.Targets.All = true, true
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		l := lb.Listener{Address: netip.MustParseAddr(a), Port: 80, Protocol: lb.TCP}
		s.Frontends = append(s.Frontends, lb.Frontend{Listener: l, NodePort: 30080})
	}
	if change != nil {
		change(s)
	}
	return s
}

// named are Targets such as n1*3 or n2*1-, which drains.
func named(targets ...string) lb.Targets {
	var out lb.Targets
	for _, text := range targets {
		name, weight, _ := strings.Cut(text, "*")
		t := lb.Target{Node: name, Draining: strings.HasSuffix(weight, "-")}
		fmt.Sscan(strings.TrimSuffix(weight, "-"), &t.Weight)
		out.Nodes = append(out.Nodes, t)
	}
	return out
}

// printed shows Backends as named reads them, with their addresses.
func printed(backends []Backend) string {
	var words []string
	for _, b := range backends {
		word := fmt.Sprintf("%s*%d@%s", b.Node, b.Weight, b.Address)
		if b.Draining {
			word += "-"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestResolve(t *testing.T) {
	three := []string{"n1=10.0.0.3,fd00::1", "n2=10.0.0.2", "n3=10.0.0.10,fd00::3"}
	v4 := func(t lb.Targets) func(*lb.Service) { return func(s *lb.Service) { s.IPv4.Targets = t } }
	for name, tc := range map[string]struct {
		nodes  []string
		change func(*lb.Service)
		v4, v6 string
	}{
		"all, sorted by address, each family its own": {three, nil,
			"n2*1@10.0.0.2:30080 n1*1@10.0.0.3:30080 n3*1@10.0.0.10:30080", "n1*1@[fd00::1]:30080 n3*1@[fd00::3]:30080"},
		"no nodes":            {nil, nil, "", ""},
		"one family has none": {[]string{"n1=10.0.0.1"}, nil, "n1*1@10.0.0.1:30080", ""},
		"two nodes with one address are one, the first by name": {[]string{"n2=10.0.0.1,fd00::2", "n1=10.0.0.1,fd00::1"}, nil,
			"n1*1@10.0.0.1:30080", "n1*1@[fd00::1]:30080 n2*1@[fd00::2]:30080"},
		"by name, with weights": {three, v4(named("n1*3", "n3*256")),
			"n1*3@10.0.0.3:30080 n3*256@10.0.0.10:30080", "n1*1@[fd00::1]:30080 n3*1@[fd00::3]:30080"},
		"by name, and the first of two with one address is not among them": {[]string{"n1=10.0.0.1", "n2=10.0.0.1"}, v4(named("n2*7")), "n2*7@10.0.0.1:30080", ""},
		"names that are not there, or have no such address":                {[]string{"n1=fd00::1"}, v4(named("n1*1", "n9*1")), "", "n1*1@[fd00::1]:30080"},
		"by name, none": {three, func(s *lb.Service) { s.IPv4.Targets, s.IPv6.Targets = lb.Targets{}, lb.Targets{} }, "", ""},
		"one drains":    {three, v4(named("n1*5", "n2*1-")), "n2*1@10.0.0.2:30080- n1*5@10.0.0.3:30080", "n1*1@[fd00::1]:30080 n3*1@[fd00::3]:30080"},
		"of two with one address, the one that does not drain": {[]string{"n1=10.0.0.1", "n2=10.0.0.1"}, v4(named("n1*1-", "n2*4")), "n2*4@10.0.0.1:30080", ""},
		"a node drains for all":                                {[]string{"n1-=10.0.0.1,fd00::1", "n2=10.0.0.2"}, v4(named("n1*5", "n2*3")), "n1*5@10.0.0.1:30080- n2*3@10.0.0.2:30080", "n1*1@[fd00::1]:30080-"},
		"affinity makes weights equal": {three, func(s *lb.Service) { s.Affinity, s.IPv4.Targets = time.Hour, named("n1*5", "n2*2-") },
			"n2*1@10.0.0.2:30080- n1*1@10.0.0.3:30080", "n1*1@[fd00::1]:30080 n3*1@[fd00::3]:30080"},
		"a hash makes weights equal": {three, func(s *lb.Service) {
			s.IPv4.Targets, s.Frontends[0].Settings.Algorithm = named("n1*5"), lb.SourceHash
		}, "n1*1@10.0.0.3:30080", "n1*1@[fd00::1]:30080 n3*1@[fd00::3]:30080"},
		"other algorithms do not": {three, func(s *lb.Service) {
			s.IPv4.Targets, s.Frontends[0].Settings.Algorithm = named("n1*5"), lb.LeastConnections
		}, "n1*5@10.0.0.3:30080", "n1*1@[fd00::1]:30080 n3*1@[fd00::3]:30080"},
		"direct, to the listener's port": {[]string{"n1=10.0.0.1"}, func(s *lb.Service) { s.Direct = true }, "n1*1@10.0.0.1:80", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := web(tc.change)
			got := Resolve(s, table(tc.nodes...))
			if len(got.Frontends) != 2 || got.ID != s.ID {
				t.Fatalf("%+v", got)
			}
			for i, want := range []string{tc.v4, tc.v6} {
				if words := printed(got.Frontends[i].Backends); words != want {
					t.Errorf("got %s, want %s", words, want)
				}
			}
		})
	}
}

func TestWhatAServiceSharesIsInEachFrontend(t *testing.T) {
	s := web(func(s *lb.Service) {
		s.Affinity, s.HealthCheckNodePort, s.Direct = time.Hour, 30999, true
		s.IPv4.Clients.Everybody = true
		s.IPv6.Clients.Sources = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
		s.Frontends[1].Settings.Retries = 7
	})
	got := Resolve(s, table()).Frontends
	for i, f := range got {
		if f.Listener != s.Frontends[i].Listener || f.NodePort != 30080 || f.Affinity != time.Hour || f.HealthCheckNodePort != 30999 || !f.Direct || f.Settings != s.Frontends[i].Settings {
			t.Errorf("%+v", f)
		}
	}
	if !got[0].Allow.Everybody || got[1].Allow.Everybody || len(got[1].Allow.Sources) != 1 {
		t.Errorf("%+v, %+v", got[0].Allow, got[1].Allow)
	}
}

// Which nodes carry a Service is the same for both families where nodes have both.
func TestLimits(t *testing.T) {
	var nodes []string
	for i := range 20 {
		nodes = append(nodes, fmt.Sprintf("n%02d=10.0.0.%d,fd00::%x", i, i+1, 100-i))
	}
	s := web(func(s *lb.Service) { s.IPv4.Targets.Limit, s.IPv6.Targets.Limit = 3, 3 })
	got := Resolve(s, table(nodes...))
	var names [2][]string
	for i, f := range got.Frontends {
		for _, b := range f.Backends {
			names[i] = append(names[i], b.Node)
		}
		slices.Sort(names[i])
	}
	if len(names[0]) != 3 || !slices.Equal(names[0], names[1]) {
		t.Errorf("%v and %v", names[0], names[1])
	}
}

var compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// A sum changes with the backends of a Service, and with nothing else.
func TestSumsAreOfBackends(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := lbtest.Nodes().Draw(t, "nodes")
		s := lbtest.Service(a).Draw(t, "service")
		b := lbtest.Nodes().Draw(t, "other nodes")
		if rapid.Bool().Draw(t, "related") { // one is gone, or has another address
			b = slices.Clone(a)
			if len(b) > 0 {
				if i := rapid.IntRange(0, len(b)-1).Draw(t, "which"); rapid.Bool().Draw(t, "gone") {
					b = slices.Delete(b, i, i+1)
				} else if rapid.Bool().Draw(t, "moved") {
					b[i].IPv4 = netip.AddrFrom4([4]byte{10, 0, 0, 1})
				} else {
					b[i].Weight = 7
				}
			}
		}
		one, other := NewNodes(a), NewNodes(b)
		diff := cmp.Diff(Resolve(s, one), Resolve(s, other), compare)
		if same := one.Sum(s) == other.Sum(s); same != (diff == "") {
			t.Fatalf("the same sum: %v, and the backends (-one +other):\n%s", same, diff)
		}
		slices.Reverse(a)
		if NewNodes(a).Sum(s) != one.Sum(s) {
			t.Fatal("the order of nodes changes the sum")
		}
	})
}

// Backends are as the model promises, of any Service and nodes.
func TestBackendsOfAnyService(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := lbtest.Nodes().Draw(t, "nodes")
		s := lbtest.Service(all).Draw(t, "service")
		byName := map[string]lb.Node{}
		for _, n := range all {
			byName[n.Name] = n
		}
		for i, f := range Resolve(s, NewNodes(all)).Frontends {
			ipv4 := f.Listener.Address.Is4()
			if s.Pods {
				wantPods(t, f, s.Frontends[i].Endpoints)
				continue
			}
			targets := s.Family(ipv4).Targets
			stay := 0
			for _, b := range f.Backends {
				if !b.Draining && !b.Backup {
					stay++
				}
			}
			if targets.Limit > 0 && stay > targets.Limit {
				t.Fatalf("%s: %d backends, at most %d", f.Listener, len(f.Backends), targets.Limit)
			}
			for k, b := range f.Backends {
				want := s.Frontends[i].NodePort
				if s.Direct {
					want = f.Listener.Port
				}
				isTarget := slices.ContainsFunc(targets.Nodes, func(n lb.Target) bool {
					drains := (n.Draining || byName[n.Node].Draining) == b.Draining
					return n.Node == b.Node && drains && (n.Weight == b.Weight || n.Weight == 0 && b.Weight == byName[n.Node].Weight || b.Weight <= 1)
				})
				switch {
				case b.Backup && !byName[b.Node].Backup, f.Backends[k].Backup && !slices.ContainsFunc(f.Backends, func(b Backend) bool { return !b.Backup }):
					t.Fatalf("%s: %s waits for nobody, or should not wait", f.Listener, b.Node)
				case b.Address != netip.AddrPortFrom(byName[b.Node].Address(ipv4), want):
					t.Fatalf("%s: %s is at %s", f.Listener, b.Node, b.Address)
				case k > 0 && f.Backends[k-1].Address.Compare(b.Address) >= 0:
					t.Fatalf("%s: backends are not sorted, or twice", f.Listener)
				case !targets.All && !isTarget, targets.All && (b.Draining != byName[b.Node].Draining || b.Share() != 1 && b.Weight != byName[b.Node].Weight):
					t.Fatalf("%s: %+v is none of %+v", f.Listener, b, targets)
				}
			}
		}
	})
}

// wantPods are those of the model, asked where traffic goes.
func wantPods(t *rapid.T, f Frontend, want []lb.Endpoint) {
	if len(f.Backends) != len(want) || !f.Pods || f.HealthCheckNodePort != 0 || f.Settings.HealthCheck.Port != 0 {
		t.Fatalf("%+v has other pods than %v", f, want)
	}
	for i, b := range f.Backends {
		if b.Address != want[i].Address || b.Draining != want[i].Draining || b.Backup || b.Share() != 1 || !lb.SafeNode(b.Node) {
			t.Fatalf("%s: %+v is not %+v", f.Listener, b, want[i])
		}
	}
}

// A node that drains keeps its Services, and another takes its place in those that may
// have so many.
func TestANodeThatDrainsIsReplaced(t *testing.T) {
	limited := web(func(s *lb.Service) { s.IPv4.Targets.Limit = 2 })
	nodes := func(draining string) *Nodes {
		all := []string{"n1=10.0.0.1", "n2=10.0.0.2", "n3=10.0.0.3", "n4=10.0.0.4"}
		for i := range all {
			all[i] = strings.Replace(all[i], draining+"=", draining+"-=", 1)
		}
		return table(all...)
	}
	before := Resolve(limited, nodes("none")).Frontends[0].Backends
	if len(before) != 2 {
		t.Fatalf("it is on %s", printed(before))
	}
	after := Resolve(limited, nodes(before[0].Node)).Frontends[0].Backends
	stay := func(b Backend) bool { return !b.Draining }
	leaves := slices.IndexFunc(after, func(b Backend) bool { return b.Draining })
	if len(after) != 3 || leaves < 0 || after[leaves].Node != before[0].Node || !slices.ContainsFunc(after, func(b Backend) bool { return stay(b) && b.Node == before[1].Node }) {
		t.Errorf("it was on %s and is on %s", printed(before), printed(after))
	}
	if nodes("none").Sum(limited) == nodes(before[0].Node).Sum(limited) {
		t.Error("its file stays as it is")
	}
}

// Nodes that wait for others do not where there are none, and take no place of theirs.
func TestBackups(t *testing.T) {
	nodes := func(text ...string) *Nodes {
		var all []lb.Node
		for i, name := range text {
			all = append(all, lb.Node{Name: strings.Trim(name, "+-"), Backup: strings.Contains(name, "+"), Draining: strings.Contains(name, "-"), IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})
		}
		return NewNodes(all)
	}
	for name, tc := range map[string]struct {
		nodes         []string
		targets       lb.Targets
		want, inFront string // what waits has a +
	}{
		"none waits":        {[]string{"a", "b"}, lb.Targets{All: true}, "a b", "a b"},
		"one waits":         {[]string{"a", "b+"}, lb.Targets{All: true}, "a b+", "a b"},
		"all wait":          {[]string{"a+", "b+"}, lb.Targets{All: true}, "a b", "a b"},
		"one of each":       {[]string{"a+", "b"}, lb.Targets{All: true, Limit: 1}, "a+ b", "a b"},
		"all of one kind":   {[]string{"a+", "b+"}, lb.Targets{All: true, Limit: 2}, "a b", "a b"},
		"endpoints on both": {[]string{"a", "b+"}, named("a*1", "b*1"), "a b+", "a b"},
		"on one that waits": {[]string{"a", "b+"}, named("b*1"), "b", "b"},
		"the others drain":  {[]string{"a-", "b+"}, lb.Targets{All: true}, "b", "b"},
		"who waits drains":  {[]string{"a", "b+-"}, lb.Targets{All: true}, "a", "a"},
		"all of them drain": {[]string{"a-", "b+-"}, lb.Targets{All: true}, "a b+", "a b"},
	} {
		s, ns := web(func(s *lb.Service) { s.IPv4.Targets = tc.targets }), nodes(tc.nodes...)
		text := func(s *Service) string {
			var words []string
			for _, b := range s.Frontends[0].Backends {
				word := b.Node
				if b.Backup {
					word += "+"
				}
				words = append(words, word)
			}
			return strings.Join(words, " ")
		}
		if got, all := text(Resolve(s, ns).Kept()), text(Resolve(s, ns).AllInFront().Kept()); got != tc.want || all != tc.inFront {
			t.Errorf("%s: %q, in front %q", name, got, all)
		}
	}
	if all := web(nil); nodes("a", "b").Sum(all) == nodes("a", "b+").Sum(all) {
		t.Error("a node that begins to wait changes no file")
	}
}

// An engine that keeps connections by itself has no node that drains, unless all do.
func TestKept(t *testing.T) {
	for want, nodes := range map[string][]string{
		"n2*1@10.0.0.2:30080":                     {"n1-=10.0.0.1", "n2=10.0.0.2"},
		"n1*1@10.0.0.1:30080 n2*1@10.0.0.2:30080": {"n1-=10.0.0.1", "n2-=10.0.0.2"},
		"": nil,
	} {
		if got := printed(Resolve(web(nil), table(nodes...)).Kept().Frontends[0].Backends); got != want {
			t.Errorf("of %q: %q, want %q", nodes, got, want)
		}
	}
}

func BenchmarkSums(b *testing.B) {
	var all []lb.Node
	for i := range 1000 {
		all = append(all, lb.Node{Name: fmt.Sprintf("n%04d", i), IPv4: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
	}
	nodes := NewNodes(all)
	for _, limit := range []int{0, 10} {
		s := web(func(s *lb.Service) { s.IPv4.Targets.Limit, s.IPv6.Targets.Limit = limit, limit })
		b.Run(fmt.Sprint("limit ", limit), func(b *testing.B) {
			for b.Loop() {
				nodes.Sum(s)
			}
		})
	}
}

// Nobody connects from there, and nginx takes it for the name of a machine.
func TestSourcesLackTheBroadcastAddress(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("255.255.255.0/24")}
	if got := Sources(lb.Clients{Sources: all}); len(got) != 1 || got[0] != all[1] {
		t.Errorf("sources %v", got)
	}
}
