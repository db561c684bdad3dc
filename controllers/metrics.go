package controllers

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/provider"
)

// metrics are what an operator watches and alerts on. Reconciles and their
// times are controller-runtime's.
type metrics struct {
	deliveries  *prometheus.CounterVec
	reloads     *prometheus.CounterVec
	restarts    *prometheus.CounterVec
	proof       *prometheus.HistogramVec
	hostState   *prometheus.GaugeVec
	contested   *prometheus.GaugeVec
	oldWorkers  *prometheus.GaugeVec
	uses        *prometheus.GaugeVec
	clock       *prometheus.GaugeVec
	services    *prometheus.GaugeVec
	nodes       *prometheus.GaugeVec
	conditions  *prometheus.GaugeVec
	draining    *prometheus.GaugeVec
	warning     *prometheus.GaugeVec
	refused     *prometheus.GaugeVec
	poolSize    *prometheus.GaugeVec
	poolInUse   *prometheus.GaugeVec
	requests    *prometheus.CounterVec
	calls       *prometheus.CounterVec
	leading     prometheus.GaugeFunc
	each        *latest // of what there may be many: Services
	certs       *latest
	traffic     *traffic
	perBalancer []vec
	hosts       series
	pools       series
}

type vec interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

// series are the metrics of hosts, or of pools.
type series struct {
	label string
	vecs  []vec
	of    map[string][]string // names that have some, by Balancer; one reconcile runs at a time
}

// keep drops the metrics of all others of a Balancer: what is gone must not alarm
// anybody.
func (s *series) keep(balancer string, names []string) {
	for _, was := range s.of[balancer] {
		if slices.Contains(names, was) {
			continue
		}
		for _, v := range s.vecs {
			v.DeletePartialMatch(prometheus.Labels{"balancer": balancer, s.label: was})
		}
	}
	s.of[balancer] = names
}

