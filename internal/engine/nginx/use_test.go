package nginx

import (
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
)

// With 2 UDP listeners and one of TCP, each of 3 workers has 7 sockets open: so does nginx 1.22.
func TestUsesOfWorkers(t *testing.T) {
	got := sockets{tcp: 10, udp: 5, tcpListeners: 1, udpListeners: 2}.of(3, 1000, 2000)
	want := engine.Uses{
		Connections: engine.Use{Used: 10 + 2*5 + 3*3, Limit: 3000},
		Files:       engine.Use{Used: 10 + 5 + 3*7, Limit: 6000},
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
