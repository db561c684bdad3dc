package release

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// blobs of an image's layout, by name.
type blobs map[string][]byte

func layout(t *testing.T, path string) blobs {
	t.Helper()
	out := blobs{}
	for r := tar.NewReader(bytes.NewReader(read(t, path))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

type descriptor struct {
	Digest      string
	Annotations map[string]string
	Platform    struct{ OS, Architecture string }
}

// get reads what a descriptor names, whose digest must be true.
func (b blobs) get(t *testing.T, d descriptor, into any) []byte {
	t.Helper()
	_, sum, _ := strings.Cut(d.Digest, ":")
	data := b["blobs/sha256/"+sum]
	if have := sha256.Sum256(data); hex.EncodeToString(have[:]) != sum {
		t.Fatalf("%s is not there", d.Digest)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// The image has the same programs, runs as nobody, and nothing else is in it.
func TestImageHasThePrograms(t *testing.T) {
	dist := built(t)
	all := layout(t, filepath.Join(dist, "external-lb-image.tar"))
	type index struct{ Manifests []descriptor }
	var outer, images index
	if err := json.Unmarshal(all["index.json"], &outer); err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("index %+v, %v", outer, err)
	}
	if got := outer.Manifests[0].Annotations["org.opencontainers.image.ref.name"]; got != version {
		t.Errorf("it is called %q", got)
	}
	all.get(t, outer.Manifests[0], &images)
	if len(images.Manifests) != len(architectures) {
		t.Fatalf("images %+v", images)
	}
	for i, arch := range architectures {
		if p := images.Manifests[i].Platform; p.OS != "linux" || p.Architecture != arch {
			t.Errorf("image %d is for %+v", i, p)
		}
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		var config struct {
			Config struct {
				User       string
				Entrypoint []string
			}
		}
		all.get(t, images.Manifests[i], &manifest)
		all.get(t, manifest.Config, &config)
		if c := config.Config; c.User != "65532:65532" || len(c.Entrypoint) != 1 { // the user of config/manager, who is not root
			t.Fatalf("it runs %+v", c)
		}
		files := map[string][]byte{}
		for _, layer := range manifest.Layers {
			unpack(t, all.get(t, layer, nil), files)
		}
		program := strings.TrimPrefix(config.Config.Entrypoint[0], "/")
		if !bytes.Equal(files[program], read(t, dist, "external-lb-linux-"+arch)) {
			t.Errorf("/%s of %s is another program", program, arch)
		}
		if delete(files, program); len(files) != 0 {
			t.Errorf("also in it: %d files", len(files))
		}
	}
}

// The workflow pushes the image in this way.
func TestImageCanBePushed(t *testing.T) {
	crane := filepath.Join(t.TempDir(), "crane")
	run(t, root+"/tools/release", "go", "build", "-o", crane, "github.com/google/go-containerregistry/cmd/crane")
	registry := exec.CommandContext(t.Context(), crane, "registry", "serve", "--address", "127.0.0.1:0")
	said, err := registry.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Wait() }) // it is killed with the test
	first, err := bufio.NewReader(said).ReadString('\n')
	_, port, serves := strings.Cut(strings.TrimSpace(first), "serving on port ")
	if err != nil || !serves {
		t.Fatalf("the registry says %q, %v", first, err)
	}
	dir, target := t.TempDir(), "127.0.0.1:"+port+"/external-lb:"+version
	run(t, ".", "tar", "-xf", filepath.Join(built(t), "external-lb-image.tar"), "-C", dir)
	pushed := strings.TrimSpace(run(t, ".", crane, "push", "--insecure", dir, target))
	for _, arch := range architectures {
		run(t, ".", crane, "validate", "--insecure", "--platform", "linux/"+arch, "--remote", target)
	}
	var index struct{ Manifests []descriptor }
	if err := json.Unmarshal(read(t, dir, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(pushed, "/external-lb@"+index.Manifests[0].Digest) {
		t.Errorf("pushed is %s, built %s", pushed, index.Manifests[0].Digest)
	}
}

// unpack the files of a layer.
func unpack(t *testing.T, layer []byte, files map[string][]byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			files[strings.TrimPrefix(h.Name, "/")] = data
		}
	}
}

// Each module that is in a program is in its bill, in its version.
func TestBillsOfMaterialsNameTheModules(t *testing.T) {
	dist := built(t)
	for _, arch := range architectures {
		var bill struct {
			SPDXVersion string `json:"spdxVersion"`
			Packages    []struct{ Name, VersionInfo string }
		}
		if err := json.Unmarshal(read(t, dist, "external-lb-linux-"+arch+".spdx.json"), &bill); err != nil {
			t.Fatal(err)
		}
		versions := map[string]string{}
		for _, p := range bill.Packages {
			versions[p.Name] = p.VersionInfo
		}
		info, err := buildinfo.ReadFile(filepath.Join(dist, "external-lb-linux-"+arch))
		if err != nil {
			t.Fatal(err)
		}
		if _, itself := versions[info.Main.Path]; !itself || !strings.HasPrefix(bill.SPDXVersion, "SPDX-2") || len(info.Deps) == 0 {
			t.Errorf("%s of %d modules: %v", bill.SPDXVersion, len(info.Deps), versions)
		}
		for _, m := range info.Deps {
			if versions[m.Path] != m.Version {
				t.Errorf("the bill for %s has %s %q, the program %s", arch, m.Path, versions[m.Path], m.Version)
			}
		}
	}
}

// What is applied in one go is what the README applies, with the image of this version.
func TestManifestsAreThoseOfTheTree(t *testing.T) {
	image := regexp.MustCompile(`image: ghcr\.io/external-lb/external-lb:\S+\n`)
	tree := run(t, root, "go", "tool", "-modfile=tools/release/go.mod", "kustomize", "build", "config/default")
	want := image.ReplaceAllString(tree, "image: ghcr.io/external-lb/external-lb:"+version+"\n")
	if diff := cmp.Diff(want, string(read(t, built(t), "install.yaml"))); diff != "" {
		t.Error(diff)
	}
	if len(image.FindAllString(tree, -1)) != 1 {
		t.Error("config/default has no image, or several")
	}
}

// The chart has this version in both of its fields, so it takes the image of this version.
func TestChartIsOfThisVersion(t *testing.T) {
	helm := strings.TrimSpace(run(t, root+"/tools/helm", "go", "tool", "-n", "helm"))
	chart := filepath.Join(built(t), "external-lb-"+number+".tgz")
	home := t.TempDir()
	command := func(args ...string) string {
		env := []string{"env", "HELM_CONFIG_HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_DATA_HOME=" + home}
		return run(t, ".", slices.Concat(env, []string{helm}, args)...)
	}
	render := func(from string) string {
		return command("template", "external-lb", from, "--namespace", "edge", "--skip-tests")
	}
	field := func(name string) string {
		return regexp.MustCompile(`(?m)^` + name + `: (\S+)$`).FindStringSubmatch(string(read(t, root, "charts/external-lb/Chart.yaml")))[1]
	}
	ofThis := strings.NewReplacer("external-lb-"+field("version")+"\n", "external-lb-"+number+"\n", field("appVersion"), version)
	if diff := cmp.Diff(ofThis.Replace(render(root+"/charts/external-lb")), render(chart)); diff != "" {
		t.Error("the packaged chart is another one:", diff)
	}
}
