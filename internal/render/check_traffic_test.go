package render_test

import (
	"encoding/hex"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// quickly is a health check that decides at once.
func quickly(h lb.HealthCheck) lb.HealthCheck {
	h.Interval, h.Timeout, h.Rise, h.Fall = 100*time.Millisecond, time.Second, 1, 1
	return h
}

// A node is good that answers with the status that is wanted, for the host that is named.
func TestHAProxyChecksAskForAHost(t *testing.T) {
	on(t, []*engine.Engine{haproxy.Engine}, func(t onEngine) {
		var checked atomic.Int32
		n := startHandler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "web.example" {
				checked.Add(1)
				w.WriteHeader(http.StatusNoContent)
			}
		})
		asking := func(ip, host string) (at string, f engine.Frontend) {
			at = freeAddress(t, ip)
			return at, with(tcp(at, n), func(s *lb.Settings) {
				s.HealthCheck = quickly(lb.HealthCheck{Type: lb.CheckHTTP, Path: "/", Host: host, Status: lb.Status{From: 204, To: 204}})
			})
		}
		good, one := asking("127.1.0.77", "web.example")
		bad, other := asking("127.1.0.78", "other.example")
		serve(t, one, other)
		const request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
		wait.True(t, "no node is good for the other host", func() bool { _, got := client("").ask(t, bad, request); return got == "" })
		wait.True(t, "the good one was checked again", func() bool { return checked.Load() > 1 })
		if got := talk(t, good, request); !strings.Contains(got, " 200 ") {
			t.Errorf("answered %q", got)
		}
	})
}

// A node is good whose answer has what is expected in it.
func TestHAProxyChecksSpeak(t *testing.T) {
	on(t, []*engine.Engine{haproxy.Engine}, func(t onEngine) {
		nodes := startNodes(t, 2) // which say who they are, and then what they hear
		speaking := func(ip, send, expect string) (at string, f engine.Frontend) {
			at = freeAddress(t, ip)
			return at, with(tcp(at, nodes...), func(s *lb.Settings) {
				s.HealthCheck = quickly(lb.HealthCheck{Type: lb.CheckTCP, Send: hex.EncodeToString([]byte(send)), Expect: hex.EncodeToString([]byte(expect))})
			})
		}
		heard, one := speaking("127.1.0.79", "", nodes[1]+"\n")
		asked, two := speaking("127.1.0.80", "hello\r\n", "hello\r\n")
		silent, three := speaking("127.1.0.81", "", "hello\r\n")
		serve(t, one, two, three)
		wait.True(t, "no node says by itself what is expected", func() bool { _, got := client("").ask(t, silent); return got == "" })
		wait.True(t, "one node is who is expected", func() bool {
			got := spread(t, heard, 6)
			return got[nodes[1]] == 6
		})
		if got := spread(t, asked, 6); got[nodes[0]] != 3 || got[nodes[1]] != 3 {
			t.Errorf("nodes that say what is expected answer %v", got)
		}
	})
}

// Nodes that wait carry nothing while another is up, and all of them when none is.
func TestNodesThatWaitCarryWhenTheOthersFail(t *testing.T) {
	onEngines(t, func(t onEngine) {
		nodes := startNodes(t, 2)
		waiting := func(ip, first string) (at string, f engine.Frontend) {
			at = freeAddress(t, ip)
			f = tcp(at, first, nodes[0], nodes[1])
			f.Backends[1].Backup, f.Backends[2].Backup = true, true
			if t.engine == haproxy.Engine {
				f.Settings.HealthCheck = quickly(lb.HealthCheck{Type: lb.CheckTCP})
			}
			return at, f
		}
		up := startNode(t, "127.0.0.1").address
		well, one := waiting("127.1.0.82", up)
		failing, other := waiting("127.1.0.83", refused(t))
		serve(t, one, other)
		wait.True(t, "the others carry", func() bool { _, got := client("").ask(t, failing); return got != "" })
		if got := spread(t, failing, 6); got[nodes[0]] != 3 || got[nodes[1]] != 3 {
			t.Errorf("where the first fails: %v", got)
		}
		if got := spread(t, well, 6); got[up] != 6 {
			t.Errorf("where it does not: %v", got)
		}
	})
}
