package nginx

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// nginx refuses a limit_conn of 65536. Said before, it costs no check of the whole set.
func TestLimitsThatNginxCannotCount(t *testing.T) {
	for _, tc := range []struct {
		all, each int32
		taken     bool
	}{{65535, 65535, true}, {65536, 1, false}, {1, 65536, false}} {
		_, err := viewOf(&engine.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "uid"}, Frontends: []engine.Frontend{{
			Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: lb.TCP}, NodePort: 30080,
			Settings: lb.Settings{
				Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Second,
				HealthCheck: lb.HealthCheck{Type: lb.CheckNone}, MaxConnections: tc.all, MaxConnectionsPerClient: tc.each,
			},
		}}})
		if (err == nil) != tc.taken || err != nil && !strings.Contains(err.Error(), "nginx counts up to 65535 connections") {
			t.Errorf("%d, and %d of each client: %v", tc.all, tc.each, err)
		}
	}
}

// Nodes are asked again where all are left out, but not where nginx takes no backups, or
// where these would get around a limit.
func TestBackups(t *testing.T) {
	const all = "10.0.0.1:30080 10.0.0.2:30080 10.0.0.3:30080"
	passive := lb.Settings{Algorithm: lb.RoundRobin, HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Fall: 1, Interval: time.Second}}
	with := func(change func(*lb.Settings)) lb.Settings {
		s := passive
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		settings lb.Settings
		protocol lb.Protocol
		affinity time.Duration
		nodes    int
		want     string
	}{
		"by turns":              {settings: passive, nodes: 3, want: all},
		"by connections":        {settings: with(func(s *lb.Settings) { s.Algorithm = lb.LeastConnections }), nodes: 3, want: all},
		"two":                   {settings: passive, nodes: 2, want: "10.0.0.1:30080 10.0.0.2:30080"},
		"one":                   {settings: passive, nodes: 1},
		"none":                  {settings: passive},
		"at random":             {settings: with(func(s *lb.Settings) { s.Algorithm = lb.Random }), nodes: 3},
		"affinity":              {settings: passive, affinity: time.Hour, nodes: 3},
		"UDP":                   {settings: passive, protocol: lb.UDP, nodes: 3},
		"never left out":        {settings: with(func(s *lb.Settings) { s.HealthCheck.Type = lb.CheckNone }), nodes: 3},
		"a limit for each node": {settings: with(func(s *lb.Settings) { s.MaxConnectionsPerNode = 9 }), nodes: 3},
		"a limit for each peer": {settings: with(func(s *lb.Settings) { s.MaxConnectionsPerClient = 9 }), nodes: 3, want: all},
	} {
		f := &engine.Frontend{Listener: lb.Listener{Protocol: c.protocol}, Settings: c.settings, Affinity: c.affinity}
		for i := c.nodes; i > 0; i-- {
			f.Backends = append(f.Backends, engine.Backend{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 30080)})
		}
		before := slices.Clone(f.Backends)
		if got := strings.Join(backups(lb.ID{UID: "uid"}, f), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if !slices.Equal(f.Backends, before) {
			t.Errorf("%s: the nodes became %v", name, f.Backends)
		}
	}
}

// Of many nodes a few are enough, and others for another Service.
func TestBackupsAreFew(t *testing.T) {
	f := &engine.Frontend{Settings: lb.Settings{Algorithm: lb.RoundRobin, HealthCheck: lb.HealthCheck{Type: lb.CheckAuto}}}
	for i := range 100 {
		f.Backends = append(f.Backends, engine.Backend{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 30080)})
	}
	a, b := backups(lb.ID{UID: "a"}, f), backups(lb.ID{UID: "b"}, f)
	if len(a) != atLast || len(b) != atLast || slices.Equal(a, b) {
		t.Errorf("%v and %v", a, b)
	}
}
