package controllers

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
)

// metrics are what an operator watches and alerts on. Reconciles and their
// times are controller-runtime's.
type metrics struct {
	deliveries  *prometheus.CounterVec
	reloads     *prometheus.CounterVec
	proof       *prometheus.HistogramVec
	hostState   *prometheus.GaugeVec
	oldWorkers  *prometheus.GaugeVec
	services    *prometheus.GaugeVec
	refused     *prometheus.GaugeVec
	poolSize    *prometheus.GaugeVec
	poolInUse   *prometheus.GaugeVec
	perBalancer []interface {
		DeletePartialMatch(prometheus.Labels) int
	}
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "external_lb", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "external_lb", Name: name, Help: help}, labels)
	}
	m := &metrics{
		deliveries: counter("deliveries_total", "Deliveries of a configuration to a host, by result.", "balancer", "host", "result"),
		reloads:    counter("reloads_total", "Reloads of a host's daemon, by what made them necessary.", "balancer", "host", "cause"),
		proof: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "external_lb", Name: "proof_seconds",
			Help:    "Time from a change of the desired configuration to a host's proof that it is live.",
			Buckets: []float64{.05, .1, .2, .4, .8, 1.6, 3.2, 6.4, 12.8, 25.6, 60},
		}, []string{"balancer", "host"}),
		hostState:  gauge("host_state", "1 for the state that a host is in, 0 for the others.", "balancer", "host", "state"),
		oldWorkers: gauge("host_old_workers", "Worker processes of earlier configurations that still carry connections.", "balancer", "host"),
		services:   gauge("services", "Services that a Balancer carries.", "balancer"),
		refused:    gauge("refused_services", "Services that a host refused.", "balancer", "host"),
		poolSize:   gauge("pool_addresses", "Addresses of a pool.", "balancer", "pool", "family"),
		poolInUse:  gauge("pool_addresses_assigned", "Addresses of a pool that Services have.", "balancer", "pool", "family"),
	}
	m.perBalancer = append(m.perBalancer, m.deliveries, m.reloads, m.proof, m.hostState, m.oldWorkers, m.services, m.refused, m.poolSize, m.poolInUse)
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.deliveries, m.reloads, m.proof, m.hostState, m.oldWorkers, m.services, m.refused, m.poolSize, m.poolInUse}
}

// register makes the metrics visible on the manager's endpoint until unregister.
func (m *metrics) register() error {
	for _, c := range m.collectors() {
		if err := ctrlmetrics.Registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors() {
		ctrlmetrics.Registry.Unregister(c)
	}
}

var hostStates = []v1alpha1.HostState{
	v1alpha1.HostConnecting, v1alpha1.HostDelivering, v1alpha1.HostInSync,
	v1alpha1.HostPartial, v1alpha1.HostFailed, v1alpha1.HostUnreachable,
}

// report sets what a reconcile of a Balancer saw.
func (m *metrics) report(balancer string, states []deliver.State, p *plan.Plan) {
	m.services.WithLabelValues(balancer).Set(float64(len(p.Services)))
	for _, s := range states {
		for _, state := range hostStates {
			in := 0.0
			if s.State == state {
				in = 1
			}
			m.hostState.WithLabelValues(balancer, s.Host, string(state)).Set(in)
		}
		m.oldWorkers.WithLabelValues(balancer, s.Host).Set(float64(s.OldWorkers))
		m.refused.WithLabelValues(balancer, s.Host).Set(float64(len(s.Refused)))
	}
}

func (m *metrics) pool(balancer, pool string, u ipam.Usage) {
	for family, usage := range map[string]ipam.FamilyUsage{"ipv4": u.IPv4, "ipv6": u.IPv6} {
		m.poolSize.WithLabelValues(balancer, pool, family).Set(float64(usage.Capacity))
		m.poolInUse.WithLabelValues(balancer, pool, family).Set(float64(usage.Assigned))
	}
}

// forgetPool drops the metrics of a pool that is not, or no longer, a Balancer's.
func (m *metrics) forgetPool(balancer, pool string) {
	for _, family := range []string{"ipv4", "ipv6"} {
		m.poolSize.DeleteLabelValues(balancer, pool, family)
		m.poolInUse.DeleteLabelValues(balancer, pool, family)
	}
}

// forget drops the metrics of a Balancer that is gone.
func (m *metrics) forget(balancer string) {
	for _, vec := range m.perBalancer {
		vec.DeletePartialMatch(prometheus.Labels{"balancer": balancer})
	}
}

// Delivered implements deliver.Metrics.
func (m *metrics) Delivered(balancer, host, result string, took time.Duration) {
	m.deliveries.WithLabelValues(balancer, host, result).Inc()
}

// Reloaded implements deliver.Metrics.
func (m *metrics) Reloaded(balancer, host, cause string) {
	m.reloads.WithLabelValues(balancer, host, cause).Inc()
}

// Proved implements deliver.Metrics.
func (m *metrics) Proved(balancer, host string, took time.Duration) {
	m.proof.WithLabelValues(balancer, host).Observe(took.Seconds())
}
