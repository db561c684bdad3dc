package controllers

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// counted counts how often metrics are gathered, and has each wait for goOn.
func counted(began *atomic.Int32, goOn <-chan struct{}, from prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		began.Add(1)
		<-goOn
		return from.Gather()
	})
}

func askForMetrics(handler http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w
}

// Of many who ask at a time some are refused, and metrics are gathered once at a time.
func TestMetricsForMany(t *testing.T) {
	var began atomic.Int32
	goOn := make(chan struct{})
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "looked"}, func() float64 { return 7 }))
	handler := boundedMetrics(counted(&began, goOn, registry))
	const more = 3
	answers := make(chan *httptest.ResponseRecorder, metricsAtATime+more)
	for range metricsAtATime + more {
		go func() { answers <- askForMetrics(handler) }()
	}
	for range more { // the others wait
		if w := <-answers; w.Code != http.StatusServiceUnavailable {
			t.Errorf("one too many gets %d", w.Code)
		}
	}
	if n := began.Load(); n > 1 {
		t.Errorf("metrics are gathered %d times at a time", n)
	}
	close(goOn)
	for range metricsAtATime {
		if w := <-answers; w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "looked 7") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	}
}

// Who asks again within a second gets the same answer, and the hosts are not asked again.
func TestMetricsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := &seen{}
		registry, collector := prometheus.NewRegistry(), newTraffic()
		collector.hosts = hosts
		registry.MustRegister(collector)
		var began atomic.Int32
		goOn := make(chan struct{})
		close(goOn)
		handler := boundedMetrics(counted(&began, goOn, registry))
		for i, want := range []int{1, 1, 2} {
			if i == 2 {
				<-time.After(metricsAge + time.Millisecond)
			}
			if w := askForMetrics(handler); w.Code != http.StatusOK || int(began.Load()) != want || hosts.looked != want {
				t.Errorf("request %d: %d, gathered %d times, hosts asked %d times, want %d", i, w.Code, began.Load(), hosts.looked, want)
			}
		}
		<-time.After(metricsAge + time.Millisecond)
	})
}
