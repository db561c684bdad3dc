package controllers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// maxPorts is of how many ports of Services, on each host, there are metrics: each has
// eight. Others are counted.
const maxPorts = 10_000

// hosts tell what their daemons see.
type hosts interface {
	All() map[string][]deliver.State // by Balancer
	Look()                           // soon
}

// traffic are metrics of what daemons see. Who asks for them has hosts asked, too, so the
// next answer is a newer one.
type traffic struct {
	hosts   hosts // nil: none yet
	counts  []count
	looked  *prometheus.Desc
	omitted *prometheus.Desc
}

// count is one metric of a port.
type count struct {
	*prometheus.Desc
	kind  prometheus.ValueType
	value func(*host.Traffic) int64 // Unknown: there is none
}

func newTraffic() *traffic {
	t := &traffic{
		looked: prometheus.NewDesc("external_lb_host_observed_timestamp_seconds",
			"When a host told last what its daemons see, in seconds since 1970.", []string{"balancer", "host"}, nil),
		omitted: prometheus.NewDesc("external_lb_traffic_omitted",
			"Ports of Services of which there are no metrics: there are too many.", []string{"balancer"}, nil),
	}
	add := func(name, help string, kind prometheus.ValueType, value func(*host.Traffic) int64) {
		labels := []string{"balancer", "host", "service_namespace", "service_name", "port"}
		t.counts = append(t.counts, count{prometheus.NewDesc("external_lb_service_"+name, help, labels, nil), kind, value})
	}
	judged := func(n func(*host.Traffic) int) func(*host.Traffic) int64 {
		return func(t *host.Traffic) int64 {
			if t.Up+t.Down == 0 {
				return host.Unknown
			}
			return int64(n(t))
		}
	}
	add("connections", "Connections of clients that are open.", prometheus.GaugeValue, func(t *host.Traffic) int64 { return t.Open })
	add("connections_total", "Connections that clients made.", prometheus.CounterValue, func(t *host.Traffic) int64 { return t.Made })
	add("refused_total", "Connections and requests refused for a limit, or for where the client is.", prometheus.CounterValue,
		func(t *host.Traffic) int64 { return t.Refused })
	add("failed_total", "Connections that no node took.", prometheus.CounterValue, func(t *host.Traffic) int64 { return t.Failed })
	add("received_bytes_total", "Bytes from clients.", prometheus.CounterValue, func(t *host.Traffic) int64 { return t.BytesIn })
	add("sent_bytes_total", "Bytes to clients.", prometheus.CounterValue, func(t *host.Traffic) int64 { return t.BytesOut })
	add("nodes_up", "Nodes behind a port that the host holds for up.", prometheus.GaugeValue,
		judged(func(t *host.Traffic) int { return t.Up }))
	add("nodes_down", "Nodes behind a port that the host holds for down.", prometheus.GaugeValue,
		judged(func(t *host.Traffic) int { return t.Down }))
	return t
}

// Describe implements prometheus.Collector.
func (t *traffic) Describe(into chan<- *prometheus.Desc) {
	for _, c := range t.counts {
		into <- c.Desc
	}
	into <- t.looked
	into <- t.omitted
}

// Collect implements prometheus.Collector.
func (t *traffic) Collect(into chan<- prometheus.Metric) {
	if t.hosts == nil {
		return
	}
	for balancer, states := range t.hosts.All() {
		omitted := 0
		for _, s := range states {
			if s.Seen == nil {
				continue
			}
			if s.Seen.Message != "" {
				continue // it does not tell
			}
			into <- prometheus.MustNewConstMetric(t.looked, prometheus.GaugeValue, float64(s.Seen.At.UnixMilli())/1000, balancer, s.Host)
			ports := byPort(s.Seen.Traffic)
			omitted += max(0, len(ports)-maxPorts)
			for _, p := range ports[:min(len(ports), maxPorts)] {
				for _, c := range t.counts {
					if v := c.value(&p); v != host.Unknown {
						port := fmt.Sprintf("%d/%s", p.Listener.Port, p.Listener.Protocol)
						into <- prometheus.MustNewConstMetric(c.Desc, c.kind, float64(v), balancer, s.Host, p.Service.Namespace, p.Service.Name, port)
					}
				}
			}
		}
		into <- prometheus.MustNewConstMetric(t.omitted, prometheus.GaugeValue, float64(omitted), balancer)
	}
	t.hosts.Look()
}

// port of a Service.
type port struct {
	service  lb.ID
	number   uint16
	protocol lb.Protocol
}

// byPort adds up the addresses of each port, sorted, so that those that are omitted stay so.
func byPort(all []host.Traffic) []host.Traffic {
	sums := map[port]host.Traffic{}
	for _, t := range all {
		key := port{t.Service, t.Listener.Port, t.Listener.Protocol}
		sum, there := sums[key]
		if !there {
			sums[key] = t
			continue
		}
		for _, n := range [...][2]*int64{
			{&sum.Open, &t.Open}, {&sum.Made, &t.Made}, {&sum.Refused, &t.Refused}, {&sum.Failed, &t.Failed},
			{&sum.BytesIn, &t.BytesIn}, {&sum.BytesOut, &t.BytesOut},
		} {
			if *n[0] == host.Unknown || *n[1] == host.Unknown {
				*n[0] = host.Unknown
			} else {
				*n[0] += *n[1]
			}
		}
		// A node has an address of each family: the port is as well as the worse of them.
		sum.Up, sum.Down = min(sum.Up, t.Up), max(sum.Down, t.Down)
		sums[key] = sum
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b host.Traffic) int {
		return cmp.Or(cmp.Compare(lb.ServiceKey(a.Service), lb.ServiceKey(b.Service)),
			cmp.Compare(a.Listener.Port, b.Listener.Port), cmp.Compare(a.Listener.Protocol, b.Listener.Protocol))
	})
}
