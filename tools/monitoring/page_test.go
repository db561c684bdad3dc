package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

const page = root + "/docs/howto/monitoring.md"

func readPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The table has every alert with its severity, and no other.
func TestPage_ListsTheAlerts(t *testing.T) {
	told := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(ExternalLB\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(readPage(t), -1) {
		told[row[1]] = row[2]
	}
	alerts := readAlerts(t)
	for _, a := range alerts {
		if told[a.Alert] != a.Labels["severity"] {
			t.Errorf("the page says of %s that it is %q, which is %s", a.Alert, told[a.Alert], a.Labels["severity"])
		}
	}
	if len(told) != len(alerts) {
		t.Errorf("the page has %d alerts of %d", len(told), len(alerts))
	}
}

// A Prometheus without the operator takes what the page says, with the rules that the
// command of the page writes.
func TestPage_IsTakenByPrometheus(t *testing.T) {
	text, dir := readPage(t), t.TempDir()
	config := regexp.MustCompile("(?s)```yaml\n(rule_files:.*?)```").FindStringSubmatch(text)
	command := regexp.MustCompile("```sh\n(sed .*)\n```").FindStringSubmatch(text)
	if config == nil || command == nil {
		t.Fatal("the page has no configuration of Prometheus, or no command for its rules")
	}
	absolute, err := filepath.Abs(root + "/config")
	if err == nil {
		err = os.Symlink(absolute, filepath.Join(dir, "config"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "prometheus.yaml"), []byte(config[1]), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), "bash", "-ec", command[1])
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	promtool(t, "check", "rules", filepath.Join(dir, "external-lb.rules.yaml"))
	promtool(t, "check", "config", filepath.Join(dir, "prometheus.yaml"))
}
