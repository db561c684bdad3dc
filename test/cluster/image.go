package cluster

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// layout is an image as an OCI layout, in a tar.
type layout string

// descriptor names a blob of a layout.
type descriptor struct {
	Digest   string
	Platform struct{ OS, Architecture string }
}

// manifest is one of an image, or an index of such.
type manifest struct {
	Manifests []descriptor
	Config    descriptor
	Layers    []descriptor
}

// ProgramOf writes the program of an image, an OCI layout in a tar, into the cluster's directory, and says where.
// A file that is no layout is a program itself.
func (c *Cluster) ProgramOf(file string) (string, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	if filepath.Ext(file) == ".tar" {
		to := filepath.Join(c.dir, "images", filepath.Base(file)+".program")
		if err := layout(file).program(to); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		return to, nil
	}
	info, err := os.Stat(file)
	if err == nil && info.Mode()&0o111 == 0 {
		err = fmt.Errorf("%s is neither a program nor the .tar of an image", file)
	}
	return file, err
}

// program writes what the image for this machine starts to a file.
func (l layout) program(to string) error {
	m, err := l.manifest()
	if err != nil {
		return err
	}
	var config struct{ Config struct{ Entrypoint []string } }
	if err := l.decode(m.Config.blob(), &config); err != nil {
		return err
	}
	if len(config.Config.Entrypoint) == 0 {
		return errors.New("the image does not say what it starts")
	}
	name := config.Config.Entrypoint[0]
	for _, layer := range slices.Backward(m.Layers) {
		err = l.read(layer.blob(), func(r io.Reader) error {
			files, err := gzip.NewReader(r)
			if err != nil {
				return err
			}
			return find(files, name, func(r io.Reader) error { return writeProgram(to, r) })
		})
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("no layer has %s", name)
}

// manifest of the image for this machine.
func (l layout) manifest() (m manifest, err error) {
	if err := l.decode("index.json", &m); err != nil {
		return m, err
	}
	for len(m.Manifests) > 0 {
		here := slices.IndexFunc(m.Manifests, func(d descriptor) bool {
			return d.Platform.Architecture == "" || d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH
		})
		if here < 0 {
			return m, fmt.Errorf("no image in it is for linux/%s", runtime.GOARCH)
		}
		name := m.Manifests[here].blob()
		m = manifest{}
		if err := l.decode(name, &m); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (d descriptor) blob() string { return "blobs/" + strings.ReplaceAll(d.Digest, ":", "/") }

func (l layout) decode(name string, into any) error {
	return l.read(name, func(r io.Reader) error { return json.NewDecoder(r).Decode(into) })
}

func (l layout) read(name string, use func(io.Reader) error) error {
	f, err := os.Open(string(l))
	if err != nil {
		return err
	}
	defer f.Close()
	return find(f, name, use)
}

// find a file in a tar.
func find(archive io.Reader, name string, use func(io.Reader) error) error {
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", name, os.ErrNotExist)
		}
		if err != nil {
			return err
		}
		if path.Join("/", h.Name) == path.Join("/", name) {
			return use(r)
		}
	}
}

// writeProgram in the place of one that may run.
func writeProgram(to string, from io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), to)
}
