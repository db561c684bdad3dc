package render_test

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// spread counts which nodes a number of new connections reach.
func spread(t testing.TB, to string, count int) map[string]int {
	t.Helper()
	reached := map[string]int{}
	for range count {
		reached[client("").reaches(t, to)]++
	}
	return reached
}

func algorithm(f engine.Frontend, a lb.Algorithm) engine.Frontend {
	return with(f, func(s *lb.Settings) { s.Algorithm = a })
}

func TestRoundRobinSpreadsEvenly(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.0.1"), startNodes(t, 3)
		serve(t, tcp(at, nodes...))
		got := spread(t, at, 30)
		for _, n := range nodes {
			if got[n] != 10 {
				t.Errorf("want 10 connections on each of %v, got %v", nodes, got)
			}
		}
	})
}

// Nodes with more endpoints get more connections.
func TestS19_WeightsSpreadConnections(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.0.9"), startNodes(t, 3)
		serve(t, weighed(tcp(at, nodes...)))
		got := spread(t, at, 60)
		for i, n := range nodes {
			if got[n] != (i+1)*10 {
				t.Errorf("want 10, 20 and 30 connections on %v, got %v", nodes, got)
			}
		}
	})
}

func TestRandomReachesEveryNode(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.0.2"), startNodes(t, 3)
		serve(t, algorithm(tcp(at, nodes...), lb.Random))
		got := slices.Sorted(maps.Keys(spread(t, at, 100)))
		if slices.Sort(nodes); !slices.Equal(got, nodes) {
			t.Errorf("want %v, got %v", nodes, got)
		}
	})
}

func TestLeastConnectionsPrefersTheIdleNode(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, busy, idle := freeAddress(t, "127.1.0.3"), startNode(t, "127.0.0.1"), startNode(t, "127.0.0.1")
		serve(t, algorithm(tcp(at, busy.address, idle.address), lb.LeastConnections))
		var toIdle []net.Conn
		for range 30 { // far more than a daemon still counts of those that it has just closed
			if conn, answer := client("").ask(t, at); answer == idle.address {
				toIdle = append(toIdle, conn)
			}
		}
		for _, conn := range toIdle {
			conn.Close()
		}
		wait.True(t, "one node is idle", func() bool { return idle.open() == 0 && busy.open() == 30-len(toIdle) })
		for range 3 { // round robin would send one to the busy node
			if _, got := client("").ask(t, at); got != idle.address {
				t.Errorf("reached %s, the busy node", got)
			}
		}
	})
}

func TestS29_KeepsAClientOnOneNode(t *testing.T) {
	onEngines(t, func(t onEngine) {
		nodes := startNodes(t, 3)
		for name, f := range map[string]func(engine.Frontend) engine.Frontend{
			"affinity":                        sticky,
			"affinity with least connections": func(f engine.Frontend) engine.Frontend { return sticky(algorithm(f, lb.LeastConnections)) },
			"source hash":                     func(f engine.Frontend) engine.Frontend { return algorithm(f, lb.SourceHash) },
		} {
			t.Run(name, func(t onEngine) {
				at := freeAddress(t, "127.1.0.4")
				serve(t, f(tcp(at, nodes...)))
				all := map[string]bool{}
				for i := 0; i < 20 || len(all) < len(nodes) && i < 200; i++ { // the hash is of ports that differ each time
					c := client(fmt.Sprintf("127.0.1.%d", i+1))
					first := c.reaches(t, at)
					all[first] = true
					for range 5 {
						if got := c.reaches(t, at); got != first {
							t.Errorf("client %s moved from %s to %s", c, first, got)
						}
					}
				}
				if len(all) != len(nodes) {
					t.Errorf("200 clients reach only %v", all)
				}
			})
		}
	})
}

func TestConnectionsPerNodeAreLimited(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.0.5"), startNodes(t, 2)
		serve(t, with(tcp(at, nodes...), func(s *lb.Settings) { s.MaxConnectionsPerNode = 2 }))
		got := map[string]int{}
		for range 6 {
			_, answer := client("").ask(t, at) // stays open
			got[answer]++
		}
		if got[nodes[0]] != 2 || got[nodes[1]] != 2 || got[""] != 2 {
			t.Errorf("want 2 connections on each node and 2 closed, got %v", got)
		}
	})
}

func TestConnectionsAreLimited(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.0.6"), startNodes(t, 2)
		limited := with(tcp(at, nodes...), func(s *lb.Settings) { s.MaxConnections = 3 })
		neighbour := freeAddress(t, "127.1.0.7")
		serve(t, limited, with(tcp(neighbour, nodes...), func(s *lb.Settings) { s.MaxConnections = 3 }))
		conn := client("127.0.1.1").holds(t, at)
		for range 2 {
			client("127.0.1.2").holds(t, at)
		}
		if got := client("127.0.1.3").reaches(t, at); got != "" {
			t.Errorf("a connection above the limit reached %s", got)
		}
		if got := client("127.0.1.3").reaches(t, neighbour); got == "" {
			t.Error("another port was limited, too")
		}
		conn.Close()
		wait.True(t, "a connection that ended makes room", func() bool { return client("127.0.1.3").reaches(t, at) != "" })
	})
}

