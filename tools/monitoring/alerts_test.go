package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	rules = root + "/config/components/alerts/prometheus_rule.yaml"
)

// rule is an alert of a PrometheusRule.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type group struct {
	Name  string `json:"name"`
	Rules []rule `json:"rules"`
}

func readAlerts(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		Spec struct {
			Groups []group `json:"groups"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &object); err != nil || len(object.Spec.Groups) != 1 {
		t.Fatalf("%d groups, %v", len(object.Spec.Groups), err)
	}
	return object.Spec.Groups[0].Rules
}

// object is one of YAML.
type object = map[string]any

// series give some metrics a value each, which they keep for two days.
func series(metrics ...string) (out []object) {
	for _, m := range metrics {
		name, value, _ := strings.Cut(m, " = ")
		out = append(out, object{"series": name, "values": value + "x2880"})
	}
	return out
}

// story is when an alert fires, and when it does not.
type story struct {
	fires   []string   // of these metrics, from the first minute on
	labels  string     // that it has then beside its severity: "name=value,…"
	summary string     // that it has then
	at      string     // when it fires; "0s" where it does not wait
	before  string     // when it does not fire yet
	quiet   [][]string // with which it never fires: just below, and what others are for
}

const host = `{instance="10.0.0.1:8080",pod="a",balancer="edge",host="lb1"`

var stories = map[string]story{
	"NoLeader": {
		fires: []string{`external_lb_leading{pod="a"} = 0`, `external_lb_leading{pod="b"} = 0`}, at: "5m", before: "4m",
		summary: "No external-lb manager works",
		quiet:   [][]string{{`external_lb_leading{pod="a"} = 0`, `external_lb_leading{pod="b"} = 1`}},
	},
	"BalancerNotProgrammed": {
		fires: []string{`external_lb_balancer_condition{pod="a",balancer="edge",condition="Programmed"} = 0`}, at: "5m", before: "4m",
		labels: "balancer=edge,condition=Programmed", summary: "Too few hosts of Balancer edge carry what they should",
		quiet: [][]string{{
			`external_lb_balancer_condition{pod="a",balancer="edge",condition="Programmed"} = 1`,
			`external_lb_balancer_condition{pod="a",balancer="edge",condition="Degraded"} = 0`,
		}},
	},
	"NoNodes": {
		fires: []string{nodes("a", 0), services("a", 1)}, at: "5m", before: "4m",
		labels: "balancer=edge", summary: "No node may be a backend of Balancer edge",
		quiet: [][]string{{nodes("a", 1), services("a", 1)}, {nodes("a", 0), services("a", 0)}, {nodes("a", 0), nodes("b", 3), services("b", 1)}},
	},
	"BalancerDegraded": {
		fires: []string{`external_lb_balancer_condition{pod="a",balancer="edge",condition="Degraded"} = 1`}, at: "1h", before: "59m",
		labels: "balancer=edge,condition=Degraded", summary: "Balancer edge has been degraded for an hour",
		quiet: [][]string{{
			`external_lb_balancer_condition{pod="a",balancer="edge",condition="Degraded"} = 0`,
			`external_lb_balancer_condition{pod="a",balancer="edge",condition="Ready"} = 1`,
		}},
	},
	"HostUnreachable": {
		fires: []string{`external_lb_host_state` + host + `,state="Unreachable"} = 1`, `external_lb_host_draining` + host + `} = 0`},
		at:    "5m", before: "4m", labels: "balancer=edge,host=lb1,state=Unreachable", summary: "Host lb1 of Balancer edge cannot be reached",
		quiet: [][]string{
			{`external_lb_host_state` + host + `,state="Unreachable"} = 0`, `external_lb_host_state` + host + `,state="Failed"} = 1`},
			{`external_lb_host_state` + host + `,state="Unreachable"} = 1`, `external_lb_host_draining` + host + `} = 1`},
		},
	},
	"DeliveryFailing": {
		fires: []string{`external_lb_host_state` + host + `,state="Failed"} = 1`, `external_lb_host_contested` + host + `} = 0`},
		at:    "10m", before: "9m", labels: "balancer=edge,host=lb1,state=Failed",
		summary: "Host lb1 of Balancer edge does not take what it should carry",
		quiet: [][]string{
			{`external_lb_host_state` + host + `,state="Failed"} = 0`},
			{`external_lb_host_state` + host + `,state="Failed"} = 1`, `external_lb_host_contested` + host + `} = 1`},
			{`external_lb_host_state` + host + `,state="Failed"} = 1`, `external_lb_host_draining` + host + `} = 1`},
		},
	},
	"HostNotProved": {
		fires: []string{
			`external_lb_host_state` + host + `,state="InSync"} = 0`, `external_lb_host_state` + host + `,state="Partial"} = 0`,
			`external_lb_host_state` + host + `,state="Delivering"} = 1`,
		}, at: "15m", before: "14m",
		labels: "balancer=edge,host=lb1", summary: "Host lb1 of Balancer edge has not proved its configuration for 15 minutes",
		quiet: [][]string{
			{`external_lb_host_state` + host + `,state="InSync"} = 0`, `external_lb_host_state` + host + `,state="Partial"} = 1`},
			{`external_lb_host_state` + host + `,state="InSync"} = 0`, `external_lb_host_draining` + host + `} = 1`},
		},
	},
	"HostContested": {
		fires: []string{`external_lb_host_contested` + host + `} = 1`}, at: "1m", before: "0s",
		labels: "balancer=edge,host=lb1", summary: "Somebody else delivers to host lb1 of Balancer edge",
		quiet: [][]string{{`external_lb_host_contested` + host + `} = 0`}},
	},
	"HostRefuses": {
		fires: []string{`external_lb_refusals` + host + `} = 1`}, at: "15m", before: "14m",
		labels: "balancer=edge,host=lb1", summary: "Host lb1 of Balancer edge refuses something",
		quiet: [][]string{{`external_lb_refusals` + host + `} = 0`}},
	},
	"HostWarns": {
		fires: []string{`external_lb_host_warning` + host + `} = 1`}, at: "5m", before: "4m",
		labels: "balancer=edge,host=lb1", summary: "Host lb1 of Balancer edge says that something is wrong",
		quiet: [][]string{{`external_lb_host_warning` + host + `} = 0`}},
	},
	"HostCrowded": {
		fires: []string{`external_lb_host_use_ratio` + host + `,resource="connections"} = 0.81`}, at: "10m", before: "9m",
		labels: "balancer=edge,host=lb1,resource=connections", summary: "Host lb1 of Balancer edge has used up 81% of its connections",
		quiet: [][]string{{`external_lb_host_use_ratio` + host + `,resource="connections"} = 0.8`}},
	},
	"ClockSkew": {
		fires: []string{`external_lb_host_clock_skew_seconds` + host + `} = -3`}, at: "5m", before: "4m",
		labels: "balancer=edge,host=lb1", summary: "The clock of host lb1 of Balancer edge differs by 3s from the manager's",
		quiet: [][]string{{`external_lb_host_clock_skew_seconds` + host + `} = 0`}},
	},
	"DaemonRestarted": {
		fires: []string{`external_lb_host_restarts_total` + host + `} = 0+1`}, at: "1m", before: "0s",
		labels: "balancer=edge,host=lb1", summary: "A daemon of host lb1 of Balancer edge was restarted, and not by external-lb",
		quiet: [][]string{{`external_lb_host_restarts_total` + host + `} = 3`},
			{`external_lb_host_restarts_total` + host + `} = 0+1`, `external_lb_host_draining` + host + `} = 1`}},
	},
	"OldWorkers": {
		fires: []string{`external_lb_host_old_workers` + host + `} = 65`}, at: "30m", before: "29m",
		labels: "balancer=edge,host=lb1", summary: "Host lb1 of Balancer edge has 65 old workers",
		quiet: [][]string{{`external_lb_host_old_workers` + host + `} = 64`}},
	},
	"NoNodeUp": {
		fires: []string{seen("nodes_up", "lb1", "0"), seen("nodes_up", "lb2", "0")}, at: "2m", before: "1m",
		labels: "balancer=edge,port=80/TCP,service_namespace=default,service_name=web", summary: "No node is up for port 80/TCP of Service default/web",
		quiet: [][]string{{seen("nodes_up", "lb1", "0"), seen("nodes_up", "lb2", "1")}},
	},
	"ConnectionsFail": {
		fires: []string{
			seen("failed_total", "lb1", "0+12"), seen("failed_total", "lb2", "0+0"),
			seen("connections_total", "lb1", "0+100"), seen("connections_total", "lb2", "0+100"),
		}, at: "12m", before: "10m",
		labels: "balancer=edge,port=80/TCP,service_namespace=default,service_name=web", summary: "No node takes 6% of the connections to port 80/TCP of Service default/web",
		quiet: [][]string{
			{seen("failed_total", "lb1", "0+5"), seen("connections_total", "lb1", "0+100")},
			{seen("failed_total", "lb1", "0+0"), seen("connections_total", "lb1", "0+0")},
		},
	},
	"PoolNearlyFull": {
		fires: pool(91, 100), at: "15m", before: "14m",
		labels: "balancer=edge,pool=public,family=ipv4", summary: "AddressPool public has given 91% of its ipv4 addresses away",
		quiet: [][]string{pool(90, 100), pool(9, 9), pool(0, 0)},
	},
	"PoolExhausted": {
		fires: []string{waiting("web", "PoolExhausted"), waiting("mail", "PoolExhausted")}, at: "5m", before: "4m",
		labels: "balancer=edge", summary: "Services of Balancer edge that wait for a free address: 2",
		quiet: [][]string{{waiting("web", "NoPool")}},
	},
	"ServiceWithoutAddress": {
		fires: []string{waiting("web", "NoPool"), waiting("mail", "PoolExhausted")}, at: "15m", before: "14m",
		labels:  "balancer=edge,service_namespace=default,service_name=web",
		summary: "Service default/web has had no address for 15 minutes",
		quiet:   [][]string{{waiting("mail", "PoolExhausted")}},
	},
	"CertificateExpiring": { // time begins at 0
		fires: certificate(-76*86400, 14*86400-1), at: "1h", before: "59m",
		labels: "balancer=edge,secret_namespace=default,secret=web", summary: "The certificate in Secret default/web expires in 13d 22h 59m 59s",
		quiet: [][]string{certificate(-76*86400, 14*86400+3600), certificate(-90*86400, 0), certificate(-43200, 43200)},
	},
	"CertificateExpiresSoon": {
		fires: certificate(-87*86400, 3*86400-1), at: "15m", before: "14m",
		labels:  "balancer=edge,secret_namespace=default,secret=web",
		summary: "The certificate in Secret default/web expires in 2d 23h 44m 59s, and nobody has renewed it",
		quiet:   [][]string{certificate(-87*86400, 3*86400+900), certificate(-90*86400, 0), certificate(-64800, 21600)},
	},
	"CertificateExpired": {
		fires: certificate(-90*86400, 0), at: "0s",
		labels: "balancer=edge,secret_namespace=default,secret=web", summary: "The certificate in Secret default/web has expired",
		quiet: [][]string{certificate(-90*86400, 1)},
	},
}

func nodes(pod string, n int) string {
	return fmt.Sprintf(`external_lb_nodes{pod=%q,balancer="edge"} = %d`, pod, n)
}

func services(pod string, n int) string {
	return fmt.Sprintf(`external_lb_services{pod=%q,balancer="edge"} = %d`, pod, n)
}

func pool(assigned, addresses int) []string {
	const of = `{instance="10.0.0.1:8080",pod="a",balancer="edge",pool="public",family="ipv4"}`
	return []string{
		fmt.Sprintf("external_lb_pool_addresses_assigned%s = %d", of, assigned),
		fmt.Sprintf("external_lb_pool_addresses%s = %d", of, addresses),
	}
}

// seen is what a host sees of a port; a value "0+3" grows by 3 a minute.
func seen(metric, host, value string) string {
	const labels = `pod="a",balancer="edge",service_namespace="default",service_name="web",port="80/TCP"`
	return fmt.Sprintf(`external_lb_service_%s{%s,host=%q} = %s`, metric, labels, host, value)
}

func waiting(name, reason string) string {
	const labels = `pod="a",balancer="edge",service_namespace="default"`
	return fmt.Sprintf(`external_lb_service_waiting{%s,service_name=%q,reason=%q} = 1`, labels, name, reason)
}

func certificate(from, expires int) []string {
	const labels = `pod="a",balancer="edge",secret_namespace="default",secret="web"`
	return []string{
		fmt.Sprintf(`external_lb_certificate_not_before_timestamp_seconds{%s} = %d`, labels, from),
		fmt.Sprintf(`external_lb_certificate_expiry_timestamp_seconds{%s} = %d`, labels, expires),
	}
}

// Each alert fires when it should, with words that say of what, and not before and not
// just below. promtool is Prometheus' own.
func TestAlerts_FireWhenTheyShould(t *testing.T) {
	alerts := readAlerts(t)
	var tests []object
	for i, a := range alerts {
		name := strings.TrimPrefix(a.Alert, "ExternalLB")
		s, told := stories[name]
		if !told || len(s.quiet) == 0 {
			t.Errorf("%s has no test", a.Alert)
			continue
		}
		tests = append(tests, s.tests(a)...)
		alerts[i].Annotations = map[string]string{"summary": a.Annotations["summary"]}
	}
	if len(stories) != len(alerts) {
		t.Errorf("%d alerts, and tests of %v", len(alerts), slices.Sorted(maps.Keys(stories)))
	}
	dir := t.TempDir()
	writeYAML(t, filepath.Join(dir, "rules.yaml"), object{"groups": []group{{"external-lb", alerts}}})
	writeYAML(t, filepath.Join(dir, "tests.yaml"), object{"rule_files": []string{"rules.yaml"}, "evaluation_interval": "1m", "tests": tests})
	promtool(t, "check", "rules", filepath.Join(dir, "rules.yaml"))
	promtool(t, "test", "rules", filepath.Join(dir, "tests.yaml"))
}

func (s story) tests(a rule) (out []object) {
	labels := maps.Clone(a.Labels)
	for pair := range strings.SplitSeq(s.labels, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			labels[name] = value
		}
	}
	fires := object{"eval_time": s.at, "alertname": a.Alert, "exp_alerts": []object{
		{"exp_labels": labels, "exp_annotations": map[string]string{"summary": s.summary}},
	}}
	cases := []object{fires}
	if s.before != "" {
		cases = append(cases, object{"eval_time": s.before, "alertname": a.Alert, "exp_alerts": []object{}})
	}
	out = append(out, object{"interval": "1m", "input_series": series(s.fires...), "alert_rule_test": cases})
	for _, metrics := range s.quiet {
		never := object{"eval_time": s.at, "alertname": a.Alert, "exp_alerts": []object{}}
		out = append(out, object{"interval": "1m", "input_series": series(metrics...), "alert_rule_test": []object{never}})
	}
	return out
}

func writeYAML(t *testing.T, path string, content any) {
	t.Helper()
	text, err := yaml.Marshal(content)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Each alert says what is wrong, how bad it is, and which section of the page says what to do.
func TestAlerts_SayWhatToDo(t *testing.T) {
	const page = "docs/troubleshooting.md"
	headings := headingsOf(t, filepath.Join(root, page))
	for _, a := range readAlerts(t) {
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" ||
			!slices.Contains([]string{"warning", "critical"}, a.Labels["severity"]) {
			t.Errorf("%s lacks a summary, a description or a severity", a.Alert)
		}
		url, heading, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		if !strings.HasSuffix(url, "/"+page) || !headings[heading] {
			t.Errorf("%s leads to %s: %s has no heading of that name", a.Alert, a.Annotations["runbook_url"], page)
		}
		labels := stories[strings.TrimPrefix(a.Alert, "ExternalLB")].labels + ","
		words := a.Annotations["summary"] + a.Annotations["description"]
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(words, -1) {
			if !strings.Contains(labels, m[1]+"=") {
				t.Errorf("%s says $labels.%s, and has no such label", a.Alert, m[1])
			}
		}
	}
}

// headingsOf a page, as GitHub names them in links.
func headingsOf(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		words := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(words, " ", "-")] = true
	}
	return out
}
