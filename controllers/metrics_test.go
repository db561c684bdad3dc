package controllers

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
)

// What is gone would else alarm somebody until the manager starts anew.
func TestMetricsOfWhatIsGone(t *testing.T) {
	m := newMetrics()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.collectors()...)
	check := func(when string, want ...string) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, family := range families {
			for _, metric := range family.Metric {
				for _, label := range metric.Label {
					named[label.GetValue()] = true
				}
			}
		}
		for _, name := range []string{"edge", "other", "lb1", "lb2", "public", "old"} {
			if named[name] != slices.Contains(want, name) {
				t.Errorf("%s: %s has metrics: %t", when, name, named[name])
			}
		}
	}
	hosts := []deliver.State{{Host: "lb1", State: v1alpha1.HostInSync}, {Host: "lb2", State: v1alpha1.HostUnreachable}}
	for i := range hosts {
		hosts[i].Uses.Memory.Used, hosts[i].Uses.Memory.Limit = 1, 2
	}
	m.Delivered("edge", "lb2", deliver.ResultApplied, 0)
	m.report("edge", hosts, &plan.Plan{})
	m.report("other", hosts[:1], &plan.Plan{})
	m.reportPools("edge", map[string]ipam.Usage{"public": {}, "old": {}})
	check("at first", "edge", "other", "lb1", "lb2", "public", "old")
	m.report("edge", hosts[:1], &plan.Plan{})
	m.reportPools("edge", map[string]ipam.Usage{"public": {}})
	check("without a host and a pool", "edge", "other", "lb1", "public")
	m.forget("edge")
	check("without a Balancer", "other", "lb1")
}
