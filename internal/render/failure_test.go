package render_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// refused is an address on which nothing listens.
func refused(t testing.TB) string { return freeAddress(t, "127.0.0.9") }

// blackHole is an address that never answers a new connection: one that listens
// with a full queue.
func blackHole(t testing.TB) string {
	t.Helper()
	l, at := listenWithoutQueue(t)
	for range 4 { // the queue holds one or two, more wait for ever
		d := net.Dialer{Timeout: 50 * time.Millisecond}
		if c, err := d.DialContext(t.Context(), "tcp", at); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	t.Cleanup(func() { l.Close() })
	return at
}

func TestRetriesADeadNodeWithoutErrors(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.2.1"), startNodes(t, 2)
		serve(t, tcp(at, nodes[0], refused(t), nodes[1]))
		if got := spread(t, at, 200); got[nodes[0]]+got[nodes[1]] != 200 {
			t.Errorf("want no errors, got %v", got)
		}
	})
}

func TestRetriesADeadNodeThatAClientSticksTo(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.2.2"), startNodes(t, 1)
		serve(t, sticky(tcp(at, refused(t), nodes[0], refused(t))))
		if got := spread(t, at, 50); got[nodes[0]] != 50 {
			t.Errorf("want no errors, got %v", got)
		}
	})
}

func TestWithoutRetriesTellsTheClient(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.2.3"), startNodes(t, 1)
		serve(t, with(tcp(at, nodes[0], refused(t)), func(s *lb.Settings) {
			s.Retries, s.HealthCheck.Type = 0, lb.CheckNone
		}))
		if got := spread(t, at, 20); got[nodes[0]] != 10 || got[""] != 10 {
			t.Errorf("want every second connection closed, got %v", got)
		}
	})
}

func TestRetriesAsOftenAsItIsTold(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.2.4"), startNodes(t, 1)
		three := []string{refused(t), refused(t), refused(t)}
		serve(t, with(tcp(at, append(three, nodes[0])...), func(s *lb.Settings) {
			s.Retries, s.HealthCheck.Type = 2, lb.CheckNone
		}))
		got := spread(t, at, 40)
		if got[nodes[0]] == 0 || got[""] == 0 {
			t.Errorf("want three tries to miss the one of four at times, got %v", got)
		}
	})
}

func TestNginxLeavesOutANodeThatFails(t *testing.T) {
	at, nodes, hole := freeAddress(t, "127.1.2.5"), startNodes(t, 2), blackHole(t)
	const timeout = 3 * time.Second // a busy machine is not that slow
	serve(t, with(tcp(at, nodes[0], hole, nodes[1]), func(s *lb.Settings) {
		s.ConnectTimeout, s.HealthCheck.Interval = timeout, time.Hour
	}))
	slow := 0
	for range 100 {
		start := time.Now()
		if got := client("").reaches(t, at); got == "" {
			t.Error("a connection was closed")
		}
		if time.Since(start) >= timeout-timeout/10 {
			slow++
		}
	}
	if slow > 2 { // each worker may be connecting while the other one learns
		t.Errorf("%d of 100 connections waited for a node that was known to fail", slow)
	}
}

func TestBoundsABlackHoleByTheConnectTimeout(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes, hole := freeAddress(t, "127.1.2.6"), startNodes(t, 1), blackHole(t)
		serve(t, with(tcp(at, nodes[0], hole), func(s *lb.Settings) {
			s.ConnectTimeout, s.HealthCheck.Type = 200*time.Millisecond, lb.CheckNone
		}))
		longest := time.Duration(0)
		for range 10 {
			start := time.Now()
			if got := client("").reaches(t, at); got != nodes[0] {
				t.Errorf("got %q", got)
			}
			longest = max(longest, time.Since(start))
		}
		if longest < 150*time.Millisecond || longest > 5*time.Second {
			t.Errorf("the longest took %s, want the connect timeout of 200ms and a little", longest)
		}
	})
}

func TestS27_ClosesConnectionsWithoutNodes(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, v6 := freeAddress(t, "127.1.2.7"), freeAddress(t, "::1")
		proxied, closed := freeAddress(t, "127.1.2.8"), freeAddress(t, "127.1.2.9")
		serve(t, tcp(at), tcp(v6), accepting(tcp(proxied)), from(tcp(closed)))
		for to, say := range map[string]string{at: "", v6: "", closed: "", proxied: header("203.0.113.1:1234", at)} {
			if got := client("").reaches(t, to, say); got != "" {
				t.Errorf("%s answered %q, want it closed", to, got)
			}
		}
	})
}

func TestClosesIdleConnections(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.2.10"), startNodes(t, 1)
		serve(t, with(tcp(at, nodes...), func(s *lb.Settings) { s.IdleTimeout = 3 * time.Second }))
		conn, answer := client("").ask(t, at)
		if answer != nodes[0] {
			t.Fatalf("got %q", answer)
		}
		for range 4 {
			if _, err := io.WriteString(conn, "ping\n"); err != nil || receive(conn) != "ping" {
				t.Fatalf("a busy connection was closed: %v", err)
			}
		}
		if got := receive(conn); got != "" {
			t.Errorf("got %q, want the idle connection closed", got)
		}
	})
}

func TestAnswersAClientThatHasSaidAll(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.2.11"), startNodes(t, 1)
		serve(t, tcp(at, nodes...))
		want := strings.Repeat("all of it\n", 100_000)
		conn := client("").dial(t, "tcp", at).(*net.TCPConn)
		got := make(chan string, 1)
		go func() {
			all, _ := io.ReadAll(conn)
			got <- string(all)
		}()
		if _, err := io.WriteString(conn, want); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if all := <-got; all != nodes[0]+"\n"+want {
			t.Errorf("got %d bytes of %d", len(all), len(want))
		}
	})
}
