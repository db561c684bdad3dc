package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/freeport"
	"github.com/external-lb/external-lb/test/wait"
)

// A real Prometheus asks the manager. Dashboards show something; alerts are quiet while all
// is well, tell of a host that is down, and of nothing else.
func TestMonitoring_TellsOfAHostThatIsDown(t *testing.T) {
	if engine.name != v1alpha1.EngineNginx {
		t.Skip("not applicable: metrics and alerts are the same on every engine")
	}
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	s.published(svc)
	s.inSync(balancer)
	p := startPrometheus(t, env.Manager.Metrics)
	p.alerts(t)
	p.shows(t, "$balancer", balancer, "$service_namespace", svc.Namespace, "$service_name", svc.Name, "$__rate_interval", "1m")

	h, err := env.Host("lb2")
	must(t, err)
	must(t, h.PowerOff(t.Context()))
	t.Cleanup(func() { // where the test has failed before
		if t.Failed() {
			_ = h.PowerOn(context.Background())
		}
	})
	p.alerts(t, "ExternalLBBalancerDegraded of edge", "ExternalLBHostNotProved of lb2", "ExternalLBHostUnreachable of lb2")
	must(t, h.PowerOn(t.Context()))
	s.inSync(balancer)
	p.alerts(t)
}

// prometheus is one that runs until the test ends.
type prometheus struct{ url string }

// startPrometheus collects metrics, and has the alerts of config/, which wait for a second only.
func startPrometheus(t *testing.T, metrics string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("../../config/components/alerts/prometheus_rule.yaml")
	must(t, err)
	_, rules, _ := strings.Cut(string(text), "\nspec:\n")
	rules = regexp.MustCompile(`(?m)^( +for: ).*$`).ReplaceAllString(rules, "${1}1s")
	target, _ := strings.CutPrefix(metrics, "http://")
	target, path, _ := strings.Cut(target, "/")
	config := fmt.Sprintf(`global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [rules.yaml]
scrape_configs:
- {job_name: external-lb, metrics_path: /%s, static_configs: [{targets: ["%s"]}]}
`, path, target)
	for name, content := range map[string]string{"rules.yaml": rules, "prometheus.yaml": config} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	address := freeport.On(t, "127.0.0.1").String()
	var log strings.Builder
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yaml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return &prometheus{"http://" + address}
}

// get asks the API.
func (p *prometheus) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Data  any
		Error string
	}{Data: into}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// mayBeEmpty are metrics that a cluster has only where something is wrong, or has certificates,
// a provider, or whose engine tells more than nginx.
var mayBeEmpty = regexp.MustCompile(`external_lb_(service_waiting|provider_|certificate_|service_(connections|refused|failed|received_bytes|sent_bytes)_total|service_nodes_)`)

// shows waits until each query of the dashboards has an answer, with what the user chose:
// names and values of variables.
func (p *prometheus) shows(t *testing.T, chosen ...string) {
	t.Helper()
	chooses := strings.NewReplacer(chosen...)
	files, err := filepath.Glob("../../config/components/dashboards/*.json")
	must(t, err)
	count := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		must(t, json.Unmarshal(text, &dashboard))
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				count++
				p.answers(t, filepath.Base(file)+", "+panel.Title, chooses.Replace(target.Expr))
			}
		}
	}
	if count < 30 {
		t.Errorf("%d files with %d queries", len(files), count)
	}
}

// answers waits until a query has an answer.
func (p *prometheus) answers(t *testing.T, where, query string) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		var answer struct{ Result []any }
		if err := p.get(ctx, "query?query="+url.QueryEscape(query), &answer); err != nil {
			return wait.GiveUp(fmt.Errorf("%s: %s: %w", where, query, err))
		}
		if len(answer.Result) == 0 && !mayBeEmpty.MatchString(query) {
			return fmt.Errorf("%s shows nothing: %s", where, query)
		}
		return nil
	})
}

// alerts waits until those that fire are these, and none is about to. All rules are
// looked at with what was collected meanwhile.
func (p *prometheus) alerts(t *testing.T, want ...string) {
	t.Helper()
	began := time.Now()
	wait.For(t, func(ctx context.Context) error {
		if err := p.works(ctx, began); err != nil {
			return err
		}
		var now struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
		if err := p.get(ctx, "alerts", &now); err != nil {
			return err
		}
		var got []string
		for _, a := range now.Alerts {
			switch {
			case a.Labels["resource"] == "memory": // that of the machine on which the tests run
			case a.State == "firing":
				got = append(got, a.Labels["alertname"]+" of "+cmp.Or(a.Labels["host"], a.Labels["balancer"]))
			default:
				got = append(got, fmt.Sprintf("%s %v", a.State, a.Labels))
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("alerts %q, want %q", got, want)
		}
		return nil
	})
}

// works says what keeps alerts from being of what was collected since some time.
func (p *prometheus) works(ctx context.Context, since time.Time) error {
	var collected struct {
		ActiveTargets []struct {
			Health, LastError string
			LastScrape        time.Time
		}
	}
	var looked struct {
		Groups []struct {
			Rules []struct {
				Name, Health, LastError string
				LastEvaluation          time.Time
			}
		}
	}
	if err := errors.Join(p.get(ctx, "targets", &collected), p.get(ctx, "rules", &looked)); err != nil {
		return err
	}
	if len(collected.ActiveTargets) != 1 || len(looked.Groups) != 1 || len(looked.Groups[0].Rules) == 0 {
		return fmt.Errorf("targets %+v, rules %+v", collected, looked)
	}
	manager := collected.ActiveTargets[0]
	if manager.Health != "up" || manager.LastScrape.Before(since) {
		return fmt.Errorf("the manager is %s, asked at %s: %s", manager.Health, manager.LastScrape, manager.LastError)
	}
	for _, r := range looked.Groups[0].Rules {
		if r.Health != "ok" || r.LastEvaluation.Before(since.Add(2*time.Second)) { // later than an alert waits
			return fmt.Errorf("%s is %s, looked at at %s: %s", r.Name, r.Health, r.LastEvaluation, r.LastError)
		}
	}
	return nil
}
