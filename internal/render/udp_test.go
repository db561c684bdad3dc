package render_test

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// silence is how long no answer must come to count as none: nginx drops at once,
// so that an answer would be there in much less.
const silence = 300 * time.Millisecond

func startUDPNodes(t *testing.T, count int) (nodes []net.PacketConn, addresses []string) {
	t.Helper()
	for range count {
		n := startUDPNode(t, "127.0.0.1")
		nodes, addresses = append(nodes, n), append(addresses, n.LocalAddr().String())
	}
	return nodes, addresses
}

func TestNginxKeepsAUDPFlowOnOneNode(t *testing.T) {
	_, nodes := startUDPNodes(t, 3)
	for _, a := range []lb.Algorithm{lb.RoundRobin, lb.LeastConnections, lb.Random, lb.SourceHash} {
		t.Run(string(a), func(t *testing.T) {
			at := freeAddress(t, "127.1.3.1")
			serve(t, algorithm(udp(at, nodes...), a))
			reached := map[string]bool{}
			for range 20 {
				conn := client("127.0.3.1").dial(t, "udp", at)
				first, _ := exchange(t, conn, []byte("a"), patience)
				reached[first] = true
				for range 50 { // over two workers
					if got, _ := exchange(t, conn, []byte("a"), patience); got != first {
						t.Fatalf("the flow hops from %q to %q", first, got)
					}
				}
			}
			if spreads := len(reached) > 1; spreads != (a != lb.SourceHash) {
				t.Errorf("20 flows of one client reach %v", reached)
			}
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
	eventually(t, "the flow reaches another node", func() bool {
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
