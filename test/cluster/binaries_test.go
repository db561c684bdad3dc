package cluster

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What both modules require has one version, so that it is compiled once: it is half of Kubernetes.
func TestModulesAgree(t *testing.T) {
	ours, theirs := requirements(t, "../.."), requirements(t, "kube")
	shared := 0
	for path, version := range ours {
		other, ok := theirs[path]
		if !ok {
			continue
		}
		shared++
		if other != version {
			t.Errorf("%s is %s in go.mod and %s in test/cluster/kube/go.mod", path, version, other)
		}
	}
	if shared < 40 {
		t.Errorf("only %d modules in common: is this test right?", shared)
	}
}

// requirements of a module, by path.
func requirements(t *testing.T, dir string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type module struct{ Path, Version string }
	var file struct {
		Require []module
		Replace []struct{ Old, New module }
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range file.Require {
		versions[m.Path] = m.Version
	}
	for _, r := range file.Replace {
		if _, ok := versions[r.Old.Path]; ok {
			versions[r.Old.Path] = r.New.Version
		}
	}
	return versions
}

// Older releases are those of the year before the newest, each from files of its own.
func TestReleases(t *testing.T) {
	newest, err := releaseOf("")
	if err != nil {
		t.Fatal(err)
	}
	for _, minor := range []string{"1.34", "1.35", "1.36"} {
		r, err := releaseOf(minor)
		if err != nil || !strings.HasPrefix(r.version, "v"+minor+".") {
			t.Errorf("%s is %+v: %v", minor, r, err)
		}
		dir, err := r.cache()
		if other, _ := newest.cache(); err != nil || dir == other {
			t.Errorf("%s shares %s: %v", minor, dir, err)
		}
	}
	if _, err := releaseOf("1.2"); err == nil || !strings.Contains(err.Error(), "1.34, 1.35, 1.36") {
		t.Errorf("1.2: %v", err)
	}
}

func TestKubectlFits(t *testing.T) {
	for got, want := range map[string]bool{
		"v1.37.2": true, "v1.36.0": true, "v1.38.1-gke.100": true,
		"v1.35.9": false, "v1.32.4-dispatcher": false, "v1.39.0": false, "v2.37.0": false, "": false, "v1.x.0": false,
	} {
		if oneMinorOff(got, "v1.37.2") != want {
			t.Errorf("kubectl %q for v1.37.2: %t, want %t", got, !want, want)
		}
	}
}

// The remaining time follows the calibration at first, then what was measured.
func TestProgress(t *testing.T) {
	const sizes = 100 * compiledPerSecond
	p := &progress{weight: map[string]int64{"a": sizes, "b": sizes}, total: 2 * sizes, began: time.Unix(0, 0)}
	var log strings.Builder
	words := p.follow(strings.NewReader("go: downloading x v1\na\n# b\nb.go:1: no\nb\n"), &log)
	if words != "# b\nb.go:1: no" || p.done != p.total || !strings.Contains(log.String(), " 0 %") {
		t.Errorf("done %d of %d, said %q, logged %q", p.done, p.total, words, log.String())
	}
	p.done = sizes
	fast, slow := p.at(p.began.Add(time.Minute)), p.at(p.began.Add(time.Hour))
	if !strings.Contains(fast, "50 %") || !strings.HasSuffix(slow, " min left") || fast == slow {
		t.Errorf("after a minute %q, after an hour %q", fast, slow)
	}
}
