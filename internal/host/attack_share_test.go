package host

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// What one tenant asks for in the bounds of a kind takes nothing from another.

// wide is a Service with so many ports.
func (b *box) wide(name string, ports int) *lb.Service {
	b.Helper()
	return changed(b.web(name, "", netip.MustParseAddrPort("198.51.100.1:20000")), func(s *lb.Service) {
		first := s.Frontends[0]
		s.Frontends = nil
		for i := range ports {
			first.Listener.Port = uint16(20000 + i)
			s.Frontends = append(s.Frontends, first)
		}
	})
}

// nginx with fewer connections than sockets loses its workers, after a check that was good.
func TestPortsForWhichThereIsNoRoomTakeNothingFromOthers(t *testing.T) {
	b := newBox(t) // with 512 connections, of which 448 may be sockets
	at, late := public(t), public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node(), web))
	b.carriesNow(b.send(wants(b.node(), web, b.wide("fits", 447))), "web", "fits")
	web = changed(web, idle(time.Minute))
	out := b.send(wants(b.node(), web, b.wide("wide", 448), b.web("late", "two", late)))
	b.carriesNow(out, "web", "late")
	b.one(out.Refused, lb.RefusedByEngine, "nginx has no room for 448 ports more: set worker_connections in the events block of ")
	b.says(at, "one")
	b.says(late, "two")
}

// HAProxy reads one file, which is put together in the agent's memory: it is refused
// before there is no memory left, and what is live goes on.
func TestHAProxy_MoreThanTheAgentHasMemoryForIsRefused(t *testing.T) {
	b := newHAProxyBox(t)
	at := public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node(), web))
	most := maxSources
	maxSources = 2000
	t.Cleanup(func() { maxSources = most })
	e := b.failsWith(CodeMachine, wants(b.node(), web, b.wide("wide", 10)))
	if !strings.Contains(e.Message, "more than 2000 bytes together: have fewer nodes carry each Service, see nodes.maxPerService of the Balancer") {
		t.Error(e)
	}
	b.says(at, "one")
	b.send(wants(b.node(), changed(web, idle(time.Minute))))
}
