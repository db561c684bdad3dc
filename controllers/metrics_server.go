package controllers

import (
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/client-go/rest"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Whoever reaches the port may ask for metrics, as often as they like. What that costs the
// manager and the hosts is bounded.
const (
	metricsAge     = time.Second      // how old an answer may be
	metricsAtATime = 8                // requests; more are refused
	metricsTime    = 30 * time.Second // in which an answer must be taken
)

// fewMetrics is a filter of controller-runtime's server of metrics: it serves them in its place.
func fewMetrics(*rest.Config, *http.Client) (server.Filter, error) {
	return func(logr.Logger, http.Handler) (http.Handler, error) {
		return boundedMetrics(ctrlmetrics.Registry), nil
	}, nil
}

func boundedMetrics(from prometheus.Gatherer) http.Handler {
	all := promhttp.HandlerFor(&shared{from: from}, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: metricsAtATime,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// One who does not take the answer must not keep the others from theirs.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(metricsTime)) // tests have no connection
		all.ServeHTTP(w, r)
	})
}

// shared gathers once for all who ask at about the same time.
type shared struct {
	from prometheus.Gatherer

	mu       sync.Mutex
	fresh    bool
	families []*dto.MetricFamily
	err      error
}

// Gather implements prometheus.Gatherer.
func (s *shared) Gather() ([]*dto.MetricFamily, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fresh {
		s.families, s.err = s.from.Gather()
		s.fresh = true
		time.AfterFunc(metricsAge, s.forget) // it is large
	}
	return s.families, s.err
}

func (s *shared) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh, s.families, s.err = false, nil, nil
}
