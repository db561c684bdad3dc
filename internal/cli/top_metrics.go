package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// managerMetrics is where the manager's metrics are.
type managerMetrics struct {
	url, namespace string
	port           int
}

// maxMetrics is how many bytes of metrics are read.
const maxMetrics = 256 << 20

// open finds the metrics, and returns how to ask for them.
func (m *managerMetrics) open(server *apiServer) (func(context.Context) (*sample, error), error) {
	if m.url != "" {
		return m.direct, nil
	}
	config, err := server.config()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Timeout = -1, askTimeout
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	return func(ctx context.Context) (*sample, error) { return m.proxied(ctx, kube) }, nil
}

func (m *managerMetrics) direct(ctx context.Context) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the manager for its metrics: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the manager for its metrics: %s", response.Status)
	}
	return readSample(io.LimitReader(response.Body, maxMetrics))
}

// proxied asks the pod that holds the Lease.
func (m *managerMetrics) proxied(ctx context.Context, kube kubernetes.Interface) (*sample, error) {
	lease, err := kube.CoordinationV1().Leases(m.namespace).Get(ctx, leaseName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("no manager leads in namespace %s: say --namespace, or --metrics where it runs without election", m.namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the API server who leads: %w", err)
	}
	pod, _, _ := strings.Cut(holder(lease), "_")
	if pod == "" {
		return nil, fmt.Errorf("no manager leads in namespace %s at the moment", m.namespace)
	}
	body, err := kube.CoreV1().Pods(m.namespace).ProxyGet("http", pod, strconv.Itoa(m.port), "metrics", nil).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking pod %s for its metrics by the API server: %w; where the manager is no pod, or you may not get pods/proxy, say --metrics",
			pod, err)
	}
	defer body.Close()
	return readSample(io.LimitReader(body, maxMetrics))
}

type hostName struct{ balancer, host string }

// rowName names a port of a Service on a host.
type rowName struct {
	hostName
	namespace, service, port string
}

func (n rowName) compare(o rowName) int {
	return cmp.Or(cmp.Compare(n.namespace, o.namespace), cmp.Compare(n.service, o.service), cmp.Compare(n.port, o.port),
		cmp.Compare(n.balancer, o.balancer), cmp.Compare(n.host, o.host))
}

// What is counted.
const (
	made = iota
	refused
	failed
	in
	out
	counters
)

// row is what there is of a port. What is not known is not a number.
type row struct {
	open, up, down float64
	totals, rates  [counters]float64
}

func newRow() row {
	r := row{open: math.NaN(), up: math.NaN(), down: math.NaN()}
	for i := range counters {
		r.totals[i], r.rates[i] = math.NaN(), math.NaN()
	}
	return r
}

// rate of each counter since another row. A daemon that has begun anew counts from 0.
func (r *row) rate(was row, passed time.Duration) {
	for i, total := range r.totals {
		if before := was.totals[i]; total >= before {
			total -= before
		}
		r.rates[i] = total / passed.Seconds()
	}
}

// add another host's. What one of them does not know is not known of both.
func (r *row) add(o row) {
	r.open += o.open
	for i := range counters {
		r.rates[i] += o.rates[i]
	}
	switch {
	case math.IsNaN(r.up):
		r.up, r.down = o.up, o.down
	case !math.IsNaN(o.up): // they have the same nodes
		r.up, r.down = min(r.up, o.up), max(r.down, o.down)
	}
}

func (r row) nodes() string {
	if math.IsNaN(r.up) || math.IsNaN(r.down) {
		return "-"
	}
	return fmt.Sprintf("%.0f/%.0f", r.up, r.up+r.down)
}

// sample is what the manager says once.
type sample struct {
	at   map[hostName]time.Time // when the host looked
	rows map[rowName]row
}

// readSample reads metrics as Prometheus does.
func readSample(from io.Reader) (*sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(from)
	if err != nil {
		return nil, fmt.Errorf("the manager's metrics cannot be read: %w", err)
	}
	s := &sample{map[hostName]time.Time{}, map[rowName]row{}}
	for _, m := range families["external_lb_host_observed_timestamp_seconds"].GetMetric() {
		l := labelsOf(m)
		s.at[hostName{l["balancer"], l["host"]}] = time.UnixMilli(int64(m.GetGauge().GetValue() * 1000))
	}
	for metric, into := range map[string]func(*row) *float64{
		"connections":          func(r *row) *float64 { return &r.open },
		"nodes_up":             func(r *row) *float64 { return &r.up },
		"nodes_down":           func(r *row) *float64 { return &r.down },
		"connections_total":    func(r *row) *float64 { return &r.totals[made] },
		"refused_total":        func(r *row) *float64 { return &r.totals[refused] },
		"failed_total":         func(r *row) *float64 { return &r.totals[failed] },
		"received_bytes_total": func(r *row) *float64 { return &r.totals[in] },
		"sent_bytes_total":     func(r *row) *float64 { return &r.totals[out] },
	} {
		for _, m := range families["external_lb_service_"+metric].GetMetric() {
			l := labelsOf(m)
			name := rowName{hostName{l["balancer"], l["host"]}, l["service_namespace"], l["service_name"], l["port"]}
			one, there := s.rows[name]
			if !there {
				one = newRow()
			}
			*into(&one) = m.GetGauge().GetValue() + m.GetCounter().GetValue() // it has one of them
			s.rows[name] = one
		}
	}
	return s, nil
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

// number for people.
func number(n float64) string {
	switch {
	case math.IsNaN(n):
		return "-"
	case n > 0 && n < 10 && n != math.Trunc(n):
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

// size in bytes for people.
func size(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && n >= 1024 {
		n, units = n/1024, units[1:]
	}
	if math.IsNaN(n) {
		return "-"
	}
	return number(n) + units[0]
}
