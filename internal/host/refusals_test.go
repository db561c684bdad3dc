package host_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// A host that refuses all of the largest model says so, and is delivered to afterwards. It tells of
// a Service of which nothing is carried once; of others each port, since the rest is open.
func TestAHostThatRefusesTheLargestModelIsDeliveredTo(t *testing.T) {
	a := attack(t, "nginx")
	const ports, carried = 512, 4
	cfg := &lb.Config{Nodes: []lb.Node{{Name: "n1", IPv4: netip.MustParseAddr("198.51.100.130")}}}
	for i := range lb.MaxListeners / ports {
		s := &lb.Service{ID: lb.ID{Namespace: "default", Name: fmt.Sprintf("web-%03d", i), UID: "uid"}}
		s.IPv4.Targets.All, s.IPv4.Clients.Everybody = true, true
		for k := range ports {
			s.Frontends = append(s.Frontends, lb.Frontend{
				Listener: lb.Listener{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + min(i, carried))}), Port: uint16(2000 + k), Protocol: lb.TCP}, NodePort: 30000,
				Settings: lb.Settings{Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
					HealthCheck: lb.HealthCheck{Type: lb.CheckNone}},
			})
		}
		if i < carried {
			s.Frontends[0].Listener.Port = 80 // which is admitted
		}
		cfg.Services = append(cfg.Services, s)
	}
	want := carried*(ports-1) + lb.MaxListeners/ports - carried
	for try := range 2 {
		out, err := a.client.Apply(a.Context(), a.delivery(a.encode(cfg)))
		if err != nil {
			t.Fatal(err)
		}
		a.wanted = out.Wanted
		status, err := a.client.Status(a.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !out.Proved || len(out.Refused) != want || !slices.Equal(status.Refused, out.Refused) {
			t.Fatalf("proved: %v, %d refusals, %d in the status, want %d", out.Proved, len(out.Refused), len(status.Refused), want)
		}
		if part := out.Refused[0]; part.OfItem() || part.Listener.Port != 2001 {
			t.Errorf("of what is carried in part: %+v", part)
		}
		if all := out.Refused[want-1]; !all.OfItem() || !strings.Contains(all.Message, "all of its 512 ports are refused. 192.0.2.5:2000/TCP: port 2000 is not in admit.ports") {
			t.Errorf("of what is not carried: %+v", all)
		}
		live := 0
		for _, s := range cfg.Services {
			if status.Live.Has(lb.ServiceKey(s.ID)) {
				live++
			}
		}
		if live != carried {
			t.Errorf("%d Services are live, want %d", live, carried)
		}
		cfg.Services[try].Frontends[0].NodePort++ // another model
	}
}