// All ports of a Service share what the host's owner allows it.
func TestConnectionsOfAServiceAreLimited(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, other, nodes := freeAddress(t, "127.1.0.11"), freeAddress(t, "127.1.0.12"), startNodes(t, 2)
		free := freeAddress(t, "127.1.0.13")
		neighbour := service(t, "neighbour", tcp(free, nodes...))
		web := service(t, "web", tcp(at, nodes...), with(tcp(other, nodes...), func(s *lb.Settings) { s.MaxConnections = 100 }))
		web.MaxConnections, neighbour.MaxConnections = 3, 3
		serveServices(t, web, neighbour)
		conn := client("127.0.1.1").holds(t, at)
		client("127.0.1.2").holds(t, at)
		client("127.0.1.2").holds(t, other)
		for _, one := range []string{at, other} {
			if got := client("127.0.1.3").reaches(t, one); got != "" {
				t.Errorf("a connection above the Service's share reached %s by %s", got, one)
			}
		}
		if got := client("127.0.1.3").reaches(t, free); got == "" {
			t.Error("another Service was limited, too")
		}
		conn.Close()
		wait.True(t, "a connection that ended makes room", func() bool { return client("127.0.1.3").reaches(t, other) != "" })
	})
}

func TestNginxLimitsFlowsOfAService(t *testing.T) {
	at, n := freeAddress(t, "127.1.0.14"), startUDPNode(t, "127.0.0.1")
	dns := service(t, "dns", udp(at, n.LocalAddr().String()))
	dns.MaxConnections = 2
	serveServices(t, dns)
	for i, want := range []bool{true, true, false} {
		got, _ := exchange(t, client("127.0.2.1").dial(t, "udp", at), []byte("a"), map[bool]time.Duration{true: patience, false: silence}[want])
		if (got != "") != want {
			t.Errorf("flow %d: %q", i+1, got)
		}
	}
}

// A resolver asks from a new port each time, and each is a connection that nginx keeps, and
// one to the node beside it. Its Service uses up its own share, and not its neighbour's.
func TestNginxAStormOfFlowsTakesNobodysConnections(t *testing.T) {
	const flows = 2 * 1024 // as many as all workers have, for half of what is needed
	dns, web := freeAddress(t, "127.1.0.15"), freeAddress(t, "127.1.0.16")
	storm, neighbour := service(t, "dns", udp(dns, startUDPNode(t, "127.0.0.1").LocalAddr().String())), service(t, "web", tcp(web, startNodes(t, 1)...))
	storm.MaxConnections, neighbour.MaxConnections = 256, 256
	serveServices(t, storm, neighbour)
	for i := range flows {
		if _, err := client("127.0.2.1").dial(t, "udp", dns).Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if i%64 != 0 {
			continue
		}
		if got := client("127.0.1.1").reaches(t, web); got == "" {
			t.Fatalf("after %d flows of another Service, a connection of TCP is refused", i+1)
		}
	}
	if got, _ := exchange(t, client("127.0.2.1").dial(t, "udp", dns), []byte("a"), silence); got != "" {
		t.Error("the storm is within its share: it proves nothing")
	}
}

func TestConnectionsPerClientAreLimited(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.0.8"), startNodes(t, 2)
		serve(t, with(tcp(at, nodes...), func(s *lb.Settings) { s.MaxConnectionsPerClient = 2 }))
		for range 2 {
			client("127.0.1.1").ask(t, at)
		}
		if got := client("127.0.1.1").reaches(t, at); got != "" {
			t.Errorf("a connection above the limit reached %s", got)
		}
		if got := client("127.0.1.2").reaches(t, at); got == "" {
			t.Error("another client was limited, too")
		}
	})
}

// The zones keep their keys and sizes, so nginx takes the reload and goes on counting.
func TestNginxCountsOnAfterAReload(t *testing.T) {
	at, other, nodes := freeAddress(t, "127.1.0.9"), freeAddress(t, "127.1.0.10"), startNodes(t, 2)
	limited := func(limit int32) engine.Frontend {
		return with(tcp(at, nodes...), func(s *lb.Settings) { s.MaxConnections, s.MaxConnectionsPerClient = limit, limit })
	}
	d := serve(t, limited(2))
	for range 2 {
		client("127.0.1.1").ask(t, at)
	}
	d.reload(t, limited(3), tcp(other, nodes...))
	wait.True(t, "the new limit admits a third connection", func() bool {
		_, answer := client("127.0.1.1").ask(t, at) // stays open
		return answer != ""
	})
	for range 10 {
		if got := client("127.0.1.1").reaches(t, at); got != "" {
			t.Errorf("a fourth connection reached %s", got)
		}
	}
}
