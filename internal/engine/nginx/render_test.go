package nginx

import (
	"net/netip"
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
