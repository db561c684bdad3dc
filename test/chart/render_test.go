// Package chart holds charts/external-lb to what it says: what it renders is what
// config/ has, its values are those of its schema, and Helm installs, upgrades and
// removes it on a real cluster.
package chart

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const (
	root  = "../.."
	chart = root + "/charts/external-lb"
)

var update = flag.Bool("update", false, "write the files in testdata anew")

// object is one of Kubernetes, of any kind.
type object = map[string]any

// tool builds a program of tools/helm, once, and says where it is.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := tools(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var tools = func() func(string) (string, error) {
	var mu sync.Mutex
	built := map[string]string{}
	return func(name string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if built[name] != "" {
			return built[name], nil
		}
		cmd := exec.Command("go", "tool", "-n", "-modfile=tools/helm/go.mod", name)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w", cmd, err)
		}
		built[name] = strings.TrimSpace(string(out))
		return built[name], nil
	}
}()

// helm runs Helm with nothing of the user's.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "helm"), args...)
	cmd.Env = helmEnv(t.TempDir())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), err
}

func helmEnv(home string) []string {
	return append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home)
}

// render is what Helm makes of the chart under the names that config/ has.
func render(t *testing.T, values ...string) (string, error) {
	t.Helper()
	args := []string{"template", "external-lb", chart, "--namespace", "external-lb-system"}
	for _, v := range values {
		args = append(args, "--set", v)
	}
	return helm(t, args...)
}

// kustomize builds config/default with components.
func kustomize(t *testing.T, components ...string) string {
	t.Helper()
	dir := t.TempDir()
	config, err := filepath.Abs(root + "/config")
	if err != nil {
		t.Fatal(err)
	}
	config, err = filepath.Rel(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	text := "resources: [" + config + "/default]\ncomponents:\n"
	for _, c := range components {
		text += "- " + config + "/components/" + c + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tool(t, "kustomize"), "build", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// parse reads objects, each under its kind, namespace and name.
func parse(t *testing.T, manifests string) map[string]object {
	t.Helper()
	out := map[string]object{}
	for _, text := range regexp.MustCompile(`(?m)^---$`).Split(manifests, -1) {
		var o object
		if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if o == nil {
			continue
		}
		meta, _ := o["metadata"].(object)
		key := fmt.Sprintf("%v %v/%v", o["kind"], meta["namespace"], meta["name"])
		if out[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		out[key] = o
	}
	return out
}

// notInChart are objects of config/ that the chart leaves out, each with its reason.
var notInChart = map[string]string{
	"Namespace <nil>/external-lb-system":                       "Helm makes the release's, or finds it",
	"ValidatingAdmissionPolicy <nil>/external-lb-guard":        guardless,
	"ValidatingAdmissionPolicyBinding <nil>/external-lb-guard": guardless,
}

const guardless = "without the guard `helm uninstall` takes the manager alone, and leaves the kinds and what uses them"

// With the values that stand for a component, the chart has the objects that
// kustomize makes of it, with Helm's labels.
func TestChart_AgreesWithKustomize(t *testing.T) {
	components := map[string][]string{
		"tls":            {"tls.enabled=true"},
		"pods":           {"pods.enabled=true"},
		"metrics":        {"metrics.serviceMonitor.enabled=true"},
		"network-policy": {"networkPolicy.enabled=true"},
		"alerts":         {"metrics.prometheusRule.enabled=true"},
		"dashboards":     {"metrics.dashboards.enabled=true"},
		"ui":             {"ui.enabled=true"},
		"ui-service":     {"ui.service.enabled=true"},
	}
	all := slices.Sorted(maps.Keys(components))
	dirs, err := filepath.Glob(root + "/config/components/*")
	if err != nil || len(dirs) != len(all) {
		t.Errorf("%d components, of which the chart has %v: %v", len(dirs), all, err)
	}
	tests := map[string][]string{"default": nil}
	for _, c := range all {
		if tests[c] = []string{c}; c != "ui" { // ui-service is in its place
			tests["all"] = append(tests["all"], c)
		}
	}
	for name, with := range tests {
		t.Run(name, func(t *testing.T) {
			var values []string
			for _, c := range with {
				values = append(values, components[c]...)
			}
			text, err := render(t, values...)
			if err != nil {
				t.Fatal(err)
			}
			got, want := parse(t, text), parse(t, kustomize(t, with...))
			for key := range notInChart {
				if want[key] == nil {
					t.Errorf("config/ has no %s", key)
				}
				delete(want, key)
			}
			for key, o := range got {
				withoutHelms(o, want[key])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("config (-) and chart (+) differ:\n%s", diff)
			}
		})
	}
}

// withoutHelms takes from a chart's object what Helm's objects have more.
func withoutHelms(o, want object) {
	meta := o["metadata"].(object)
	wanted, _ := want["metadata"].(object)
	for field, keys := range map[string][]string{
		"labels": {"helm.sh/chart", "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by",
			"app.kubernetes.io/version"},
		"annotations": {"helm.sh/resource-policy"},
	} {
		has, _ := meta[field].(object)
		theirs, _ := wanted[field].(object)
		for _, key := range keys {
			if theirs[key] == nil {
				delete(has, key)
			}
		}
		if len(has) == 0 {
			delete(meta, field)
		}
	}
}

func TestChart_HasNothingToCriticize(t *testing.T) {
	if out, err := helm(t, "lint", "--strict", chart); err != nil || strings.Contains(out, "[WARNING]") {
		t.Error(out, err)
	}
}

// What is compared with config/ above is in no golden file: rules of roles, alerts,
// dashboards. Nor are the kinds.
var (
	rules  = regexp.MustCompile(`(?m)^rules:\n([- ].*\n)+`)
	copied = regexp.MustCompile(`(?m)^(  groups|data):\n(  .*\n)+`)
)

// What Helm renders of each file of values in testdata.
func TestChart_Golden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name, _ := strings.CutSuffix(file, ".values.yaml")
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, err := helm(t, "template", "lb", chart, "--namespace", "edge", "--set", "crds.enabled=false", "--values", file)
			if err != nil {
				t.Fatal(err)
			}
			parse(t, got)
			got = rules.ReplaceAllString(got, "rules: # of config/\n")
			got = copied.ReplaceAllString(got, "$1: # of config/\n")
			golden := name + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("run it with -update and look at the change of %s:\n%s", golden, diff)
			}
		})
	}
}
