package controllers

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
)

// What is gone would else alarm somebody until the manager starts anew.
func TestMetricsOfWhatIsGone(t *testing.T) {
	m := newMetrics(nil)
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
		for _, name := range []string{"edge", "other", "lb1", "lb2", "public", "old", "web"} {
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
	edge, other := builder.Balancer("edge").Obj(), builder.Balancer("other").Obj()
	m.report(edge, hosts, &plan.Plan{})
	m.report(other, hosts[:1], &plan.Plan{})
	m.reportServices("edge", func() []conditions.Service {
		return []conditions.Service{{Service: &plan.Service{Object: builder.Service("default", "web").Obj()}}}
	})
	m.reportPools("edge", map[string]ipam.Usage{"public": {}, "old": {}})
	check("at first", "edge", "other", "lb1", "lb2", "public", "old", "web")
	m.report(edge, hosts[:1], &plan.Plan{})
	m.reportServices("edge", func() []conditions.Service { return nil })
	m.reportPools("edge", map[string]ipam.Usage{"public": {}})
	check("without a host and a pool", "edge", "other", "lb1", "public")
	m.forget("edge")
	check("without a Balancer", "other", "lb1")
}

// values are all metrics that a registry has with some prefix, as Prometheus prints them.
func values(t *testing.T, registry *prometheus.Registry, prefix string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		name, found := strings.CutPrefix(family.GetName(), "external_lb_"+prefix)
		if !found {
			continue
		}
		for _, metric := range family.Metric {
			var labels []string
			for _, label := range metric.Label {
				labels = append(labels, label.GetValue())
			}
			out[name+"{"+strings.Join(labels, ",")+"}"] = metric.GetGauge().GetValue()
		}
	}
	return out
}

// Labels are in the order of their names: balancer, reason, service_name, service_namespace.
func TestMetricsOfServices(t *testing.T) {
	m := newMetrics(nil)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.collectors()...)
	service := func(name string, change ...func(*corev1.Service)) *plan.Service {
		address := netip.MustParseAddr("192.0.2.1")
		listens := lb.Frontend{Listener: lb.Listener{Address: address, Port: 80, Protocol: lb.TCP}}
		return &plan.Service{Object: builder.Service("default", name).Port(80).With(change...).Obj(), Addresses: []netip.Addr{address},
			Frontends: []lb.Frontend{listens}, Shape: "s"}
	}
	full := service("full")
	full.Addresses, full.Problems = nil, []plan.Problem{{Reason: v1alpha1.ReasonPoolExhausted, Fatal: true}}
	moving := service("moving")
	moving.From = "old"
	nodePort := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }
	services := []conditions.Service{
		{Service: service("web"), Proof: conditions.Proof{Enough: true, Hosts: 2, RefusedPorts: []string{"lb1: no"}}},
		{Service: service("exposed", nodePort), Proof: conditions.Proof{Enough: true, Hosts: 1}},
		{Service: service("new")}, {Service: full}, {Service: moving},
	}
	m.reportServices("edge", func() []conditions.Service { return services })
	want := map[string]float64{
		"addresses{edge,web,default}": 1, "hosts{edge,web,default}": 2, "refusals{edge,web,default}": 1,
		"addresses{edge,exposed,default}": 1, "hosts{edge,exposed,default}": 1, "refusals{edge,exposed,default}": 0,
		"addresses{edge,new,default}": 0, "hosts{edge,new,default}": 0, "refusals{edge,new,default}": 0, "waiting{edge,Pending,new,default}": 1,
		"addresses{edge,full,default}": 0, "hosts{edge,full,default}": 0, "refusals{edge,full,default}": 0, "waiting{edge,PoolExhausted,full,default}": 1,
	}
	if diff := cmp.Diff(want, values(t, registry, "service_")); diff != "" {
		t.Error(diff)
	}
}

func TestMetricsOfHosts(t *testing.T) {
	m := newMetrics(nil)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.collectors()...)
	b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2", Drain: true}).Obj()
	b.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue}, {Type: "Degraded", Status: metav1.ConditionFalse}}
	warns := deliver.State{Host: "lb1", State: v1alpha1.HostPartial, Warning: "every node fails its health check", Clock: -5 * time.Second}
	m.report(b, []deliver.State{warns, {Host: "lb2", State: v1alpha1.HostUnreachable, Warning: "as it was"}}, &plan.Plan{Nodes: make([]lb.Node, 2)})
	got := values(t, registry, "")
	for name, want := range map[string]float64{
		"host_warning{edge,lb1}": 1, "host_warning{edge,lb2}": 0, "host_draining{edge,lb1}": 0, "host_draining{edge,lb2}": 1,
		"host_clock_skew_seconds{edge,lb1}": -5, "host_clock_skew_seconds{edge,lb2}": 0,
		"balancer_condition{edge,Ready}": 1, "balancer_condition{edge,Degraded}": 0, "host_state{edge,lb1,Partial}": 1,
		"nodes{edge}": 2,
	} {
		if is, there := got[name]; !there || is != want {
			t.Errorf("%s is %v, want %v", name, is, want)
		}
	}
}

// A certificate that no Service of a Balancer names is not its.
func TestMetricsOfCertificates(t *testing.T) {
	m := newMetrics(nil)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.collectors()...)
	until := time.Unix(2e9, 0)
	served, other := certificate(t, time.Unix(1e9, 0), until), certificate(t, time.Unix(1e9, 0), time.Unix(3e9, 0))
	set := lb.NewSet(lb.NewItem(lb.CertificateKey(served.Name()), nil))
	m.reportCertificates("edge", translate.Certificates{
		client.ObjectKey{Namespace: "default", Name: "web"}:   {Served: served},
		client.ObjectKey{Namespace: "default", Name: "other"}: {Served: other},
		client.ObjectKey{Namespace: "default", Name: "none"}:  {Problem: &translate.Problem{}},
	}, set)
	want := map[string]float64{"expiry_timestamp_seconds{edge,web,default}": 2e9, "not_before_timestamp_seconds{edge,web,default}": 1e9}
	if diff := cmp.Diff(want, values(t, registry, "certificate_")); diff != "" {
		t.Error(diff)
	}
}

func TestMetricsOfTheLeader(t *testing.T) {
	elected := make(chan struct{})
	m := newMetrics(elected)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.leading)
	if got := values(t, registry, "leading")["{}"]; got != 0 {
		t.Errorf("leads before it is elected: %v", got)
	}
	close(elected)
	if got := values(t, registry, "leading")["{}"]; got != 1 {
		t.Errorf("does not lead: %v", got)
	}
}

// The page has every metric with its labels. Alerts and dashboards are held to the page.
func TestMetrics_AreThoseOfTheReference(t *testing.T) {
	page, err := os.ReadFile("../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(external_lb_\\w+)` \\| ([a-z_, ]*?) *\\|").FindAllStringSubmatch(string(page), -1) {
		told[row[1]] = row[2]
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		for _, c := range newMetrics(nil).collectors() {
			c.Describe(descriptions)
		}
	}()
	is := map[string]string{}
	for d := range descriptions {
		m := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{(.*)\}\}`).FindStringSubmatch(fmt.Sprint(d))
		if m == nil {
			t.Fatalf("a description is %s", d)
		}
		is[m[1]] = strings.ReplaceAll(m[2], ",", ", ")
	}
	if diff := cmp.Diff(is, told); diff != "" {
		t.Errorf("registered (-), on the page (+): %s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if !strings.HasPrefix(name, "external_lb_") {
			t.Errorf("%s does not say whose it is", name)
		}
	}
}
