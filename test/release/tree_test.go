package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// copied is the tree as it is, without its history, in another place.
func copied(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "elsewhere")
	for name := range strings.SplitSeq(strings.TrimRight(run(t, root, "git", "ls-files", "-z", "--cached"), "\x00"), "\x00") {
		from, to := filepath.Join(root, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, info.Mode()&0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run returns what a command prints.
func run(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = dir
	var said strings.Builder // such as which modules are downloaded
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", argv, err, out, &said)
	}
	return string(out)
}

// What is applied after make deploy with an image has that image still.
func TestDeployKeepsTheImage(t *testing.T) {
	tree := copied(t)
	for _, image := range []string{"registry.example.net:5000/mine:v1", "registry.example.net/mine@sha256:" + strings.Repeat("a", 64)} {
		fake := filepath.Join(t.TempDir(), "kubectl") // there is no cluster
		if err := os.WriteFile(fake, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, tree, "env", "PATH="+filepath.Dir(fake)+":"+os.Getenv("PATH"), "make", "-s", "deploy", "IMG="+image)
		applied := run(t, tree, "go", "tool", "-modfile=tools/release/go.mod", "kustomize", "build", "config/default")
		if !strings.Contains(applied, "image: "+image+"\n") {
			t.Errorf("%s is not in:\n%s", image, applied)
		}
	}
}
