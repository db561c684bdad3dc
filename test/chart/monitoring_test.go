package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/howto/monitoring.md says to add to kustomize, and to the values of the chart,
// makes the same.
func TestMonitoring_IsAsThePageSays(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/howto/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	components := regexp.MustCompile("```yaml\ncomponents: \\[(.*)\\]\n").FindStringSubmatch(string(page))
	values := regexp.MustCompile("(?s)```yaml\n(metrics:\n.*?)```").FindStringSubmatch(string(page))
	if components == nil || values == nil {
		t.Fatal("the page has no components, or no values")
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := helm(t, "template", "external-lb", chart, "--namespace", "external-lb-system", "--values", file)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.ReplaceAll(components[1], "../components/", ""), ", ")
	made, charted := parse(t, kustomize(t, names...)), parse(t, text)
	for _, key := range []string{
		"Service external-lb-system/external-lb-metrics", "ServiceMonitor external-lb-system/external-lb",
		"PrometheusRule external-lb-system/external-lb", "ConfigMap external-lb-system/external-lb-dashboards",
	} {
		if made[key] == nil || charted[key] == nil {
			t.Errorf("%s: kustomize makes %t, the chart %t", key, made[key] != nil, charted[key] != nil)
		}
	}
}
