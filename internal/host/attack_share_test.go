package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
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

// Of a port of UDP, nginx opens a socket for each worker. When its files are used up, it takes
// no change of anybody any more.
func TestPortsOfUDPForWhichThereAreNoFilesTakeNothingFromOthers(t *testing.T) {
	b := newBox(t) // with two workers
	at, late := public(t), public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node(), web))
	limit := unix.Rlimit{Cur: 200, Max: 200} // of which 175 may be sockets
	if err := unix.Prlimit(b.daemon.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	datagrams := func(s *lb.Service) {
		for i := range s.Frontends {
			s.Frontends[i].Listener.Protocol = lb.UDP
		}
	}
	wide := changed(b.wide("wide", 100), datagrams)
	out := b.send(wants(b.node(), web, wide, b.web("late", "two", late)))
	b.carriesNow(out, "web", "late")
	b.one(out.Refused, lb.RefusedByEngine, "nginx has no room for 100 ports more: set LimitNOFILE in nginx' systemd unit to ")
	b.says(at, "one")
	b.says(late, "two")
	b.carriesNow(b.send(wants(b.node(), web, changed(b.wide("fits", 80), datagrams))), "web", "fits")
}

// Where a host is full, who comes waits, whatever the name is; who is there stays, and has
// its nodePort changed.
func TestS18_WhoComesToAFullHostWaits(t *testing.T) {
	b := newBox(t)
	at, late := public(t), public(t)
	web := b.web("web", "one", at)
	b.send(wants(b.node(), web))
	b.agent.settings.Admit.MaxBackends = 1
	aaa := b.web("aaa", "two", late)
	out := b.send(wants(b.node(), web, aaa))
	b.carriesNow(out, "web")
	b.one(out.Refused, lb.RefusedNotAdmitted, "there is no room for 1 backends more, this host has 1 at most")
	out = b.send(wants(b.node(), b.web("web", "three", at), aaa))
	b.carriesNow(out, "web")
	b.says(at, "three")
	wider := changed(b.web("web", "four", at), func(s *lb.Service) {
		s.Frontends = append(s.Frontends, s.Frontends[0])
		s.Frontends[1].Listener.Port++
	})
	out = b.send(wants(b.node(), wider, aaa))
	b.carriesNow(out, "web")
	b.says(at, "four")
	if len(out.Refused) != 2 || !out.Refused[0].OfItem() || out.Refused[1].Listener != wider.Frontends[1].Listener {
		t.Errorf("refused: %+v", out.Refused)
	}
	// Nor is there room when the same is sent again.
	out = b.send(wants(b.node(), wider, aaa))
	if len(out.Refused) != 2 || out.Refused[1].Listener != wider.Frontends[1].Listener {
		t.Errorf("sent again, refused: %+v", out.Refused)
	}
	b.carriesNow(b.send(wants(b.node(), aaa)), "aaa")
	b.says(late, "two")
}

// bounded has the agent put together no more than so many bytes.
func bounded(t *testing.T, bytes int) {
	most := maxSources
	maxSources = bytes
	t.Cleanup(func() { maxSources = most })
}

// sources are the bytes of what is live.
func (b *box) sources() (n int) {
	b.Helper()
	for _, all := range []string{"*", "*/*", "*/*/*", "*/*/*/*"} {
		paths, err := filepath.Glob(filepath.Join(b.unit.dir, engine.LiveLink, all))
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && filepath.Base(p) != b.unit.daemon.OwnFile() {
				n += int(info.Size())
			}
		}
	}
	return n
}

// HAProxy reads one file, which is put together in the agent's memory: what comes last is refused
// before there is no memory left. What is live stays, changes and goes.
func TestHAProxy_WhatTheAgentHasNoMemoryForIsRefused(t *testing.T) {
	b := newHAProxyBox(t)
	at, late := public(t), public(t)
	web, old := b.web("web", "one", at), b.web("old", "", public(t))
	b.send(wants(b.node(), web, old))
	bounded(t, b.sources()+200)
	web = changed(web, idle(time.Minute))
	out := b.send(wants(b.node(), web, b.wide("wide", 10), b.web("late", "two", late)))
	b.carriesNow(out, "late", "web") // old has made room
	b.one(out.Refused, lb.RefusedByEngine, " bytes of files, the host has ")
	b.says(at, "one")
	b.says(late, "two")
	// Who grows too much keeps the older version.
	wider := changed(web, func(s *lb.Service) { s.Frontends = append(s.Frontends, b.wide("more", 10).Frontends...) })
	out = b.send(wants(b.node(), wider, b.web("late", "three", late)))
	b.carriesNow(out, "late", "web")
	if len(out.Refused) == 0 || !out.Refused[0].OfItem() || !out.Refused[0].OlderStays {
		t.Errorf("refused: %+v", out.Refused)
	}
	b.says(at, "one")
	b.says(late, "three")
}

// A node that is one too many for the Services takes none of them away.
func TestHAProxy_ANodeForWhichTheAgentHasNoMemoryIsRefused(t *testing.T) {
	b := newHAProxyBox(t)
	at := public(t)
	web, old := b.web("web", "one", at), b.web("old", "", public(t))
	b.send(wants(b.node(), web))
	bounded(t, b.sources()+20)
	cfg := wants(b.node(), web, old)
	cfg.Nodes = append(cfg.Nodes, lb.Node{Name: "n2", IPv4: b.node().IPv4.Next()})
	out := b.send(cfg)
	b.carriesNow(out, "web")
	if len(out.Refused) != 2 || out.Refused[0].Key != lb.NodeKey("n2") || out.Refused[1].Key != lb.ServiceKey(old.ID) {
		t.Errorf("refused: %+v", out.Refused)
	}
	b.says(at, "one")
}
