package release

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// krew's manifest of the plugin, as far as we write it.
type krew struct {
	APIVersion, Kind string
	Metadata         struct{ Name string }
	Spec             struct {
		Version, Homepage, ShortDescription, Description, Caveats string

		Platforms []struct {
			Selector         struct{ MatchLabels map[string]string }
			URI, SHA256, Bin string
		}
	}
}

// krew's manifest names what is released, by its digest, and what is in it runs as a plugin.
// krew itself would have to fetch it.
func TestKrewManifestIsTrue(t *testing.T) {
	dist := built(t)
	var plugin krew
	if err := yaml.UnmarshalStrict(read(t, dist, "external-lb-krew.yaml"), &plugin); err != nil {
		t.Fatal(err)
	}
	s := plugin.Spec
	if plugin.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || plugin.Kind != "Plugin" || plugin.Metadata.Name != "external-lb" ||
		s.Version != version || len(s.ShortDescription) > 50 || s.Description == "" || s.Homepage == "" {
		t.Errorf("it says %+v", plugin)
	}
	if len(s.Platforms) != len(architectures) {
		t.Fatalf("%d platforms", len(s.Platforms))
	}
	for i, arch := range architectures {
		p := s.Platforms[i]
		if p.Selector.MatchLabels["os"] != "linux" || p.Selector.MatchLabels["arch"] != arch || !strings.Contains(p.URI, "/releases/download/"+version+"/") {
			t.Errorf("platform %d is %+v, want %s", i, p, arch)
		}
		data := read(t, dist, path.Base(p.URI))
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != p.SHA256 {
			t.Errorf("%s has another digest", p.URI)
		}
		files := map[string][]byte{}
		unpack(t, data, files)
		if len(files) != 2 || len(files["LICENSE"]) == 0 || string(files[p.Bin]) != string(read(t, dist, "external-lb-linux-"+arch)) {
			t.Errorf("%s has %d files, or another program", p.URI, len(files))
		}
		if arch == runtime.GOARCH {
			program := filepath.Join(t.TempDir(), "kubectl-external_lb")
			if err := os.WriteFile(program, files[p.Bin], 0o755); err != nil {
				t.Fatal(err)
			}
			if help := run(t, ".", program, "check", "--help"); !strings.Contains(help, "kubectl external-lb check") {
				t.Errorf("it is no plugin:\n%s", help)
			}
		}
	}
}
