package render_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestS28_AdmitsOnlySourceRanges(t *testing.T) {
	onEngines(t, func(t onEngine) {
		nodes := startNodes(t, 1)
		for name, c := range map[string]struct {
			ranges        []string
			admits, turns []client
		}{
			"one range":       {[]string{"127.0.2.8/29"}, []client{"127.0.2.8", "127.0.2.15"}, []client{"127.0.2.7", "127.0.2.16"}},
			"two ranges":      {[]string{"127.0.2.1/32", "127.0.3.0/24"}, []client{"127.0.2.1", "127.0.3.9"}, []client{"127.0.2.2", "127.0.4.1"}},
			"all of a family": {[]string{"0.0.0.0/0"}, []client{"127.0.2.1"}, nil},
			"two halves":      {[]string{"0.0.0.0/1", "128.0.0.0/1"}, []client{"127.0.2.1"}, nil},
			"closed":          {nil, nil, []client{"127.0.2.1", "127.0.0.1"}},
		} {
			t.Run(name, func(t onEngine) {
				at := freeAddress(t, "127.1.1.1")
				serve(t, from(tcp(at, nodes...), c.ranges...))
				for _, who := range c.admits {
					if got := who.reaches(t, at); got != nodes[0] {
						t.Errorf("%s got %q", who, got)
					}
				}
				for _, who := range c.turns {
					if got := who.reaches(t, at); got != "" {
						t.Errorf("%s got %q, want it closed", who, got)
					}
				}
			})
		}
	})
}

func TestS28_JudgesIPv6Clients(t *testing.T) {
	onEngines(t, func(t onEngine) {
		n, at, closed, proxied := startNode(t, "::1"), freeAddress(t, "::1"), freeAddress(t, "::1"), freeAddress(t, "::1")
		serve(t, from(tcp(at, n.address), "::1/128"), from(tcp(closed, n.address), "2001:db8::/32"),
			from(accepting(tcp(proxied, n.address)), "::1/128", "2001:db8:1::/48"))
		for _, c := range []struct{ to, say, wants string }{
			{at, "", n.address},
			{closed, "", ""},
			{proxied, header("[2001:db8:1::9]:1234", proxied), n.address},
			{proxied, header("[2001:db8:2::9]:1234", proxied), ""},
			{proxied, header("192.0.2.1:1234", "192.0.2.2:80"), ""},
		} {
			if got := client("").reaches(t, c.to, c.say); got != c.wants {
				t.Errorf("%s with %q got %q, want %q", c.to, c.say, got, c.wants)
			}
		}
	})
}

func TestS28_NginxAdmitsOnlySourceRangesOfUDP(t *testing.T) {
	at, n := freeAddress(t, "127.1.1.2"), startUDPNode(t, "127.0.0.1")
	serve(t, from(udp(at, n.LocalAddr().String()), "127.0.2.8/29"))
	if got, _ := exchange(t, client("127.0.2.9").dial(t, "udp", at), []byte("a"), patience); got == "" {
		t.Error("no answer for a client in the range")
	}
	if got, _ := exchange(t, client("127.0.2.1").dial(t, "udp", at), []byte("a"), silence); got != "" {
		t.Errorf("a client out of the range got an answer from %s", got)
	}
}

func TestSendsPROXYHeader(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.3"), startNodes(t, 1)
		serve(t, with(tcp(at, nodes...), func(s *lb.Settings) { s.SendProxy = lb.ProxyV1 }))
		conn, _ := client("127.0.2.1").ask(t, at)
		if got, want := receive(conn), header(conn.LocalAddr().String(), at); got+"\r\n" != want {
			t.Errorf("the node got %q, want %q", got, want)
		}
	})
}

// header is a version 1 PROXY header.
func header(from, to string) string {
	source, target := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	family := "TCP6"
	if source.Addr().Is4() {
		family = "TCP4"
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, source.Addr(), target.Addr(), source.Port(), target.Port())
}

// header2 is a version 2 PROXY header of two IPv4 addresses.
func header2(from, to string) string {
	source, target := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	h := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
	h = append(append(h, source.Addr().AsSlice()...), target.Addr().AsSlice()...)
	h = append(h, byte(source.Port()>>8), byte(source.Port()), byte(target.Port()>>8), byte(target.Port()))
	return string(h)
}

func accepting(f engine.Frontend) engine.Frontend {
	return with(f, func(s *lb.Settings) { s.AcceptProxy = true })
}

func TestJudgesTheClientThatAPROXYHeaderNames(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.4"), startNodes(t, 1)
		serve(t, from(accepting(tcp(at, nodes...)), "127.0.2.0/24", "203.0.113.0/24"))
		for name, c := range map[string]struct {
			peer  client
			say   string
			wants string
		}{
			"peer and client in the ranges":             {"127.0.2.1", header("203.0.113.9:1234", at), nodes[0]},
			"peer and client in the ranges, version 2":  {"127.0.2.1", header2("203.0.113.9:1234", at), nodes[0]},
			"client out of the ranges":                  {"127.0.2.1", header("198.51.100.9:1234", at), ""},
			"client of the other family":                {"127.0.2.1", header("[2001:db8::9]:1234", "[2001:db8::1]:80"), ""},
			"peer that lies about itself":               {"127.0.3.1", header("203.0.113.9:1234", at), ""},
			"peer that lies about itself, version 2":    {"127.0.3.1", header2("203.0.113.9:1234", at), ""},
			"peer in the ranges that speaks for itself": {"127.0.2.1", "PROXY UNKNOWN\r\n", nodes[0]},
			"peer out of the ranges, unknown client":    {"127.0.3.1", "PROXY UNKNOWN\r\n", ""},
			"no header":                                 {"127.0.2.1", "GET / HTTP/1.1\r\n\r\n", ""},
		} {
			t.Run(name, func(t onEngine) {
				if got := c.peer.reaches(t, at, c.say); got != c.wants {
					t.Errorf("got %q, want %q", got, c.wants)
				}
			})
		}
	})
}

func TestPassesOnTheClientOfAPROXYHeader(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.5"), startNodes(t, 1)
		serve(t, with(accepting(tcp(at, nodes...)), func(s *lb.Settings) { s.SendProxy = lb.ProxyV1 }))
		want := header("203.0.113.9:1234", at)
		conn, _ := client("127.0.2.1").ask(t, at, want)
		if got := receive(conn) + "\r\n"; got != want {
			t.Errorf("the node got %q, want %q", got, want)
		}
	})
}

func TestCountsAndHashesTheClientOfAPROXYHeader(t *testing.T) {
	onEngines(t, func(t onEngine) {
		at, nodes := freeAddress(t, "127.1.1.6"), startNodes(t, 3)
		serve(t, sticky(with(accepting(tcp(at, nodes...)), func(s *lb.Settings) { s.MaxConnectionsPerClient = 1 })))
		reached := map[string]bool{}
		var first net.Conn
		for i := 0; i < 20 || len(reached) < len(nodes) && i < 200; i++ { // all through one peer
			conn, answer := client("127.0.2.1").ask(t, at, header(fmt.Sprintf("203.0.113.%d:1234", i+1), at))
			if answer == "" {
				t.Errorf("client %d was counted as the peer", i)
			}
			if reached[answer] = true; first == nil {
				first = conn
			}
		}
		if len(reached) != len(nodes) {
			t.Errorf("200 clients were hashed to %v only", reached)
		}
		if got := client("127.0.2.2").reaches(t, at, header("203.0.113.1:1234", at)); got != "" {
			t.Errorf("a client above its limit reached %s through another peer", got)
		}
		first.Close()
	})
}
