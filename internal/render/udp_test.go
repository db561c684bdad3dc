package render_test

import (
	"bytes"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// silence is how long no answer must come to count as none: nginx drops at once,
// so that an answer would be there in much less.
const silence = 300 * time.Millisecond

func startUDPNodes(t testing.TB, count int) (nodes []net.PacketConn, addresses []string) {
	t.Helper()
	for range count {
		n := startUDPNode(t, "127.0.0.1")
		nodes, addresses = append(nodes, n), append(addresses, n.LocalAddr().String())
	}
	return nodes, addresses
}

// burst sends bursts of datagrams as fast as it can, so that several workers
// are busy with the flow, and returns which nodes answered.
func burst(t testing.TB, conn net.Conn) map[string]bool {
	t.Helper()
	const bursts, size = 20, 10
	reached, buffer, answers := map[string]bool{}, make([]byte, 100), 0
	for range bursts {
		for range size {
			if _, err := conn.Write([]byte("a")); err != nil {
				t.Error(err)
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for range size {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Errorf("after %d answers: %v", answers, err)
				return reached
			}
			node, _, _ := strings.Cut(string(buffer[:n]), " ")
			reached[node] = true
			answers++
		}
	}
	return reached
}

// bursts has flows of one client side by side, and returns the nodes of each.
func bursts(t testing.TB, flows int, at string) []map[string]bool {
	t.Helper()
	reached := make([]map[string]bool, flows)
	var all sync.WaitGroup
	for i := range flows {
		conn := client("127.0.3.1").dial(t, "udp", at)
		all.Go(func() { reached[i] = burst(t, conn) })
	}
	all.Wait()
	return reached
}

func TestNginxKeepsAUDPFlowOnOneNode(t *testing.T) {
	_, nodes := startUDPNodes(t, 3)
	for _, a := range []lb.Algorithm{lb.RoundRobin, lb.LeastConnections, lb.Random, lb.SourceHash} {
		t.Run(string(a), func(t *testing.T) {
			at := freeAddress(t, "127.1.3.1")
			serve(t, algorithm(udp(at, nodes...), a))
			all := map[string]bool{}
			for _, reached := range bursts(t, 10, at) {
				if len(reached) != 1 {
					t.Errorf("a flow reaches %v", reached)
				}
				maps.Copy(all, reached)
			}
			if spreads := len(all) > 1; spreads != (a != lb.SourceHash) {
				t.Errorf("10 flows of one client reach %v", all)
			}
		})
	}
}

// A flow is one session however many workers there are, else it uses up its own limit.
func TestNginxCountsAUDPFlowOnce(t *testing.T) {
	_, nodes := startUDPNodes(t, 1)
	for name, limit := range map[string]func(*lb.Settings){
		"all":        func(s *lb.Settings) { s.MaxConnections = 10 },
		"per node":   func(s *lb.Settings) { s.MaxConnectionsPerNode = 10 },
		"per client": func(s *lb.Settings) { s.MaxConnectionsPerClient = 10 },
	} {
		t.Run(name, func(t *testing.T) {
			at := freeAddress(t, "127.1.3.8")
			serve(t, with(udp(at, nodes...), limit))
			bursts(t, 10, at) // fails without an answer to each datagram
		})
	}
}

func TestS29_NginxKeepsAUDPClientOnOneNode(t *testing.T) {
	at := freeAddress(t, "127.1.3.2")
	_, nodes := startUDPNodes(t, 3)
	serve(t, sticky(udp(at, nodes...)))
	reached := map[string]bool{}
	for range 20 {
		got, _ := exchange(t, client("127.0.3.1").dial(t, "udp", at), []byte("a"), patience)
		reached[got] = true
	}
	if len(reached) != 1 || reached[""] {
		t.Errorf("20 flows of one client reach %v", reached)
	}
}

func TestS36_NginxMovesAUDPFlowFromANodeThatIsGone(t *testing.T) {
	at := freeAddress(t, "127.1.3.3")
	nodes, addresses := startUDPNodes(t, 3)
	serve(t, udp(at, addresses...))
	conn := client("").dial(t, "udp", at)
	first, _ := exchange(t, conn, []byte("a"), patience)
	for _, n := range nodes {
		if n.LocalAddr().String() == first {
			n.Close()
		}
	}
	wait.True(t, "the flow reaches another node", func() bool {
		got, _ := exchange(t, conn, []byte("a"), silence)
		return got != "" && got != first
	})
}

func TestNginxCarriesWholeDatagrams(t *testing.T) {
	at := freeAddress(t, "127.1.3.4")
	_, nodes := startUDPNodes(t, 1)
	serve(t, udp(at, nodes...))
	conn := client("").dial(t, "udp", at)
	for _, size := range []int{0, 1, 1400, 20_000, 60_000} {
		want := bytes.Repeat([]byte("x"), size)
		if _, got := exchange(t, conn, want, patience); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
	}
}

func TestS27_NginxDropsDatagramsWithoutNodes(t *testing.T) {
	at := freeAddress(t, "127.1.3.5")
	serve(t, udp(at))
	if got, _ := exchange(t, client("").dial(t, "udp", at), []byte("a"), silence); got != "" {
		t.Errorf("got an answer from %s", got)
	}
}

func TestNginxLimitsUDPSessions(t *testing.T) {
	at := freeAddress(t, "127.1.3.6")
	_, nodes := startUDPNodes(t, 1)
	serve(t, with(udp(at, nodes...), func(s *lb.Settings) { s.MaxConnectionsPerClient = 1 }))
	for who, wants := range map[client]string{"127.0.3.1": nodes[0], "127.0.3.2": nodes[0]} {
		if got, _ := exchange(t, who.dial(t, "udp", at), []byte("a"), patience); got != wants {
			t.Errorf("%s got %q", who, got)
		}
		if got, _ := exchange(t, who.dial(t, "udp", at), []byte("a"), silence); got != "" {
			t.Errorf("%s has a second session, with %s", who, got)
		}
	}
}

func TestS16_NginxCarriesTCPAndUDPOnOnePort(t *testing.T) {
	for _, ip := range []string{"127.1.3.7", "::1"} {
		t.Run(strings.ReplaceAll(ip, ":", "-"), func(t *testing.T) {
			at, overTCP, overUDP := freeAddress(t, ip), startNode(t, ip), startUDPNode(t, ip)
			serve(t, tcp(at, overTCP.address), udp(at, overUDP.LocalAddr().String()))
			if got := client("").reaches(t, at); got != overTCP.address {
				t.Errorf("TCP got %q", got)
			}
			if got, _ := exchange(t, client("").dial(t, "udp", at), []byte("a"), patience); got != overUDP.LocalAddr().String() {
				t.Errorf("UDP got %q", got)
			}
		})
	}
}
