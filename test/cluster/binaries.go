package cluster

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// program is a main package of the module kube, which runs as one program or as several, told apart by name.
type program struct {
	pkg   string
	names []string
}

var programs = []program{
	{"./apiserver", []string{"etcd", "kube-apiserver"}},
	{"./controllers", []string{"kube-controller-manager", "kube-proxy"}},
	{"k8s.io/kubernetes/cmd/kubectl", []string{"kubectl"}},
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

// release is a version of Kubernetes, as one of the files of the module kube requires it.
type release struct {
	module, file string
	version      string // v1.37.2
}

var requiresKubernetes = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v1\.\d+\.\d+)$`)

// releaseOf finds a minor release, such as "1.34", or that of kube/go.mod for "".
func releaseOf(minor string) (release, error) {
	_, self, _, _ := runtime.Caller(0)
	r := release{module: filepath.Join(filepath.Dir(self), "kube"), file: "go.mod"}
	if minor != "" {
		r.file = minor + ".mod"
	}
	data, err := os.ReadFile(filepath.Join(r.module, r.file))
	switch required := requiresKubernetes.FindSubmatch(data); {
	case errors.Is(err, fs.ErrNotExist) && minor != "":
		others, _ := filepath.Glob(filepath.Join(r.module, "1.*.mod"))
		for i := range others {
			others[i] = strings.TrimSuffix(filepath.Base(others[i]), ".mod")
		}
		return r, fmt.Errorf("Kubernetes %q cannot be had here: want one of %s, or nothing for the newest", minor, strings.Join(others, ", "))
	case err != nil:
		return r, fmt.Errorf("the sources of this package must be where it was compiled, without -trimpath: %w", err)
	case required == nil:
		return r, fmt.Errorf("%s requires no k8s.io/kubernetes", r.file)
	default:
		r.version = string(required[1])
		return r, nil
	}
}

// binaries returns the directory that holds etcd, kube-apiserver, kube-controller-manager, kube-proxy
// and kubectl, the two in the middle only if there are to be nodes. What is missing is taken from this
// machine, if it has the version, or built: minutes the first time, with progress on log. Callers in
// other processes wait for the one that builds, if they lack something.
func (r release) binaries(ctx context.Context, o Options) (string, error) {
	dir, err := r.cache()
	if err != nil {
		return "", err
	}
	lacking := func(p program) bool {
		return !p.in(dir) && !(o.ControlPlaneOnly && p.pkg == "./controllers")
	}
	if !slices.ContainsFunc(programs, lacking) {
		return dir, nil
	}
	unlock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	missing := slices.DeleteFunc(slices.Clone(programs), func(p program) bool { return !lacking(p) || p.borrow(ctx, dir, r.version) })
	if len(missing) == 0 {
		return dir, nil
	}
	return dir, r.build(ctx, dir, missing, o.Log)
}

// cache is the directory for what is built, made if it is not there. Another version of the module, or of
// Go, has another.
func (r release) cache() (string, error) {
	root, err := cacheRoot()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH)
	for _, name := range []string{r.file, strings.TrimSuffix(r.file, ".mod") + ".sum", "apiserver/main.go", "controllers/main.go"} {
		data, err := os.ReadFile(filepath.Join(r.module, name))
		if err != nil {
			return "", err
		}
		hash.Write(data)
	}
	dir := filepath.Join(root, hex.EncodeToString(hash.Sum(nil))[:16])
	return dir, os.MkdirAll(dir, 0o755)
}

// in reports whether a directory has the program under all of its names.
func (p program) in(dir string) bool {
	return !slices.ContainsFunc(p.names, func(name string) bool { return !exists(filepath.Join(dir, name)) })
}

// build builds all at once, for the sake of idle CPUs while one of them is linked.
func (r release) build(ctx context.Context, dir string, missing []program, log io.Writer) error {
	const pkg = "k8s.io/component-base/version."
	ldflags := fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]d -X %[1]sgitTreeState=clean",
		pkg, r.version, minorOf(r.version))
	built, err := emptied(dir, "built")
	if err != nil {
		return err
	}
	defer os.RemoveAll(built)
	m := mains{module: r.module, file: r.file, dir: built, ldflags: ldflags}
	for _, p := range missing {
		m.packages = append(m.packages, p.pkg)
	}
	start := time.Now()
	if err := m.build(ctx, log); err != nil {
		return err
	}
	for _, p := range missing {
		if err := p.install(filepath.Join(built, filepath.Base(p.pkg)), dir); err != nil {
			return err
		}
	}
	fmt.Fprintf(log, "built Kubernetes %s in %s, into %s\n", r.version, time.Since(start).Round(time.Second), dir)
	return nil
}

// emptied makes a directory anew, without what a process that was killed left there.
func emptied(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.RemoveAll(path); err != nil {
		return "", err
	}
	return path, os.Mkdir(path, 0o755)
}

// install gives a program its names.
func (p program) install(file, dir string) error {
	for _, name := range p.names {
		part := filepath.Join(dir, name+".part")
		if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Link(file, part); err != nil {
			return err
		}
		if err := os.Rename(part, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
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
	return target, goBuild(ctx, src, target)
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
var needsVirtual = []struct{ program, pkg string }{
	{"mkfs.ext4", "e2fsprogs"}, {"gcc", "gcc libc6-dev"}, {"make", "make"}, {"flex", "flex"}, {"bison", "bison"}, {"bc", "bc"}, {"xz", "xz-utils"},
}

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
