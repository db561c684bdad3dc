package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// The tutorial, typed as it is written, but for the demo that it starts from:
// this lab is one.
func TestTutorial(t *testing.T) {
	if engine.name != v1alpha1.EngineNginx {
		t.Skip("not applicable: the tutorial is about a demo with nginx")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "tutorial.md"))
	must(t, err)
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin", "testcluster"), "../cluster/cmd/testcluster")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	script := "set -euo pipefail\n"
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		switch language, body := block[1], block[2]; {
		case language == "yaml":
			script += "cat > hello.yaml <<'END'\n" + body + "END\n"
		case strings.HasPrefix(body, "make demo"):
		default:
			script += "set -x\n" + body + "set +x\n"
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = dir
	// Where testcluster looks for a cluster when no directory is given.
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+filepath.Dir(clusterDir))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"EnsuredLoadBalancer", `"app":"hello"`, "default.hello.", `service "hello" deleted`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("there is no %s in\n%s", want, out)
		}
	}
}
