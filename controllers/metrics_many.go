package controllers

import (
	"cmp"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// latest are metrics of what a Balancer may have many of. Each report replaces the one
// before, so what is gone needs no look for it, and is worked out when somebody asks.
type latest struct {
	descs []*prometheus.Desc

	mu sync.Mutex
	of map[string]func() []sample // by Balancer
}

// sample is the value of one metric, which is an index of descs.
type sample struct {
	metric int
	value  float64
	labels []string // without the Balancer
}

// newLatest makes metrics with the labels balancer and more; by name, what they say.
func newLatest(metrics [][2]string, labels ...[]string) *latest {
	l := &latest{of: map[string]func() []sample{}}
	for i, m := range metrics {
		l.descs = append(l.descs, prometheus.NewDesc("external_lb_"+m[0], m[1], append([]string{"balancer"}, labels[i]...), nil))
	}
	return l
}

// set what there is of a Balancer: a function of what nobody changes any more.
func (l *latest) set(balancer string, samples func() []sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[balancer] = sync.OnceValue(samples)
}

// forget a Balancer.
func (l *latest) forget(balancer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, balancer)
}

// Describe implements prometheus.Collector.
func (l *latest) Describe(into chan<- *prometheus.Desc) {
	for _, d := range l.descs {
		into <- d
	}
}

// Collect implements prometheus.Collector.
func (l *latest) Collect(into chan<- prometheus.Metric) {
	l.mu.Lock()
	all := maps.Clone(l.of) // whoever asks may be slow
	l.mu.Unlock()
	for balancer, samples := range all {
		for _, s := range samples() {
			into <- prometheus.MustNewConstMetric(l.descs[s.metric], prometheus.GaugeValue, s.value, append([]string{balancer}, s.labels...)...)
		}
	}
}

// Metrics of each Service. Prometheus has labels "namespace" and "service" for what it asks.
const (
	serviceAddresses = iota
	serviceHosts
	serviceRefusals
	serviceWaiting
)

func newServices() *latest {
	service := []string{"service_namespace", "service_name"}
	return newLatest([][2]string{
		serviceAddresses: {"service_addresses", "Addresses that the users of a Service were told."},
		serviceHosts:     {"service_hosts", "Hosts that prove to carry a Service as it is desired."},
		serviceRefusals:  {"service_refusals", "What hosts refuse of a Service: all of it, or ports."},
		serviceWaiting:   {"service_waiting", "1 for a Service that has no address, with the reason."},
	}, service, service, service, append(service, "reason"))
}

// reportServices sets what became of the Services of a Balancer. One that another Balancer
// carries still is that one's.
func (m *metrics) reportServices(balancer string, views func() []conditions.Service) {
	m.each.set(balancer, func() []sample { return serviceSamples(views()) })
}

func serviceSamples(views []conditions.Service) []sample {
	samples := make([]sample, 0, 3*len(views))
	for _, v := range views {
		if v.From != "" {
			continue
		}
		labels := []string{v.Object.Namespace, v.Object.Name}
		addresses := told(v)
		samples = append(samples, sample{serviceAddresses, float64(addresses), labels}, sample{serviceHosts, float64(v.Proof.Hosts), labels},
			sample{serviceRefusals, float64(len(v.Proof.Refused) + len(v.Proof.RefusedPorts)), labels})
		if addresses == 0 {
			samples = append(samples, sample{serviceWaiting, 1, append(labels, why(v))})
		}
	}
	return samples
}

// told counts the addresses of which the users of a Service are told.
func told(v conditions.Service) int {
	switch {
	case !exposed(v.Object):
		return len(v.Ingress())
	case v.Proof.Enough:
		return len(v.Told())
	}
	return len(record.Published(v.Object))
}

// why a Service has no address, as its condition says.
func why(v conditions.Service) string {
	reason := ""
	if c := meta.FindStatusCondition(v.Conditions(), v1alpha1.ConditionServiceProgrammed); c != nil {
		reason = c.Reason
	}
	return cmp.Or(reason, v1alpha1.ReasonPending)
}

// Metrics of each certificate.
const (
	certificateExpires = iota
	certificateBegins
)

func newCertificates() *latest {
	secret := []string{"secret_namespace", "secret"}
	return newLatest([][2]string{
		certificateExpires: {"certificate_expiry_timestamp_seconds", "When a certificate that a Balancer serves expires, in seconds since 1970."},
		certificateBegins:  {"certificate_not_before_timestamp_seconds", "From when on it is valid, in seconds since 1970."},
	}, secret, secret)
}

// reportCertificates sets how long those are valid that a Balancer serves.
func (m *metrics) reportCertificates(balancer string, all translate.Certificates, set *lb.Set) {
	m.certs.set(balancer, func() []sample { return certificateSamples(all, set) })
}

func certificateSamples(all translate.Certificates, set *lb.Set) (samples []sample) {
	for secret, c := range all {
		if c.Served == nil {
			continue
		}
		if _, served := set.Sum(lb.CertificateKey(c.Served.Name())); served {
			labels := []string{secret.Namespace, secret.Name}
			samples = append(samples, sample{certificateExpires, float64(c.Served.NotAfter.Unix()), labels},
				sample{certificateBegins, float64(c.Served.NotBefore.Unix()), labels})
		}
	}
	return samples
}
