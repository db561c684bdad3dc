package cluster

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// version is the release of Kubernetes in kube/go.mod, for `kubectl version`.
const version = "v1.37.2"

// programs are what kube/go.mod builds, in the order in which a start needs them.
var programs = []struct{ name, pkg string }{
	{"etcd", "go.etcd.io/etcd/server/v3"},
	{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
	{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
	{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
}

//go:embed helper/*.go
var helperSource embed.FS

func cacheRoot() (string, error) {
	base, err := os.UserCacheDir() // $XDG_CACHE_HOME, or $HOME/.cache
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "external-lb", "cluster")
	return dir, os.MkdirAll(dir, 0o755)
}

// Binaries returns the directory that holds etcd, kube-apiserver, kube-controller-manager, kube-proxy
// and kubectl, and builds what is missing: minutes the first time, with progress on log. Callers in
// other processes wait for the one that builds.
func Binaries(ctx context.Context, log io.Writer) (string, error) {
	root, err := cacheRoot()
	if err != nil {
		return "", err
	}
	_, self, _, _ := runtime.Caller(0)
	module := filepath.Join(filepath.Dir(self), "kube")
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", fmt.Errorf("the sources of this package must be where it was compiled, without -trimpath: %w", err)
		}
		hash.Write(data)
	}
	dir := filepath.Join(root, hex.EncodeToString(hash.Sum(nil))[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	const pkg = "k8s.io/component-base/version."
	major, minor, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	ldflags := fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s -X %[1]sgitTreeState=clean",
		pkg, version, major, minor)
	for i, p := range programs {
		target := filepath.Join(dir, p.name)
		if _, err := os.Stat(target); err == nil {
			continue
		}
		fmt.Fprintf(log, "building %s (%d of %d), once, into %s …\n", p.name, i+1, len(programs), dir)
		start := time.Now()
		if err := goBuild(ctx, module, target, "-ldflags", ldflags, p.pkg); err != nil {
			return "", err
		}
		fmt.Fprintf(log, "built %s in %s\n", p.name, time.Since(start).Round(time.Second))
	}
	return dir, nil
}

// helper returns the path of the helper program, built from the source embedded here.
func helper(ctx context.Context) (string, error) {
	root, err := cacheRoot()
	if err != nil {
		return "", err
	}
	entries, err := helperSource.ReadDir("helper")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version())
	files := make(map[string][]byte)
	for _, e := range entries {
		data, err := helperSource.ReadFile("helper/" + e.Name())
		if err != nil {
			return "", err
		}
		files[e.Name()] = data
		hash.Write(data)
	}
	target := filepath.Join(root, "helper-"+hex.EncodeToString(hash.Sum(nil))[:16])
	unlock, err := lockFile(filepath.Join(root, "helper.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	src, err := os.MkdirTemp("", "external-lb-helper-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(src)
	files["go.mod"] = []byte("module helper\n\ngo 1.26.0\n")
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			return "", err
		}
	}
	return target, goBuild(ctx, src, target, ".")
}

// goBuild builds into a temporary name and renames, so that a program in the cache is always complete.
func goBuild(ctx context.Context, dir, target string, args ...string) error {
	part := target + ".part"
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-buildvcs=false", "-o", part}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s: %w\n%s", filepath.Base(target), err, out)
	}
	return os.Rename(part, target)
}

// lockFile waits for an exclusive lock, which the kernel frees when the holder ends.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// needs maps a program to its package in Debian.
var needs = []struct{ program, pkg string }{
	{"ip", "iproute2"}, {"nft", "nftables"}, {"iptables", "iptables"}, {"conntrack", "conntrack"},
	{"sshd", "openssh-server"}, {"ssh-keygen", "openssh-client"}, {"sudo", "sudo"},
	{"nginx", "nginx libnginx-mod-stream"}, {"haproxy", "haproxy"}, {"keepalived", "keepalived"},
}

// needsVirtual are what virtual machines need beside that.
var needsVirtual = []struct{ program, pkg string }{{"qemu-system-x86_64", "qemu-system-x86"}, {"mkfs.ext4", "e2fsprogs"}}

// checkMachine says what this machine lacks, and how to get it.
func checkMachine(o Options) error {
	if os.Getuid() != 0 {
		return errors.New("the test cluster makes network namespaces and mounts: run it as root")
	}
	var missing []string
	for _, n := range needs {
		hostOnly := n.program != "ip" && n.program != "nft" && n.program != "conntrack"
		if o.ControlPlaneOnly && n.program != "ip" || o.Hosts == 0 && hostOnly {
			continue
		}
		if !installed(n.program) {
			missing = append(missing, n.pkg)
		}
	}
	for _, n := range needsVirtual {
		if o.virtual() && !installed(n.program) {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this machine lacks programs that the test cluster needs; run\n  apt-get install -y %s", strings.Join(missing, " "))
	}
	return nil
}

func installed(program string) bool {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if info, err := os.Stat(filepath.Join(dir, program)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}
