package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

// What the settings of queues do: with one connection for each node, one more waits.

// full holds a connection to each node.
func (f *field) full() {
	f.t.Helper()
	for range env.Nodes() {
		f.holds("client")
	}
}

// waits is how long a connection waits that finds no room.
func (f *field) waits(ctx context.Context) time.Duration {
	start := time.Now()
	if h, err := f.open(ctx, "client", f.address, ""); err == nil {
		f.t.Errorf("a connection above the limit reached %s", h.Node)
	}
	return time.Since(start)
}

func waitsForRoom(f *field) {
	f.full()
	if waited := f.waits(f.t.Context()); waited < 3500*time.Millisecond {
		f.t.Errorf("a connection waited for %v, want 4s", waited)
	}
}

func letsFewWait(f *field) {
	f.full()
	const many, refused = 5, 4 * time.Second // who waits does so for 8s
	took := make(chan time.Duration, many)
	for range many {
		go func() { took <- f.waits(f.t.Context()) }()
	}
	var all []time.Duration
	for range many {
		all = append(all, <-took)
	}
	slices.Sort(all)
	if all[0] > refused || all[many-1] < refused {
		f.t.Errorf("of %d connections the first was refused after %v and the last after %v, want one that waits and others that do not",
			many, all[0], all[many-1])
	}
}

// Nodes with room for one request each are free again when who asked has gone.
func givesUpWithTheClient(f *field) {
	var asking []net.Conn
	for range env.Nodes() {
		conn, err := env.DialFrom(f.t.Context(), "client", "tcp", f.address)
		must(f.t, err)
		f.t.Cleanup(func() { conn.Close() })
		_, err = fmt.Fprintf(conn, "GET /slow/%d HTTP/1.1\r\nHost: %s\r\n\r\n", (10 * time.Minute).Milliseconds(), f.host)
		must(f.t, err)
		asking = append(asking, conn)
	}
	wait.For(f.t, func(ctx context.Context) error {
		if _, err := f.web(ctx, f.host, 80); err == nil {
			return errors.New("a node has room still")
		}
		return nil
	})
	for _, conn := range asking {
		conn.Close()
	}
	f.carried()
}

// A node that is back gets a small part of its share, a third, at first.
func comesBackSlowly(f *field) {
	f.on(env.Nodes()...)
	failing := f.bar("node2", f.checkedPort(), reset)
	f.on("node1", "node3")
	failing.lift()
	wait.For(f.t, func(ctx context.Context) error {
		if node, err := f.reach(ctx, f.address); err != nil || node != "node2" {
			return errors.Join(err, errors.New("node2 is not back"))
		}
		return nil
	})
	const asked, most = 30, 4
	got := f.spread(f.address, asked)
	if n := len(slices.DeleteFunc(got, func(node string) bool { return node != "node2" })); n > most {
		f.t.Errorf("%d of %d connections are on node2, which has just come back", n, asked)
	}
}
