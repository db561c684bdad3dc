package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// managerSays are the metrics of a manager whose hosts looked at a time: web has traffic on
// two hosts, of which one cannot tell all, and api has none.
func managerSays(at, total int) string {
	var text strings.Builder
	gauges := map[string]bool{}
	say := func(name, host, service string, value int) {
		kind := "gauge"
		if strings.HasSuffix(name, "_total") {
			kind = "counter"
		}
		if !gauges[name] {
			fmt.Fprintf(&text, "# TYPE external_lb_%s %s\n", name, kind)
			gauges[name] = true
		}
		labels := fmt.Sprintf(`balancer="edge",host=%q`, host)
		if service != "" {
			labels += fmt.Sprintf(`,service_namespace="default",service_name=%q,port="80/TCP"`, service)
		}
		fmt.Fprintf(&text, "external_lb_%s{%s} %d\n", name, labels, value)
	}
	for _, m := range []struct {
		name     string
		api, web int
	}{
		{"service_connections", 1, 7}, {"service_connections_total", total / 10, total}, {"service_refused_total", 0, 0}, {"service_failed_total", total, 0},
		{"service_received_bytes_total", 0, total * 1000}, {"service_sent_bytes_total", 0, total * 100_000},
		{"service_nodes_up", 1, 2}, {"service_nodes_down", 2, 0},
	} {
		say(m.name, "lb1", "api", m.api)
		say(m.name, "lb1", "web", m.web)
		if m.name == "service_connections" {
			say(m.name, "lb2", "web", 3)
		}
	}
	say("host_observed_timestamp_seconds", "lb1", "", at)
	say("host_observed_timestamp_seconds", "lb2", "", at)
	return text.String()
}

func TestTop_ShowsRatesBetweenTwoLooks(t *testing.T) {
	var asked atomic.Int32
	answers := []string{managerSays(1000, 50), managerSays(1000, 50), managerSays(1004, 90)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, answers[min(int(asked.Add(1)), len(answers))-1])
	}))
	defer server.Close()
	for _, tc := range []struct {
		sort  string
		hosts bool
		want  string
	}{
		{"open", false, `SERVICE      PORT    OPEN  NEW/S  REFUSED/S  FAILED/S  IN/S  OUT/S  NODES UP
default/web  80/TCP  10    -      -          -         -     -      2/2
default/api  80/TCP  1     1      0          10        0B    0B     1/3
`},
		{"failed", true, `SERVICE      PORT    HOST  OPEN  NEW/S  REFUSED/S  FAILED/S  IN/S    OUT/S   NODES UP
default/api  80/TCP  lb1   1     1      0          10        0B      0B      1/3
default/web  80/TCP  lb1   7     10     0          0         9.8KiB  977KiB  2/2
default/web  80/TCP  lb2   3     -      -          -         -       -       -
`},
	} {
		asked.Store(0)
		from := managerMetrics{url: server.URL}
		ask, err := from.open(nil)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		one := &top{out: &out, ask: ask, interval: time.Millisecond, once: true, sort: tc.sort, table: topTable{tc.hosts}}
		if err := one.run(t.Context()); err != nil || out.String() != tc.want {
			t.Errorf("--sort %s: error %v, got\n%swant\n%s", tc.sort, err, out.String(), tc.want)
		}
	}
}

func TestTop_OfADaemonThatBeganAnew(t *testing.T) {
	r := newRates()
	for _, text := range []string{managerSays(10, 500), managerSays(20, 100)} {
		s, err := readSample(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.add(s)
	}
	if got := r.now[rowName{hostName{"edge", "lb1"}, "default", "web", "80/TCP"}].rates[made]; got != 10 {
		t.Errorf("%v a second, of 100 in 10 s", got)
	}
}

func TestTop_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	ask := func(context.Context) (*sample, error) {
		cancel()
		return readSample(strings.NewReader(managerSays(1, 1)))
	}
	if err := (&top{out: &out, ask: ask, interval: time.Hour, sort: "open"}).run(ctx); err != nil {
		t.Error(err)
	}
}

// What is shown again and again goes on where the manager does not answer for a moment.
func TestTop_GoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	asked := 0
	ask := func(context.Context) (*sample, error) {
		switch asked++; asked {
		case 2:
			return nil, errors.New("nobody\x1b leads")
		case 3:
			return readSample(strings.NewReader(managerSays(1, 1)))
		case 4:
			cancel()
		}
		return readSample(strings.NewReader(""))
	}
	err := (&top{out: &out, ask: ask, interval: time.Millisecond, sort: "open"}).run(ctx)
	said := out.String()
	if err != nil || !strings.HasPrefix(said, errNoTraffic.Error()+"\n\nerror: nobody leads\nSERVICE ") || !strings.Contains(said, "default/web  80/TCP  10 ") {
		t.Errorf("error %v, %q", err, said)
	}
	ask = func(context.Context) (*sample, error) { return nil, errors.New("nobody leads") }
	if err := (&top{out: &out, ask: ask, interval: time.Millisecond, sort: "open"}).run(t.Context()); err == nil {
		t.Error("what never worked is no error")
	}
}
