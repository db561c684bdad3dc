package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// Connections through a node that went end when their time is over, though nothing is
// reloaded; those through others live on.
func TestHAProxy_ConnectionsThroughANodeThatWentEnd(t *testing.T) {
	c := newChecked(t)
	var silent [2]net.Listener
	for i := range silent {
		l, err := net.Listen("tcp", netip.AddrPortFrom(silentNode(i).IPv4, c.api.Frontends[0].NodePort).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		silent[i] = l
	}
	all := []lb.Node{nodeAt(t, 0, "200 OK"), nodeAt(t, 1, "200 OK")}
	c.carry(all, 0)
	ends := standingAt(t, c.at(), silent[0])
	if out := c.carry(all, 1); out.Reloaded {
		t.Error("reloaded")
	}
	lives := standingAt(t, c.at(), silent[1])
	c.status() // which looks after the daemon
	ends.lives(t)
	c.haproxy().HardStopAfter = 1
	wait.For(t, func(context.Context) error {
		c.status()
		return ends.ended()
	})
	lives.lives(t)
}

// ended: nobody is at the other end of it any more.
func (s standing) ended() error {
	if err := s.near.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := s.near.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the connection is still there: %v", err)
	}
	return nil
}
