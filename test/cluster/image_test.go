package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// tarOf files, each a name and its text.
func tarOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// imageOf an architecture, as a layout, whose second layer has what it starts.
func imageOf(t *testing.T, arch, starts string) string {
	t.Helper()
	layers := []string{"etc/motd", "ko-app/external-lb"}
	for i, name := range layers {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := w.Write(tarOf(t, name, "the program")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layers[i] = zipped.String()
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	text := tarOf(t,
		"blobs/sha256/1", fmt.Sprintf(`{"manifests": [
			{"digest": "sha256:9", "platform": {"os": "windows", "architecture": "%s"}},
			{"digest": "sha256:2", "platform": {"os": "linux", "architecture": "%s"}}]}`, arch, arch),
		"blobs/sha256/2", `{"config": {"digest": "sha256:3"}, "layers": [{"digest": "sha256:4"}, {"digest": "sha256:5"}]}`,
		"blobs/sha256/3", fmt.Sprintf(`{"config": {"Entrypoint": [%q]}}`, starts),
		"blobs/sha256/4", layers[0], "blobs/sha256/5", layers[1],
		"index.json", `{"manifests": [{"digest": "sha256:1"}]}`)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImage_HasTheProgramOfThisMachine(t *testing.T) {
	to := filepath.Join(t.TempDir(), "program")
	if err := layout(imageOf(t, runtime.GOARCH, "/ko-app/external-lb")).program(to); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(to)
	if info, statErr := os.Stat(to); err != nil || statErr != nil || string(text) != "the program" || info.Mode() != 0o755 {
		t.Errorf("it has %q, %v, %v", text, err, statErr)
	}
	empty := filepath.Join(t.TempDir(), "empty.tar")
	if err := os.WriteFile(empty, tarOf(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, image := range map[string]string{
		"no image in it is for linux/" + runtime.GOARCH: imageOf(t, "of-others", "/ko-app/external-lb"),
		"no layer has /ko-app/other":                    imageOf(t, runtime.GOARCH, "/ko-app/other"),
		"index.json: file does not exist":               empty,
	} {
		if err := layout(image).program(to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
