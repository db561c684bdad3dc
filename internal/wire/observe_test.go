package wire_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// seer is a host that says that it sees something.
type seer struct {
	machine
	seen host.Observation
	err  error
}

func (s *seer) Observe(context.Context) (host.Observation, error) { return s.seen, s.err }

// traffic of n listeners.
func traffic(n int) (all []host.Traffic) {
	for i := range n {
		all = append(all, host.Traffic{
			Carried: engine.Carried{
				Service:  lb.ID{Namespace: strings.Repeat("n", 63), Name: "web", UID: "uid-1"},
				Listener: lb.Listener{Address: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), Port: 80, Protocol: lb.UDP},
			},
			Counts: engine.Counts{Open: int64(i), Made: 1 << 60, Refused: host.Unknown, Failed: 0, BytesIn: host.Unknown, BytesOut: 5},
			Judged: engine.Judged{Up: 3, Down: 2, Named: []host.DownNode{
				{Node: strings.Repeat("a", 253), For: 90 * time.Second}, {Node: "b", For: host.Unknown},
			}},
		})
	}
	return all
}

func TestObserveRoundTrip(t *testing.T) {
	for _, want := range []host.Observation{{}, {Message: "HAProxy does not tell"}, {Traffic: traffic(2000)}} {
		c, _ := connect(t, &seer{seen: want})
		got, err := c.Observe(t.Context())
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			t.Errorf("error %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestObserve_TellsItsOwnClusterOnly(t *testing.T) {
	c, _ := connect(t, &seer{seen: host.Observation{Cluster: "another", Traffic: traffic(1)}})
	c.Cluster = "ours"
	var he *host.Error
	if got, err := c.Observe(t.Context()); !errors.As(err, &he) || he.Code != host.CodeOtherCluster {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestObserve_OfAnOlderHost(t *testing.T) {
	c, _ := connect(t, &machine{})
	if got, err := c.Observe(t.Context()); !errors.Is(err, wire.ErrUnobserved) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestObservationsThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*host.Traffic){
		"another Service's name": func(t *host.Traffic) { t.Service.Name = "Web\n" },
		"no port":                func(t *host.Traffic) { t.Listener.Port = 0 },
		"no protocol":            func(t *host.Traffic) { t.Listener.Protocol = "ICMP" },
		"a node that is none":    func(t *host.Traffic) { t.Named[0].Node = "\x1b[31m" },
		"more names than nodes":  func(t *host.Traffic) { t.Down = 1 },
		"too many names": func(t *host.Traffic) {
			for range host.MaxNamed {
				t.Named, t.Down = append(t.Named, host.DownNode{Node: "n"}), 99
			}
		},
	} {
		bad := traffic(2)
		change(&bad[1])
		c, _ := connect(t, &seer{seen: host.Observation{Traffic: bad}})
		if got, err := c.Observe(t.Context()); err == nil {
			t.Errorf("%s: %+v", name, got.Traffic[1])
		}
	}
	c, _ := connect(t, &seer{seen: host.Observation{Traffic: traffic(host.MaxTraffic + 1)}})
	if got, err := c.Observe(t.Context()); err == nil {
		t.Errorf("%d listeners were taken", len(got.Traffic))
	}
	// An absurd time is bounded, so that dates can be made of it.
	long := traffic(1)
	long[0].Named[0].For = 290 * 365 * 24 * time.Hour
	c, _ = connect(t, &seer{seen: host.Observation{Traffic: long}})
	if got, err := c.Observe(t.Context()); err != nil || got.Traffic[0].Named[0].For > 11*365*24*time.Hour {
		t.Errorf("%+v, %v", got, err)
	}
}