// newMetrics of a process that leads from when elected is closed.
func newMetrics(elected <-chan struct{}) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "external_lb", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "external_lb", Name: name, Help: help}, labels)
	}
	m := &metrics{
		deliveries: counter("deliveries_total", "Deliveries of a configuration to a host, by result.", "balancer", "host", "result"),
		reloads:    counter("reloads_total", "Reloads of a host's daemon, by what made them necessary.", "balancer", "host", "cause"),
		restarts:   counter("host_restarts_total", "Restarts of a host's daemons that no delivery has made.", "balancer", "host"),
		proof: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "external_lb", Name: "proof_seconds",
			Help:    "Time from a change of the desired configuration to a host's proof that it is live.",
			Buckets: []float64{.05, .1, .2, .4, .8, 1.6, 3.2, 6.4, 12.8, 25.6, 60},
		}, []string{"balancer", "host"}),
		hostState:  gauge("host_state", "1 for the state that a host is in, 0 for the others.", "balancer", "host", "state"),
		contested:  gauge("host_contested", "1 while somebody else delivers to a host.", "balancer", "host"),
		oldWorkers: gauge("host_old_workers", "Worker processes of earlier configurations that still carry connections.", "balancer", "host"),
		uses:       gauge("host_use_ratio", "What is in use of what all Services of a host share, of 1.", "balancer", "host", "resource"),
		clock:      gauge("host_clock_skew_seconds", "How far a host's clock is ahead of the manager's; negative: behind.", "balancer", "host"),
		services:   gauge("services", "Services that a Balancer carries.", "balancer"),
		nodes:      gauge("nodes", "Nodes that may be backends of a Balancer.", "balancer"),
		conditions: gauge("balancer_condition", "1 while a condition of a Balancer is True.", "balancer", "condition"),
		draining:   gauge("host_draining", "1 while a host is taken out for maintenance.", "balancer", "host"),
		warning:    gauge("host_warning", "1 while a host that runs what is desired says that something is wrong.", "balancer", "host"),
		refused:    gauge("refusals", "Items, and ports of Services, that a host refuses.", "balancer", "host"),
		poolSize:   gauge("pool_addresses", "Addresses of a pool.", "balancer", "pool", "family"),
		poolInUse:  gauge("pool_addresses_assigned", "Addresses of a pool that Services have.", "balancer", "pool", "family"),
		requests:   counter("provider_requests_total", "Requests to a provider, by what became of them.", "balancer", "request", "result"),
		calls:      counter("provider_cloud_calls_total", "Calls of a cloud's API that a provider made, as it says.", "balancer", "request", "kind"),
	}
	m.leading = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "external_lb", Name: "leading", Help: "1 if this manager is the one that works.",
	}, func() float64 {
		select {
		case <-elected:
			return 1
		default:
			return 0
		}
	})
	m.each, m.certs, m.traffic = newServices(), newCertificates(), newTraffic()
	m.hosts = series{"host", []vec{m.deliveries, m.reloads, m.restarts, m.proof, m.hostState, m.contested, m.draining, m.warning,
		m.oldWorkers, m.uses, m.clock, m.refused}, map[string][]string{}}
	m.pools = series{"pool", []vec{m.poolSize, m.poolInUse}, map[string][]string{}}
	m.perBalancer = slices.Concat(m.hosts.vecs, m.pools.vecs, []vec{m.services, m.nodes, m.conditions, m.requests, m.calls})
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	all := []prometheus.Collector{m.leading, m.each, m.certs, m.traffic}
	for _, v := range m.perBalancer {
		all = append(all, v)
	}
	return all
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

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// report sets what a reconcile of a Balancer saw, and said in its status.
func (m *metrics) report(b *v1alpha1.Balancer, states []deliver.State, p *plan.Plan) {
	balancer := b.Name
	m.services.WithLabelValues(balancer).Set(float64(len(p.Services)))
	if toPods(b) { // that there are no nodes is nobody's trouble
		m.nodes.DeleteLabelValues(balancer)
	} else {
		m.nodes.WithLabelValues(balancer).Set(float64(len(p.Nodes)))
	}
	for _, c := range b.Status.Conditions {
		m.conditions.WithLabelValues(balancer, c.Type).Set(oneIf(c.Status == metav1.ConditionTrue))
	}
	hosts := make([]string, 0, len(states))
	for _, s := range states {
		hosts = append(hosts, s.Host)
		for _, state := range hostStates {
			m.hostState.WithLabelValues(balancer, s.Host, string(state)).Set(oneIf(s.State == state))
		}
		carries := s.State == v1alpha1.HostInSync || s.State == v1alpha1.HostPartial
		drained := slices.ContainsFunc(b.Spec.Hosts, func(h v1alpha1.Host) bool { return h.Name == s.Host && h.Drain })
		m.contested.WithLabelValues(balancer, s.Host).Set(oneIf(s.Contested()))
		m.draining.WithLabelValues(balancer, s.Host).Set(oneIf(drained))
		m.warning.WithLabelValues(balancer, s.Host).Set(oneIf(carries && s.Warning != ""))
		m.oldWorkers.WithLabelValues(balancer, s.Host).Set(float64(s.OldWorkers))
		m.clock.WithLabelValues(balancer, s.Host).Set(s.Clock.Seconds())
		for _, use := range s.Uses.All() {
			if use.Limit > 0 {
				m.uses.WithLabelValues(balancer, s.Host, use.Name).Set(float64(use.Used) / float64(use.Limit))
			} else { // the host tells it no longer
				m.uses.DeleteLabelValues(balancer, s.Host, use.Name)
			}
		}
		m.refused.WithLabelValues(balancer, s.Host).Set(float64(len(s.Refused)))
	}
	m.hosts.keep(balancer, hosts)
}

// reportPools sets what a reconcile of a Balancer saw of its pools, by name.
func (m *metrics) reportPools(balancer string, pools map[string]ipam.Usage) {
	for pool, u := range pools {
		for family, usage := range map[string]ipam.FamilyUsage{"ipv4": u.IPv4, "ipv6": u.IPv6} {
			m.poolSize.WithLabelValues(balancer, pool, family).Set(float64(usage.Capacity))
			m.poolInUse.WithLabelValues(balancer, pool, family).Set(float64(usage.Assigned))
		}
	}
	m.pools.keep(balancer, slices.Collect(maps.Keys(pools)))
}

// forget drops the metrics of a Balancer that is gone.
func (m *metrics) forget(balancer string) {
	for _, vec := range m.perBalancer {
		vec.DeletePartialMatch(prometheus.Labels{"balancer": balancer})
	}
	delete(m.hosts.of, balancer)
	delete(m.pools.of, balancer)
	m.each.forget(balancer)
	m.certs.forget(balancer)
}

// asked counts a request to a provider, and what that took of its cloud.
func (m *metrics) asked(balancer, request, result string, calls provider.Calls) {
	m.requests.WithLabelValues(balancer, request, result).Inc()
	m.calls.WithLabelValues(balancer, request, "read").Add(float64(calls.Reads))
	m.calls.WithLabelValues(balancer, request, "write").Add(float64(calls.Writes))
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

// Restarted implements deliver.Metrics. A host that was never restarted has the metric as well: so
// the first time is an increase.
func (m *metrics) Restarted(balancer, host string, times int) {
	m.restarts.WithLabelValues(balancer, host).Add(float64(times))
}
