package cluster

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// borrow copies a program from this machine, if it has one that fits: etcd and kube-apiserver from
// KUBEBUILDER_ASSETS, where tests of controllers have theirs, and kubectl from there or from PATH. The
// copy is what is asked for its version, since a wrapper may not work from elsewhere, and since what is
// on PATH may change while a cluster runs.
func (p program) borrow(ctx context.Context, dir, version string) bool {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	switch p.pkg {
	case "./apiserver":
		return assets != "" && p.copyFrom(ctx, assets, dir, version)
	case "k8s.io/kubernetes/cmd/kubectl":
		if assets != "" && p.copyFrom(ctx, assets, dir, version) {
			return true
		}
		path, err := exec.LookPath("kubectl")
		return err == nil && p.copyFrom(ctx, filepath.Dir(path), dir, version)
	}
	return false
}

// copyFrom reports whether all of a program's names were there and fit. What does not is no error: it
// is built then.
func (p program) copyFrom(ctx context.Context, from, dir, version string) bool {
	parts, err := emptied(dir, "borrowed")
	if err != nil {
		return false
	}
	defer os.RemoveAll(parts)
	for _, name := range p.names {
		if copyProgram(filepath.Join(from, name), filepath.Join(parts, name)) != nil || !fits(ctx, filepath.Join(parts, name), version) {
			return false
		}
	}
	for _, name := range p.names {
		if os.Rename(filepath.Join(parts, name), filepath.Join(dir, name)) != nil {
			return false
		}
	}
	return true
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// fits asks a program for its version: kube-apiserver must have exactly the one that is wanted, kubectl may
// be one minor release off, and etcd is the one that came with its kube-apiserver.
func fits(ctx context.Context, path, version string) bool {
	switch filepath.Base(path) {
	case "etcd":
		return exec.CommandContext(ctx, path, "--version").Run() == nil
	case "kube-apiserver":
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		return err == nil && strings.TrimSpace(string(out)) == "Kubernetes "+version
	case "kubectl":
		out, err := exec.CommandContext(ctx, path, "version", "--client", "--output=json").Output()
		var said struct{ ClientVersion struct{ GitVersion string } }
		return err == nil && json.Unmarshal(out, &said) == nil && oneMinorOff(said.ClientVersion.GitVersion, version)
	}
	return false
}

// oneMinorOff reports whether two versions are of the same or of neighbouring minor releases.
func oneMinorOff(a, b string) bool {
	x, y := minorOf(a), minorOf(b)
	return x > 0 && y > 0 && max(x-y, y-x) <= 1
}

// minorOf is 37 of v1.37.2, and 0 of what is no version 1.
func minorOf(version string) int {
	rest, ok := strings.CutPrefix(version, "v1.")
	minor, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return 0
	}
	return n
}
