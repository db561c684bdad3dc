package render_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/freeport"
	"github.com/external-lb/external-lb/test/wait"
)

// patience is how long a client waits for what must come.
const patience = 10 * time.Second

// freeAddress is a port of ip that is free for TCP and UDP.
func freeAddress(t testing.TB, ip string) string { return freeport.On(t, ip).String() }

// node is a backend: over TCP it greets with its address and a newline and then
// repeats what it hears; over UDP it answers with its address.
type node struct {
	address string
	mu      sync.Mutex
	conns   map[net.Conn]bool
}

func startNode(t testing.TB, ip string) *node {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{address: l.Addr().String(), conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { n.answer(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		n.mu.Lock()
		for c := range n.conns {
			c.Close()
		}
		n.mu.Unlock()
		all.Wait()
	})
	return n
}

func (n *node) answer(c net.Conn) {
	n.count(c, true)
	defer n.count(c, false)
	defer c.Close()
	_, _ = io.WriteString(c, n.address+"\n") // a client that has gone is none of a node's business
	_, _ = io.Copy(c, c)
}

func (n *node) count(c net.Conn, open bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if delete(n.conns, c); open {
		n.conns[c] = true
	}
}

// open is how many connections the node has.
func (n *node) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// startNodes starts nodes on 127.0.0.1 and returns their addresses.
func startNodes(t testing.TB, count int) []string {
	t.Helper()
	addresses := make([]string, count)
	for i := range addresses {
		addresses[i] = startNode(t, "127.0.0.1").address
	}
	return addresses
}

// startUDPNode answers each datagram with its address, then a space and the datagram.
func startUDPNode(t testing.TB, ip string) net.PacketConn {
	t.Helper()
	p, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 1<<16)
		for {
			n, client, err := p.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = p.WriteTo(append([]byte(p.LocalAddr().String()+" "), buffer[:n]...), client)
			}
		}
	}()
	t.Cleanup(func() { p.Close(); <-ended })
	return p
}

// client is one that connects from an address. Empty: any.
type client string

// dial connects and reads nothing yet.
func (c client) dial(t testing.TB, network, to string) net.Conn {
	t.Helper()
	conn, err := c.connect(t, network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (c client) connect(t testing.TB, network, to string) (net.Conn, error) {
	var d net.Dialer
	if c != "" {
		ip := netip.MustParseAddr(string(c))
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
		}
	}
	return d.DialContext(t.Context(), network, to)
}

// ask connects, says something, and returns the connection and the first line
// of the answer: the node's address. "" if the balancer closes the connection.
func (c client) ask(t testing.TB, to string, say ...string) (net.Conn, string) {
	t.Helper()
	conn, err := c.connect(t, "tcp", to)
	if errors.Is(err, syscall.ECONNRESET) { // closed before the client has seen that it was open
		conn, _ = net.Pipe()
		return conn, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, strings.Join(say, "")) // what was closed already is seen when reading
	return conn, receive(conn)
}

// holds opens a connection that a node has answered. A limit may leave no room for
// it at first: the daemon may still count one that has ended.
func (c client) holds(t testing.TB, to string) (conn net.Conn) {
	t.Helper()
	wait.True(t, "there is room for a connection", func() bool {
		var answer string
		conn, answer = c.ask(t, to)
		return answer != ""
	})
	return conn
}

// reaches says which node answers a new connection, and ends it.
func (c client) reaches(t testing.TB, to string, say ...string) string {
	t.Helper()
	conn, answer := c.ask(t, to, say...)
	conn.Close()
	return answer
}

// receive reads a line without its end, or up to the end of the connection.
// One that is still silent after a while says "timeout".
func receive(c net.Conn) string {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReaderSize(oneByte{c}, 16).ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "timeout"
	}
	return strings.TrimRight(line, "\r\n")
}

// oneByte reads no further than it is asked to, so that a connection can be
// read on after a line.
type oneByte struct{ io.Reader }

func (r oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// exchange sends a datagram and returns the address of the node that answers,
// or "" if none does within the time.
func exchange(t testing.TB, c net.Conn, datagram []byte, within time.Duration) (node string, answer []byte) {
	t.Helper()
	if _, err := c.Write(datagram); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<17)
	n, err := c.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", nil
	}
	if err != nil {
		t.Fatal(err)
	}
	node, text, _ := strings.Cut(string(buffer[:n]), " ")
	return node, []byte(text)
}
