// Package archtest holds the directions of imports: who may know whom.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/external-lb/external-lb/"

// rule forbids imports of a package. Names are relative to the module, or whole
// import paths; a trailing slash means everything below.
type rule struct {
	why  string
	from []string
	not  []string
}

var rules = []rule{
	{"the model and file sets know nothing but themselves",
		[]string{"internal/lb", "internal/fileset", "templates"}, []string{"internal/", "controllers", "api/", "k8s.io/", "sigs.k8s.io/"}},
	{"the kinds know nothing of what is done with them", []string{"api/v1alpha1"}, []string{"internal/", "controllers"}},
	{"siblings do not know each other",
		[]string{"internal/ipam"}, []string{"internal/translate", "internal/render", "internal/host", "internal/plan", "internal/deliver"}},
	{"siblings do not know each other",
		[]string{"internal/translate"}, []string{"internal/ipam", "internal/render", "internal/host", "internal/plan", "internal/deliver"}},
	{"render never sees Kubernetes", []string{"internal/render"},
		[]string{"k8s.io/", "sigs.k8s.io/", "api/", "internal/ipam", "internal/translate", "internal/host"}},
	{"the host's end never sees the model or Kubernetes", []string{"internal/host"},
		[]string{"internal/lb", "internal/ipam", "internal/translate", "internal/render", "api/", "k8s.io/", "sigs.k8s.io/controller-runtime"}},
	{"imports go down", []string{"internal/ipam", "internal/translate", "internal/render", "internal/host", "internal/plan", "internal/deliver", "internal/wire"},
		[]string{"controllers", "internal/cli"}},
	{"imports go down", []string{"controllers"}, []string{"internal/cli"}},
	{"what is pure takes no context, clock, logger or client",
		[]string{"internal/lb", "internal/fileset", "internal/ipam", "internal/translate", "internal/render", "internal/plan"},
		[]string{"context", "os", "net/http", "log/slog", "github.com/go-logr/logr", "sigs.k8s.io/controller-runtime/", "k8s.io/client-go/"}},
}

func TestImportsGoDown(t *testing.T) {
	imports := list(t)
	for _, r := range rules {
		for _, from := range r.from {
			direct, ok := imports[module+from]
			if !ok {
				t.Errorf("there is no package %s", from)
			}
			for _, imported := range direct {
				if slices.ContainsFunc(r.not, func(not string) bool { return matches(imported, not) }) {
					t.Errorf("%s imports %s: %s", from, imported, r.why)
				}
			}
		}
	}
}

func matches(imported, not string) bool {
	for _, name := range []string{not, module + not} {
		if imported == name || strings.HasSuffix(name, "/") && strings.HasPrefix(imported, name) {
			return true
		}
	}
	return false
}

// list finds the direct imports of every package of the module, without tests.
func list(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for decoder := json.NewDecoder(out); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		found[p.ImportPath] = p.Imports
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return found
}
