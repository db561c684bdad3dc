package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/wait"
)

// usage is what was used up to now. CPU is in seconds.
type usage struct {
	writes, events, reloads float64
	controller, agent       float64
}

// quiet is how long nothing is written once all is done. Events come last.
const quiet = time.Second

// settled waits until the controller writes nothing more, and returns what was used until then.
func (b *bench) settled(ctx context.Context) (usage, error) {
	last, err := b.usage(ctx)
	for deadline := time.Now().Add(patience(10_000)); err == nil; {
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(quiet):
		}
		before := last
		if last, err = b.usage(ctx); err == nil && last.writes == before.writes && last.events == before.events {
			return last, nil
		}
		if time.Now().After(deadline) {
			return last, fmt.Errorf("the controller goes on writing: %+v", last)
		}
	}
	return last, err
}

func (b *bench) usage(ctx context.Context) (u usage, err error) {
	if u.writes, u.events, err = b.written(ctx); err != nil {
		return u, err
	}
	if u.controller, err = processorTime(b.controller().PID()); err != nil {
		return u, err
	}
	if b.isMetalLB() || len(b.Hosts()) == 0 {
		return u, nil
	}
	families, err := scrape(ctx, b.Manager.Metrics)
	if err != nil {
		return u, err
	}
	u.reloads = sum(families["external_lb_reloads_total"], nil)
	u.agent, _, err = b.agent(ctx)
	return u, err
}

// written counts the controller's writes as the API server saw them. Nobody else writes Services but us, who
// create, delete and change them, nor events.
func (b *bench) written(ctx context.Context) (writes, events float64, err error) {
	data, err := b.Client().Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, 0, err
	}
	families, err := parseMetrics(bytes.NewReader(data))
	if err != nil {
		return 0, 0, err
	}
	requests := families["apiserver_request_total"]
	changing := []string{"PATCH", "PUT", "APPLY"}
	for _, verb := range append(changing, "POST") {
		events += sum(requests, map[string]string{"resource": "events", "verb": verb})
		writes += sum(requests, map[string]string{"group": b.engine.group, "verb": verb})
	}
	for _, verb := range changing {
		writes += sum(requests, map[string]string{"resource": "services", "verb": verb})
	}
	return writes - b.changes, events, nil
}

// cost of something for each Service.
func cost(before, after usage, services int) map[report.Metric]float64 {
	n := float64(services)
	return map[report.Metric]float64{
		report.Writes:        (after.writes - before.writes) / n,
		report.Events:        (after.events - before.events) / n,
		report.Reloads:       after.reloads - before.reloads,
		report.ControllerCPU: (after.controller - before.controller) / n * 1000,
		report.AgentCPU:      (after.agent - before.agent) / n * 1000,
	}
}

func scrape(ctx context.Context, url string) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return parseMetrics(response.Body)
}

func parseMetrics(r io.Reader) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// sum of the series that have some labels.
func sum(family *dto.MetricFamily, labels map[string]string) float64 {
	total := 0.0
	for _, m := range family.GetMetric() {
		matches := 0
		for _, l := range m.Label {
			if want, asked := labels[l.GetName()]; asked && want == l.GetValue() {
				matches++
			}
		}
		if matches == len(labels) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

// processorTime that a process has used, in seconds: /proc has it in hundredths only.
func processorTime(pid int) (float64, error) {
	var t unix.Timespec
	const all = 2 // threads, by what the scheduler says
	if err := unix.ClockGettime(int32(^pid<<3|all), &t); err != nil {
		return 0, fmt.Errorf("the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()).Seconds(), nil
}

// agents lists the agent of a host.
const agents = `pgrep -u external-lb -f '^/usr/local/bin/external-lb host agent'`

// agent is how much CPU the agent of the first host and what it started has used, in seconds, and the
// most memory that it had, in megabytes.
func (b *bench) agent(ctx context.Context) (cpu, peak float64, err error) {
	return b.twoFigures(ctx, `until pid=$(`+agents+`); do sleep 0.1; done # it may be starting again
awk '{print ($14 + $15 + $16 + $17) / '$(getconf CLK_TCK)'}' /proc/$pid/stat
awk '/^VmHWM/ {print $2 / 1024}' /proc/$pid/status`)
}

// forgetPeaks lets the peaks of the agent's memory begin anew.
func (b *bench) forgetPeaks(ctx context.Context) error {
	h, err := b.Host(b.Hosts()[0])
	if err != nil {
		return err
	}
	_, err = h.Shell(ctx, `echo 5 >/proc/$(`+agents+`)/clear_refs`)
	return err
}

// resident memory of a process in megabytes: its peak, and what it is.
func resident(pid int) (peak, now float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	peak, err = kilobytes(data, "VmHWM:")
	if err != nil {
		return 0, 0, err
	}
	now, err = kilobytes(data, "VmRSS:")
	return peak / 1024, now / 1024, err
}

// availableMemory of this machine, in bytes.
func availableMemory() (int, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	kb, err := kilobytes(data, "MemAvailable:")
	return int(kb) * 1024, err
}

// kilobytes that a file of /proc says behind a word.
func kilobytes(data []byte, word string) (float64, error) {
	fields := strings.Fields(string(data))
	at := slices.Index(fields, word)
	if at < 0 || at+1 == len(fields) {
		return 0, fmt.Errorf("no %s", word)
	}
	return strconv.ParseFloat(fields[at+1], 64)
}

// floor is what the same files cost by hand: the check, and all of it.
func (b *bench) floor(ctx context.Context) (check, all float64, err error) {
	return b.twoFigures(ctx, b.engine.floor)
}

// twoFigures that a script prints on the first host. It may take long, but not for ever.
func (b *bench) twoFigures(ctx context.Context, script string) (first, second float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait.Patience)
	defer cancel()
	h, err := b.Host(b.Hosts()[0])
	if err != nil {
		return 0, 0, err
	}
	out, err := h.Shell(ctx, script)
	if err != nil {
		return 0, 0, errors.Join(err, ctx.Err())
	}
	_, err = fmt.Sscan(out, &first, &second)
	return first, second, err
}
