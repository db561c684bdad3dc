package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The act before Kubernetes, as a newcomer sees it. The others are what test/e2e proves, and demo-check.
func TestFirstAct(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "external-lb")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := playFirst(t.Context(), binary, filepath.Join(dir, "cluster")); err != nil {
		t.Fatal(err)
	}
}
