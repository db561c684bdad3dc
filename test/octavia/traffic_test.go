package octavia

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// carrier is a load balancer that sends to a port of some boxes, as to a nodePort of nodes.
type carrier struct {
	cloud   *openstack.Cloud
	id      provider.ID
	want    *provider.Spec
	address string
}

// carry makes one of some ports, which nobody checks, as a test then wants it to be.
func (s *scene) carry(t *testing.T, nodePort uint16, boxes []string, change func(*provider.Spec), ports ...uint16) *carrier {
	t.Helper()
	c := &carrier{cloud: s.newCloud(Project, providertest.Same), id: provider.ID{Cluster: "traffic", Service: t.Name()}, want: specOf(ports...)}
	c.want.Families[0].Members = nil
	for _, box := range boxes {
		c.want.Families[0].Members = append(c.want.Families[0].Members, provider.Member{Address: s.Addrs(box)[0], Weight: 1})
	}
	for i := range c.want.Listeners {
		l := &c.want.Listeners[i]
		l.NodePort, l.Settings.HealthCheck = nodePort, provider.HealthCheck{Type: provider.CheckNone}
	}
	change(c.want)
	t.Cleanup(func() { s.ends(t, c.cloud, c.id) })
	c.put(t)
	o, err := c.cloud.Get(t.Context(), c.id)
	if err != nil {
		t.Fatal(err)
	}
	c.address = o.Addresses[0].IP.String()
	return c
}

// put what is wanted now.
func (c *carrier) put(t *testing.T) {
	t.Helper()
	providertest.Reach(t, c.cloud, c.id, c.want)
}

// echo answers on a nodePort of the box of clients with what it gets, and counts its connections.
func (s *scene) echo(t *testing.T, nodePort uint16) *atomic.Int32 {
	t.Helper()
	l := s.listen(t, "client", nodePort)
	var count atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			count.Add(1)
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until either end closes it
			}()
		}
	}()
	return &count
}

// nodePort that no other test has: two that shared one would answer for each other. Below those of the kit.
func (s *scene) nodePort() uint16 { return uint16(30000 + s.nodePorts.Add(1)) }

