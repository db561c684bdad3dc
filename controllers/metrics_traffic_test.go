package controllers

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// seen is what hosts see, and how often somebody looked.
type seen struct {
	states map[string][]deliver.State
	looked int
}

func (s *seen) All() map[string][]deliver.State { return s.states }
func (s *seen) Look()                           { s.looked++ }

// trafficAt is what is seen of default/web at an address.
func trafficAt(address string, number uint16, counts engine.Counts, up, down int) host.Traffic {
	return host.Traffic{
		Carried: engine.Carried{
			Service:  lb.ID{Namespace: "default", Name: "web", UID: "uid-1"},
			Listener: lb.Listener{Address: netip.MustParseAddr(address), Port: number, Protocol: lb.TCP},
		},
		Counts: counts, Judged: engine.Judged{Up: up, Down: down},
	}
}

func trafficMetrics(t *testing.T, s *seen) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	collector := newTraffic()
	collector.hosts = s
	registry.MustRegister(collector)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.Metric {
			labels := ""
			for _, label := range metric.Label { // in the order of their names
				labels += " " + label.GetValue()
			}
			out[family.GetName()[len("external_lb_"):]+labels] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return out
}

func TestMetricsOfTraffic(t *testing.T) {
	s := &seen{states: map[string][]deliver.State{"edge": {
		{Host: "lb1", Seen: &deliver.Seen{At: time.UnixMilli(1500), Traffic: []host.Traffic{
			trafficAt("192.0.2.1", 80, engine.Counts{Open: 1, Made: 2, Refused: 3, Failed: 4, BytesIn: 5, BytesOut: 6}, 2, 0),
			trafficAt("2001:db8::1", 80, engine.Counts{Open: 10, Made: 20, Refused: 30, Failed: 40, BytesIn: 50, BytesOut: host.Unknown}, 1, 1),
		}}},
		{Host: "lb2", Seen: &deliver.Seen{At: time.Unix(2, 0), Traffic: []host.Traffic{trafficAt("192.0.2.1", 80, engine.Uncounted, 0, 0)}}},
		{Host: "lb3"},
	}}}
	want := map[string]float64{
		"host_observed_timestamp_seconds edge lb1": 1.5, "host_observed_timestamp_seconds edge lb2": 2,
		"traffic_omitted edge":                                  0,
		"service_connections edge lb1 80/TCP web default":       11,
		"service_connections_total edge lb1 80/TCP web default": 22, "service_refused_total edge lb1 80/TCP web default": 33,
		"service_failed_total edge lb1 80/TCP web default": 44, "service_received_bytes_total edge lb1 80/TCP web default": 55,
		"service_nodes_up edge lb1 80/TCP web default": 1, "service_nodes_down edge lb1 80/TCP web default": 1,
	}
	if diff := cmp.Diff(want, trafficMetrics(t, s)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.looked == 0 {
		t.Error("who asks for metrics does not have the hosts asked")
	}
}

func TestMetricsOfTraffic_AreBounded(t *testing.T) {
	many := &deliver.Seen{}
	for i := range maxPorts + 7 {
		one := trafficAt("192.0.2.1", 80, engine.Counts{Open: 1}, 1, 0)
		one.Service.Name = fmt.Sprintf("web-%d", i)
		many.Traffic = append(many.Traffic, one)
	}
	got := trafficMetrics(t, &seen{states: map[string][]deliver.State{"edge": {{Host: "lb1", Seen: many}}}})
	if got["traffic_omitted edge"] != 7 || len(got) > 8*maxPorts+2 {
		t.Errorf("%d metrics, %v ports omitted", len(got), got["traffic_omitted edge"])
	}
}
