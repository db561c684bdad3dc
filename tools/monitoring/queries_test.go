package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// metric is one of the page, with its labels. A test of the controllers holds the page to the
// code.
type metric struct {
	labels    []string
	histogram bool
	used      bool
}

// fromPrometheus are labels that Prometheus adds.
var fromPrometheus = []string{"instance", "pod"}

func readMetrics(t *testing.T) map[string]*metric {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*metric{}
	rows := regexp.MustCompile("(?m)^\\| `(external_lb_\\w+)` \\| ([a-z_, ]*?) *\\| (.*)$")
	for _, row := range rows.FindAllStringSubmatch(string(page), -1) {
		out[row[1]] = &metric{labels: strings.Split(row[2], ", "), histogram: strings.HasPrefix(row[3], "histogram")}
	}
	if len(out) < 10 {
		t.Fatalf("the page has %d metrics", len(out))
	}
	return out
}

// checker holds queries to metrics.
type checker map[string]*metric

// check says what cannot be true of a query.
func (c checker) check(query string) (problems []string) {
	root, err := metricsql.Parse(plain(query))
	if err != nil {
		return []string{err.Error()}
	}
	has := map[string]bool{} // labels of any metric in the query
	var asked []string       // labels that it groups or matches by
	metricsql.VisitAll(root, func(e metricsql.Expr) {
		switch n := e.(type) {
		case *metricsql.MetricExpr:
			problems = append(problems, c.selector(n, has)...)
		case *metricsql.ModifierExpr:
			asked = append(asked, n.Args...)
		case *metricsql.AggrFuncExpr:
			asked = append(asked, n.Modifier.Args...)
		}
	})
	for _, name := range asked {
		if !has[name] && !slices.Contains(fromPrometheus, name) {
			problems = append(problems, "no metric in it has a label "+name)
		}
	}
	return problems
}

// selector notes which labels there are, and says what cannot be true of it.
func (c checker) selector(s *metricsql.MetricExpr, has map[string]bool) (problems []string) {
	for _, filters := range s.LabelFilterss {
		name := filters[0].Value // a metric's comes first
		m, known := c[name]
		if !known {
			of, bucket := strings.CutSuffix(name, "_bucket")
			if m, known = c[of]; !known || !bucket || !m.histogram {
				return []string{"there is no metric " + name}
			}
			has["le"] = true
		}
		m.used = true
		for _, label := range m.labels {
			has[label] = true
		}
		for _, f := range filters[1:] {
			if !slices.Contains(m.labels, f.Label) && !slices.Contains(fromPrometheus, f.Label) {
				problems = append(problems, name+" has no label "+f.Label)
			}
		}
	}
	return problems
}

// plain is a query without what Grafana puts into it.
func plain(query string) string { return strings.ReplaceAll(query, "$__rate_interval", "5m") }

// A query of what there is not would never show anything, and nobody would know.
func TestQueries_AreOfMetricsThatThereAre(t *testing.T) {
	c, queries := checker(readMetrics(t)), map[string]string{}
	for _, a := range readAlerts(t) {
		queries[a.Alert] = a.Expr
	}
	for name, builder := range dashboards() {
		built, err := builder.Build()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range built.Panels {
			if p.Panel == nil {
				continue // the heading of a row
			}
			for i, target := range p.Panel.Targets {
				queries[fmt.Sprintf("%s, %s, %d", name, *p.Panel.Title, i)] = target.(prometheus.Dataquery).Expr
			}
		}
		for _, v := range built.Templating.List {
			if v.Type == "query" {
				queries[name+", "+v.Name] = ofVariable(t, *v.Query.String)
			}
		}
	}
	if len(queries) < 50 {
		t.Errorf("only %d queries were looked at", len(queries))
	}
	var records []object // Prometheus' own parser is stricter
	for where, query := range queries {
		records = append(records, object{"record": fmt.Sprintf("query_%d", len(records)), "expr": plain(query)})
		for _, problem := range c.check(query) {
			t.Errorf("%s: %s: %s", where, problem, query)
		}
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	writeYAML(t, file, object{"groups": []object{{"name": "queries", "rules": records}}})
	promtool(t, "check", "rules", file)
	for name, m := range c {
		if !m.used {
			t.Errorf("no alert and no dashboard shows %s", name)
		}
	}
}

// ofVariable is a query with the metric and the label of label_values(SELECTOR, LABEL).
func ofVariable(t *testing.T, query string) string {
	t.Helper()
	m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(query)
	if m == nil {
		t.Fatalf("%s is no label_values", query)
	}
	return "count by (" + m[2] + ") (" + m[1] + ")"
}

// The checker sees what is wrong.
func TestQueries_ThatAreWrongAreSeen(t *testing.T) {
	c := checker(readMetrics(t))
	for query, wrong := range map[string]bool{
		`external_lb_refusals > 0`:                                       false,
		`external_lb_refused > 0`:                                        true,
		`external_lb_refusals{node="a"} > 0`:                             true,
		`sum by (node) (external_lb_refusals)`:                           true,
		`external_lb_refusals_bucket`:                                    true,
		`external_lb_refusals and on (state) external_lb_services`:       true,
		`sum by (le) (rate(external_lb_proof_seconds_bucket[5m]))`:       false,
		`sum by (le) (rate(external_lb_deliveries_total[5m]))`:           true,
		`sum(external_lb_deliveries_total`:                               true,
		`external_lb_refusals unless on (host) external_lb_host_warning`: false,
	} {
		if problems := c.check(query); len(problems) > 0 != wrong {
			t.Errorf("%s: %q", query, problems)
		}
	}
}
