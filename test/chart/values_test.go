package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// forCharts are values that a chart hands to those which it includes.
var forCharts = []string{"global", "enabled"}

// Every value is in the schema, and the schema knows no others.
func TestValues_AreThoseOfTheSchema(t *testing.T) {
	var values, schema object
	for file, into := range map[string]*object{"values.yaml": &values, "values.schema.json": &schema} {
		text, err := os.ReadFile(filepath.Join(chart, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			t.Fatal(file, err)
		}
	}
	properties := schema["properties"].(object)
	for _, name := range forCharts {
		if properties[name] == nil {
			t.Errorf("the schema lacks %s", name)
		}
		delete(properties, name)
	}
	alike(t, "", values, schema)
}

func alike(t *testing.T, path string, values, schema object) {
	t.Helper()
	properties, fixed := schema["properties"].(object)
	if !fixed {
		return // what the user calls it
	}
	if schema["additionalProperties"] != false {
		t.Errorf("%s: the schema takes a value with any name", path)
	}
	for name, value := range values {
		property, known := properties[name].(object)
		if !known {
			t.Errorf("%s.%s is not in the schema", path, name)
			continue
		}
		if inner, ok := value.(object); ok && name != "resources" { // a container's, of which we say a part
			alike(t, path+"."+name, inner, property)
		}
	}
	for name := range properties {
		if _, has := values[name]; !has {
			t.Errorf("%s.%s is in the schema, and values.yaml does not say what it is", path, name)
		}
	}
}

// A value that cannot be meant is refused, by its name.
func TestValues_ThatCannotBeMeantAreRefused(t *testing.T) {
	for value, word := range map[string]string{
		"replicas=3":                           "replicas",
		"replicaCount=two":                     "replicaCount",
		"image.digest=sha256:12":               "digest",
		"image.tag=a tag":                      "tag",
		"log.level=loud":                       "level",
		"metrics.port=0":                       "port",
		"metrics.serviceMonitor.interval=fast": "interval",
		"podDisruptionBudget.minAvailable=all": "minAvailable",
		"tls=true":                             "tls",
		"ui.address=:80":                       "address",
		"ui.service.hosts[0]=a b":              "hosts",
		"provider.enabled=true":                "args",
		"provider.port=0":                      "port",
		"goMemLimit=1Gi":                       "goMemLimit",
		"resources.limits.memory=1e9":          "goMemLimit",
		"tolerations.key=a":                    "tolerations",
		"livenessProbe.httpGet.path=/":         "httpGet",
	} {
		if out, err := render(t, value); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: want an error that names %s, got %v\n%s", value, word, err, out)
		}
	}
}

func TestMemoryForGo_FollowsTheLimit(t *testing.T) {
	for value, want := range map[string]string{
		"resources.limits.memory=1Gi":       "921MiB",
		"resources.limits.memory=512Mi":     "460MiB",
		"resources.limits.memory=1.5Gi":     "1382MiB",
		"resources.limits.memory=1G":        "858MiB",
		"resources.limits.memory=268435456": "230MiB",
		"resources.limits.memory=":          "",
		"resources.limits=null":             "",
		"goMemLimit=off":                    "off",
		"goMemLimit=700MiB":                 "700MiB",
	} {
		text, err := render(t, value)
		if err != nil {
			t.Error(err)
			continue
		}
		_, rest, _ := strings.Cut(text, "{name: GOMEMLIMIT, value: \"")
		got, _, _ := strings.Cut(rest, "\"")
		if len(rest) == 0 {
			got = ""
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}

// Another chart can include this one, under a condition, and set its values.
func TestChart_CanBeIncluded(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "charts", "external-lb"), os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: edge\nversion: 1.0.0\n" +
			"dependencies: [{name: external-lb, version: '*', repository: '', condition: external-lb.enabled}]\n",
		"values.yaml": "global: {team: net}\nexternal-lb: {enabled: true, replicaCount: 3}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := helm(t, "template", "edge", dir)
	if err != nil {
		t.Fatal(err)
	}
	deployment := parse(t, text)["Deployment default/edge-external-lb"]
	if deployment == nil || deployment["spec"].(object)["replicas"] != 3.0 {
		t.Errorf("got %v", deployment)
	}
}

// The values on the page about clouds bring a provider beside the manager that its commands take.
func TestChart_RunsAProvider(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/howto/cloud.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, values, _ := strings.Cut(string(page), "```yaml\nprovider:\n")
	values, _, _ = strings.Cut("provider:\n"+values, "```")
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := helm(t, "template", "lb", chart, "--values", file)
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, o := range parse(t, text) {
		if o["kind"] != "Deployment" {
			continue
		}
		for _, c := range o["spec"].(object)["template"].(object)["spec"].(object)["containers"].([]any) {
			if c := c.(object); c["name"] == "provider" {
				for _, a := range c["args"].([]any) {
					args = append(args, a.(string))
				}
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "."}, args...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/etc/external-lb/provider/token") {
		t.Errorf("want it to miss its token, which Kubernetes brings, and it says of %q: %v\n%s", args, err, out)
	}
}
