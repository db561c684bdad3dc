package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// counters are what the manager says of itself.
type counters struct {
	reloads, writes, services, inSync, cpu float64
}

// counters reads the manager's metrics.
func (b *bench) counters(ctx context.Context) (counters, error) {
	var c counters
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.Manager.Metrics, nil)
	if err != nil {
		return c, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return c, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return c, err
	}
	c.reloads = sum(families["external_lb_reloads_total"], nil)
	c.cpu = sum(families["process_cpu_seconds_total"], nil)
	c.services = sum(families["external_lb_services"], nil)
	c.inSync = sum(families["external_lb_host_state"], map[string]string{"state": "InSync"})
	// Nothing but the leader election writes with PUT.
	for _, method := range []string{"POST", "PATCH", "DELETE"} {
		c.writes += sum(families["rest_client_requests_total"], map[string]string{"method": method})
	}
	return c, nil
}

func sum(family *dto.MetricFamily, labels map[string]string) float64 {
	total := 0.0
	for _, m := range family.GetMetric() {
		matches := 0
		for _, l := range m.Label {
			if labels[l.GetName()] == l.GetValue() && l.GetValue() != "" {
				matches++
			}
		}
		if matches == len(labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

// account fills in what a measurement cost.
func (b *bench) account(ctx context.Context, r *Result, before counters, services float64) error {
	after, err := b.counters(ctx)
	if err != nil {
		return err
	}
	r.Reloads, r.Writes, r.CPU = after.reloads-before.reloads, after.writes-before.writes, after.cpu-before.cpu
	if services > 0 {
		r.PerEach = r.Writes / services
	}
	if r.RSS, err = peakRSS(b.Manager.PID()); err != nil {
		return err
	}
	r.Floor, err = b.floor(ctx)
	return err
}

// daemon is what is done by hand to the software on the host.
type daemon struct {
	tune  string // gives it room for so many listeners, as the documentation asks of a host's administrator
	floor string // checks and reloads it, and prints how many seconds that took until the new workers run
	// floorIs says what the floor is made of.
	floorIs string
	// change makes a Balancer fit for so many Services, as the documentation asks of its owner.
	change func(*v1alpha1.Balancer)
}

const checkAndReload = "its check and a reload of the same files by hand"

var daemons = map[string]daemon{
	"nginx": {
		floorIs: checkAndReload,
		tune: `
sed -i -E 's/worker_connections [0-9]+/worker_connections 16384/' /etc/nginx/nginx.conf
nginx -s stop; while pgrep -x nginx >/dev/null; do :; done
ulimit -n $(ulimit -H -n); nginx`,
		floor: `
workers() { pgrep -f 'nginx: worker process$' | sort; }
old=$(workers)
begin=$(date +%s.%N)
nginx -q -t 2>/dev/null
nginx -s reload
while now=$(workers); [ -z "$now" ] || [ "$(printf '%s\n' $old | grep -cxF "$now")" != 0 ]; do :; done
end=$(date +%s.%N)
echo "$end $begin" | awk '{print $1-$2}'`,
	},
	"haproxy": {
		floorIs: checkAndReload,
		tune: `
while pkill -TERM -x haproxy; do sleep 0.1; done
ulimit -n $(ulimit -H -n); . /etc/default/haproxy
haproxy -W -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg $EXTRAOPTS >/dev/null 2>&1`,
		// The master reads and binds all before it starts a worker.
		floor: `
master=$(cat /run/haproxy.pid); . /etc/default/haproxy
newest() { pgrep -n -P $master; }
old=$(newest)
begin=$(date +%s.%N)
haproxy -q -c -f /etc/haproxy/haproxy.cfg $EXTRAOPTS
kill -USR2 $master
while [ "$(newest)" = "$old" ]; do :; done
end=$(date +%s.%N)
echo "$end $begin" | awk '{print $1-$2}'`,
	},
	"lvs": {
		floorIs: "its check of the same files by hand (when a reload has ended, keepalived does not say), in User-Mode Linux; spec.nodes.maxPerService is 3",
		tune:    "true",
		floor: `
begin=$(date +%s.%N)
keepalived -t
end=$(date +%s.%N)
echo "$end $begin" | awk '{print $1-$2}'`,
		change: func(b *v1alpha1.Balancer) {
			b.Spec.Nodes.MaxPerService = 3
			b.Spec.Defaults.HealthCheck = &v1alpha1.HealthCheck{Interval: "30s"}
		},
	},
}

func (b *bench) tuneHost(ctx context.Context) error {
	h, err := b.Host("lb1")
	if err != nil {
		return err
	}
	_, err = h.Shell(ctx, b.daemon.tune)
	return err
}

// peakRSS of a process in megabytes.
func peakRSS(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmHWM for process %d", pid)
}

// floor is what the same files cost by hand.
func (b *bench) floor(ctx context.Context) (float64, error) {
	h, err := b.Host("lb1")
	if err != nil {
		return 0, err
	}
	out, err := h.Shell(ctx, b.daemon.floor)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(out), 64)
}