func (s *scene) listen(t *testing.T, box string, nodePort uint16) net.Listener {
	t.Helper()
	l, err := s.ListenIn(t.Context(), box, netip.AddrPortFrom(s.Addrs(box)[0], nodePort).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// connect as a client, who is patient.
func (s *scene) connect(ctx context.Context, address string, port uint16) (*net.TCPConn, error) {
	c, err := s.DialFrom(ctx, "client", "tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(wait.Patience))
}

// connected is connect, until what is said comes back, and when that began.
func (s *scene) connected(t *testing.T, address string, port uint16) (c *net.TCPConn, began time.Time) {
	t.Helper()
	wait.For(t, func(ctx context.Context) (err error) {
		began = time.Now()
		if c, err = s.connect(ctx, address, port); err != nil {
			return err
		}
		if err = says(c, "hello"); err != nil {
			c.Close()
		}
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c, began
}

// says something, and wants to hear it.
func says(c net.Conn, what string) error {
	if _, err := io.WriteString(c, what); err != nil {
		return err
	}
	got := make([]byte, len(what))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != what {
		return fmt.Errorf("%q came back", got)
	}
	return nil
}

// Where a policy wants a PROXY header, a node reads the client's address first, in the version that is wanted now.
func TestTraffic_NodesAreToldTheClient(t *testing.T) {
	t.Parallel()
	port := env.nodePort()
	env.echo(t, port)
	c := env.carry(t, port, []string{"client"}, func(*provider.Spec) {}, 80)
	for _, version := range []string{provider.ProxyNone, provider.ProxyV1, provider.ProxyV2} {
		c.want.Listeners[0].Settings.SendProxy = version
		c.put(t)
		wait.For(t, func(ctx context.Context) error {
			conn, err := env.connect(ctx, c.address, 80)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "hello"); err != nil {
				return err
			}
			if err := conn.CloseWrite(); err != nil {
				return err
			}
			got, err := io.ReadAll(conn)
			if want := header(t, version, conn.LocalAddr(), conn.RemoteAddr()) + "hello"; err == nil && string(got) != want {
				err = fmt.Errorf("%s: the node got %q, want %q", version, got, want)
			}
			return err
		})
	}
}

// header of the PROXY protocol.
func header(t *testing.T, version string, from, to net.Addr) string {
	t.Helper()
	a, b := netip.MustParseAddrPort(from.String()), netip.MustParseAddrPort(to.String())
	switch version {
	case provider.ProxyV1:
		return fmt.Sprintf("PROXY TCP4 %s %s %d %d\r\n", a.Addr(), b.Addr(), a.Port(), b.Port())
	case provider.ProxyV2:
		var out bytes.Buffer
		out.WriteString("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c")
		for _, part := range []any{a.Addr().As4(), b.Addr().As4(), a.Port(), b.Port()} {
			if err := binary.Write(&out, binary.BigEndian, part); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	return ""
}

// A connection of which nobody says anything ends after the idle timeout of its port, and not before. Where
// that is longer, one as silent stays.
func TestTraffic_SilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	port := env.nodePort()
	env.echo(t, port)
	const idle = 2 * time.Second
	c := env.carry(t, port, []string{"client"}, func(s *provider.Spec) {
		s.Listeners[0].Settings.IdleTimeoutMilliseconds = int32(idle / time.Millisecond)
	}, 80, 81)
	stays, _ := env.connected(t, c.address, 81)
	ends, began := env.connected(t, c.address, 80)
	if got, err := ends.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("want its end, got %d bytes, %v", got, err)
	}
	if took := time.Since(began); took < idle {
		t.Errorf("it ended after %s", took)
	}
	if err := says(stays, "are you there?"); err != nil {
		t.Error(err)
	}
}

// Above maxConnections a client is connected and waits, and is served when another one has gone.
func TestTraffic_OneTooManyWaits(t *testing.T) {
	t.Parallel()
	port := env.nodePort()
	count := env.echo(t, port)
	c := env.carry(t, port, []string{"client"}, func(s *provider.Spec) { s.Listeners[0].Settings.MaxConnections = 1 }, 80)
	first, _ := env.connected(t, c.address, 80)
	before := count.Load()
	second, err := env.connect(t.Context(), c.address, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := io.WriteString(second, "hello"); err != nil {
		t.Fatal(err)
	}
	for range 200 { // HAProxy has long seen the second one, and leaves it where it is
		if err := says(first, "me first"); err != nil {
			t.Fatal(err)
		}
	}
	if n := count.Load() - before; n != 0 {
		t.Errorf("the node got %d more connections", n)
	}
	first.Close()
	got := make([]byte, len("hello"))
	if _, err := io.ReadFull(second, got); err != nil || string(got) != "hello" {
		t.Errorf("the second one got %q, %v", got, err)
	}
}

// A node that fails its check gets no connection, and gets them again when it is well.
func TestTraffic_OnlyToNodesThatAreWell(t *testing.T) {
	t.Parallel()
	var ill atomic.Bool
	port, boxes := env.nodePort(), []string{"client", "cloud"}
	for _, box := range boxes {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/healthz" && box == "client" && ill.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = io.WriteString(w, box)
		})}
		l := env.listen(t, box, port)
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close() })
	}
	c := env.carry(t, port, boxes, func(s *provider.Spec) {
		s.Listeners[0].Settings.HealthCheck = provider.HealthCheck{Type: provider.CheckHTTP, Path: "/healthz",
			IntervalMilliseconds: 1000, TimeoutMilliseconds: 1000, Rise: 1, Fall: 2}
	}, 80)
	// seen is who gets six connections in a row: of two nodes, each that is well gets some.
	seen := func() map[string]int {
		at := map[string]int{}
		for range 6 {
			if got, err := env.ask(c.address); err == nil {
				at[got]++
			}
		}
		return at
	}
	come := func(to ...string) {
		t.Helper()
		wait.For(t, func(context.Context) error {
			at := seen()
			if len(at) != len(to) || slices.ContainsFunc(to, func(box string) bool { return at[box] == 0 }) {
				return fmt.Errorf("connections came to %v, want them at %v", at, to)
			}
			return nil
		})
	}
	come(boxes...)
	ill.Store(true)
	come("cloud")
	for range 5 { // and it stays so
		if at := seen(); at["client"] > 0 {
			t.Errorf("connections came to %v", at)
		}
	}
	ill.Store(false)
	come(boxes...)
}
