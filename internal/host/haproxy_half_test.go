package host

import (
	"bufio"
	"context"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// silencing is a way to HAProxy's socket on which nobody says that a change is whole.
func silencing(t *testing.T, socket, digest string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	relay := func(near net.Conn) {
		defer near.Close()
		line, err := bufio.NewReader(near).ReadString('\n')
		if err != nil || strings.Contains(line, "set var") && !strings.Contains(line, digest) {
			return
		}
		far, err := net.Dial("unix", socket)
		if err != nil {
			return
		}
		defer far.Close()
		_, _ = io.WriteString(far, line) // who asked sees what becomes of it
		_, _ = io.Copy(near, far)
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go relay(near)
		}
	}()
	return path
}

// half makes an agent die when HAProxy has dropped the second node, and does not say so yet.
func (c *checked) half(all []lb.Node) {
	c.Helper()
	dying := c.newAgent("")
	daemon := dying.units[0].daemon.(*haproxy.Daemon)
	daemon.Socket = silencing(c.T, daemon.Socket, strings.Repeat("0", 64))
	daemon.Runner = scripted{daemon.Runner, func(argv []string) (string, error, bool) {
		if slices.Equal(argv, daemon.Settings.Reload) {
			panic(crash{"reload"})
		}
		return "", nil, false
	}}
	c.crashes(dying, c.delivery(encoded(c, &lb.Config{Services: []*lb.Service{c.api, c.web}, Nodes: all[:1]})))
	wait.True(c, "the node has gone", func() bool { return c.heard() == "node0" })
}

// An agent dies in the middle of a change without a reload. Until HAProxy has what was proved last, or
// the whole change, nothing is proved: whatever keeps it from being told, and whoever asks.
func TestHAProxy_HalfAChangeIsNotProved(t *testing.T) {
	for name, then := range map[string]func(*checked){
		"the owner's file is broken": func(c *checked) {
			c.write("haproxy.cfg", []byte(haproxyConf+"nonsense\n"))
			if s := c.status(); s.proved || !strings.Contains(s.message, "nonsense") {
				c.Errorf("proved: %t, it says %q", s.proved, s.message)
			}
			c.write("haproxy.cfg", []byte(haproxyConf))
		},
		"who asks hangs up": func(c *checked) {
			gone, cancel := context.WithCancel(c.Context())
			cancel()
			_, _ = c.unit.status(gone) // the next one is told
		},
		"HAProxy says nothing": func(c *checked) {
			socket := c.haproxy().Socket
			c.haproxy().Socket = c.in("nobody")
			c.status()
			c.haproxy().Socket = socket
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecked(t)
			all := c.several(2)
			c.carry(all, 0, 1)
			c.half(all)
			c.take(c.newAgent(""))
			then(c)
			wait.True(c, "it is proved", func() bool { return c.status().proved })
			if c.heard() != "node0 node1" {
				t.Errorf("%q are proved to carry it", c.heard())
			}
		})
	}
}
