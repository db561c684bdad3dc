package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/test/wait"
)

func TestTheOldestEndFirst(t *testing.T) {
	all := []engine.Process{{PID: 1, Memory: 5, Started: 100}, {PID: 2, Memory: 1, Started: 200}, {PID: 3, Memory: 2, Started: 300}}
	for limit, want := range map[int]int{8: 0, 7: 1, 3: 1, 2: 2, 1: 3, 0: 3} {
		if diff := cmp.Diff(all[:want], beyond(all, limit)); diff != "" {
			t.Errorf("%d: %s", limit, diff)
		}
	}
	if got := beyond(nil, 0); len(got) > 0 {
		t.Errorf("of none: %v", got)
	}
}

// Workers that one master forked share what it had read.
func TestWhatWorkersInheritedIsCountedOnce(t *testing.T) {
	all := []engine.Process{{PID: 1, Memory: 200, Started: 100}, {PID: 2, Memory: 210, Started: 100}, {PID: 3, Memory: 190, Started: 101}, {PID: 4, Memory: 200, Started: 900}}
	if got := memoryOf(all); got != 200+10+200 {
		t.Errorf("%d bytes", got)
	}
}

// keeper accepts connections and says nothing, so that they stay.
func keeper(t testing.TB, at netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		var all []net.Conn // as long as they are wanted
		defer func() {
			for _, c := range all {
				c.Close()
			}
		}()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all = append(all, c)
			fmt.Fprint(c, "held\n") // who connects knows that it is carried
		}
	}()
}

// held is a connection that is carried.
func held(t testing.TB, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	return c
}

// cut reports whether a connection has ended.
func cut(c net.Conn) bool {
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		return true
	}
	_, err := c.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

// throughSudo lets an agent end workers as it does where it is not root.
func throughSudo(b *box) {
	root := b.newAgent("")
	u := b.unit
	u.settings.sudo = true
	u.run = scripted{u.run, func(argv []string) (string, error, bool) {
		if strings.HasSuffix(strings.Join(argv, " "), " host end-old-workers") && argv[0] == "sudo" && argv[2] != "-l" {
			root.EndOldWorkers(b.Context())
		}
		return "", nil, argv[0] == "sudo"
	}}
}

// Changes with a connection held after each leave an old worker each. They end by what they
// hold: the oldest first.
func TestOldWorkersEndByWhatTheyHold(t *testing.T) {
	for name, box := range map[string]func(*testing.T) *box{"nginx": newBox, "haproxy": newHAProxyBox, "by sudo": newBox} {
		t.Run(name, func(t *testing.T) {
			b := box(t)
			at := public(t)
			web := b.web("web", "one", at)
			web.Frontends[0].NodePort = 31999
			keeper(t, netip.AddrPortFrom(b.node().IPv4, 31999))
			change := func(i int) net.Conn {
				b.send(wants(b.node(), changed(web, idle(time.Hour+time.Duration(i)*time.Second))))
				return held(t, at)
			}
			first := change(0)
			change(1)
			var one int
			wait.True(t, "one old worker holds memory", func() bool { // the one before it may be about to end
				st := b.status()
				one = st.old.Used
				return st.oldWorkers == 1 && one > 0
			})
			limit := 3*one>>20 + 1
			b.more = fmt.Sprintf("oldWorkersMiB: %d\n", limit)
			b.take(b.newAgent(""))
			if name == "by sudo" {
				throughSudo(b)
			}
			var last net.Conn
			for i := range 12 {
				last = change(2 + i)
			}
			b.unit.relieve(t.Context())
			wait.For(t, func(ctx context.Context) error {
				c := b.status()
				if c.old.Used > limit<<20 {
					return fmt.Errorf("%d old workers hold %d bytes of %d", c.oldWorkers, c.old.Used, c.old.Limit)
				}
				return nil
			})
			if !cut(first) || cut(last) {
				t.Errorf("the first connection is cut: %t, the last: %t", cut(first), cut(last))
			}
			st := b.look()
			if !strings.Contains(st.Message, "old workers of "+b.unit.daemon.Name()+" held more than") || !st.Proved {
				t.Errorf("message %q, proved %t", st.Message, st.Proved)
			}
			t.Logf("each holds %d bytes; %d old workers are left of 13", one, st.OldWorkers)
		})
	}
}
