package cli

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What runs as root for each delivery does not wait for all that a controller needs.
func TestAPreviewInitialisesNoClientOfKubernetes(t *testing.T) {
	inits := func(args ...string) string {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
		out, _ := cmd.CombinedOutput() // it fails
		return string(out)
	}
	const kubernetes = "init k8s.io/client-go/"
	if out := inits("host", "preview", t.TempDir(), "true"); strings.Contains(out, kubernetes) || !strings.Contains(out, "cannot show the candidate") {
		t.Errorf("a preview: %s", out)
	}
	if out := inits("-test.run=^$"); !strings.Contains(out, kubernetes) {
		t.Errorf("this is not how to see what is initialised: %s", out)
	}
}
