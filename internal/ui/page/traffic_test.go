package page

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

var webName = types.NamespacedName{Namespace: "default", Name: "web"}

// looked is what a host with two ports told some seconds after noon.
func looked(host string, seconds int, made, in int64) Look {
	const since = "2026-01-02T11:59:00Z"
	counts := Counts{Made: made, Refused: unknown, Failed: 0, In: in, Out: 10 * in}
	return Look{
		Balancer: "edge", Host: host, At: noon.Add(time.Duration(seconds) * time.Second), Ports: []PortLook{
			{Service: webName, Open: 2, Counts: counts, Up: 1, Down: 1, DownNodes: []DownNode{{"node2", since}}},
			{Service: webName, Open: 3, Counts: counts, Up: 2, Down: 0, DownNodes: []DownNode{{Node: "node2"}}},
		},
	}
}

func told[T any](t *testing.T, m *Meter, key string, looks ...Look) (out T) {
	t.Helper()
	items, err := m.Items(looks)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(items, func(i Item) bool { return i.Key == key })
	if at < 0 {
		t.Fatalf("there is no %s in %s", key, items)
	}
	if err := json.Unmarshal(items[at].Data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTraffic_IsThatBetweenTwoLooks(t *testing.T) {
	m := NewMeter()
	const key = "traffic/default/web"
	want := HostTraffic{Balancer: "edge", Host: "lb1", Open: new(5.0), Up: new(1), Down: new(1),
		Named: []DownNode{{"node2", "2026-01-02T11:59:00Z"}}}
	if diff := cmp.Diff(ServiceTraffic{[]HostTraffic{want}}, told[ServiceTraffic](t, m, key, looked("lb1", 0, 100, 1000))); diff != "" {
		t.Error("after the first look:", diff)
	}
	want.Made, want.Failed, want.In, want.Out = new(20.0), new(0.0), new(102.0), new(1020.0)
	for range 2 { // who has not looked anew says the same
		if diff := cmp.Diff(ServiceTraffic{[]HostTraffic{want}}, told[ServiceTraffic](t, m, key, looked("lb1", 10, 200, 1510))); diff != "" {
			t.Error("after another one:", diff)
		}
	}
	want.Made, want.In, want.Out = new(0.6), new(2.0), new(20.0)
	if diff := cmp.Diff(ServiceTraffic{[]HostTraffic{want}}, told[ServiceTraffic](t, m, key, looked("lb1", 20, 3, 10))); diff != "" {
		t.Error("of a daemon that began anew:", diff)
	}
}

func TestTraffic_OfAHostIsThatOfAllItsServices(t *testing.T) {
	m := NewMeter()
	for i, at := range []int{0, 10} {
		l := looked("lb1", at, int64(100*i), int64(1000*i))
		other := l.Ports[0]
		other.Service.Name = "api"
		l.Ports = append(l.Ports, other)
		silent := Look{Balancer: "edge", Host: "lb2", At: noon.Time, Silent: "it does not answer"}
		got := told[HostTraffic](t, m, "host/edge/lb1", silent, l)
		want := HostTraffic{Balancer: "edge", Host: "lb1", Open: new(7.0)}
		if i > 0 {
			want.Made, want.Failed, want.In, want.Out = new(30.0), new(0.0), new(300.0), new(3000.0)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got := told[HostTraffic](t, m, "host/edge/lb2", silent, l); got.Silent != "it does not answer" {
			t.Errorf("of one that does not tell it says %+v", got)
		}
	}
	if items, err := m.Items(nil); err != nil || len(items) != 0 || len(m.hosts) != 0 {
		t.Errorf("of hosts that are gone it keeps %v: %v", items, err)
	}
}

// Every host tells of every Service: that is bounded for each, and in no order of maps.
func TestTraffic_IsBoundedAndTheSame(t *testing.T) {
	var looks []Look
	for h := range 200 {
		looks = append(looks, looked(fmt.Sprintf("lb%03d", h), 0, 1, 1))
		for n := range 300 {
			looks[h].Ports[0].DownNodes = append(looks[h].Ports[0].DownNodes, DownNode{Node: fmt.Sprintf("node%d", n)})
		}
	}
	first := told[ServiceTraffic](t, NewMeter(), "traffic/default/web", looks...)
	if len(first.Hosts) != maxListed || len(first.Hosts[0].Named) != maxSummary {
		t.Errorf("%d hosts, %d nodes are told", len(first.Hosts), len(first.Hosts[0].Named))
	}
	slices.Reverse(looks)
	if diff := cmp.Diff(first, told[ServiceTraffic](t, NewMeter(), "traffic/default/web", looks...)); diff != "" {
		t.Error(diff)
	}
}

func TestRatesAreLegible(t *testing.T) {
	for n, want := range map[float64]float64{0: 0, 1234567: 1230000, 12.345: 12.3, 0.033333: 0.0333, 999.9: 1000, 7: 7} {
		if got := legible(n); got != want {
			t.Errorf("%v is %v", n, got)
		}
	}
}
