package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
	"github.com/external-lb/external-lb/test/wait"
)

// recorded keeps what is written to a connection.
type recorded struct {
	net.Conn
	mu   sync.Mutex
	said bytes.Buffer
}

func (r *recorded) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.Write(p)
	return r.Conn.Write(p)
}

func (r *recorded) all() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.said.Bytes())
}

// want is what the machine wants now.
func (a *attacker) want() lb.Digest {
	a.Helper()
	st, err := a.client.Status(a.Context())
	if err != nil {
		a.Fatal(err)
	}
	return st.Wanted.Digest()
}

// taker takes every delivery.
type taker struct{}

func (taker) Status(context.Context) (host.Status, error) { return host.Status{}, nil }
func (taker) Apply(context.Context, host.Delivery) (host.Outcome, error) {
	return host.Outcome{}, nil
}
func (taker) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, nil
}

// bytesOf a delivery on its stream, up to where it ends.
func bytesOf(t *testing.T, d host.Delivery) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- wire.Serve(t.Context(), theirs, taker{}) }()
	r := &recorded{Conn: ours}
	client, err := wire.NewClient(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Apply(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	said := r.all()
	end := []byte("\x00\x00\x00\x00\x01\x00\x00\x00\x01") // of the first stream of HTTP/2: data, none, and the end
	at := bytes.Index(said, end)
	if at < 0 {
		t.Fatalf("no end in %q", said)
	}
	return said[:at+len(end)]
}

// A stream that is cut anywhere changes nothing.
func TestAStreamThatIsCutAtEachByteIsNoDelivery(t *testing.T) {
	a := attack(t, "nginx")
	if _, _, err := a.send(a.plain(1)); err != nil {
		t.Fatal(err)
	}
	was := a.want()
	next := a.delivery(a.encode(&lb.Config{Nodes: nodesOfAll()}))
	said := bytesOf(t, next)
	for cut := range said {
		a.say(said[:cut])
		if now := a.want(); now != was {
			t.Fatalf("cut after %d of %d bytes: the machine wants %s", cut, len(said), now.Short())
		}
	}
	defer a.open(said).Close() // who hangs up takes the delivery back
	wait.True(t, "the whole delivery is taken", func() bool { return a.want() == next.Want })
	t.Logf("cut in %d places", len(said))
}

// open a stream with some bytes.
func (a *attacker) open(some []byte) net.Conn {
	a.Helper()
	conn, err := net.Dial("unix", a.socket)
	if err != nil {
		a.Fatal(err)
	}
	_, _ = conn.Write(some) // the agent may have heard enough before
	return conn
}

// say some bytes, and wait until the agent has hung up.
func (a *attacker) say(some []byte) {
	a.Helper()
	conn := a.open(some)
	defer conn.Close()
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
		a.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // however it hangs up
}

// Of many that deliver at once under one epoch, one is taken.
func TestOfManyDeliveriesAtOnceOneIsTaken(t *testing.T) {
	a := attack(t, "nginx")
	const streams = 15 // and the first: as many as an agent serves
	var all sync.WaitGroup
	taken := make(chan lb.Digest, streams)
	for i := range byte(streams) {
		client := a.connect(func(c net.Conn) net.Conn { return c })
		d := a.delivery(a.encode(&lb.Config{Nodes: []lb.Node{{Name: fmt.Sprintf("n%d", i), IPv4: netip.AddrFrom4([4]byte{10, 0, 0, i + 1})}}}))
		d.Epoch = host.Epoch{Term: 1, Seq: 1}
		all.Go(func() {
			switch _, err := client.Apply(t.Context(), d); {
			case err == nil:
				taken <- d.Want
			case !errors.As(err, new(*host.Error)):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(taken); n != 1 {
		t.Fatalf("%d are taken", n)
	}
	if won := <-taken; a.want() != won {
		t.Error("another one is live")
	}
}
