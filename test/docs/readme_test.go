package docs

import (
	"context"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// The README's way from nothing to a Service that answers, typed as it is
// written. Only what needs the world outside is left out: apt-get's packages must
// be there, and scp is done for the reader.
func TestReadmeInstalls(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "bin", "external-lb")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	isStatic(t, binary)

	// No host is installed and no Balancer made: that is the reader's part.
	env, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Hosts: 1, Binary: binary},
		Root:    root,
		Bare:    true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	h, err := env.Host("lb1")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, install, found := strings.Cut(strings.ReplaceAll(string(text), "192.0.2.5", h.Addr().String()), "## Install it")
	if !found {
		t.Fatal("the README does not say how to install it")
	}
	if err := os.Symlink(filepath.Join(mustAbs(t, root), "config"), filepath.Join(dir, "config")); err != nil {
		t.Fatal(err)
	}
	for _, m := range fence.FindAllStringSubmatch(install, -1) {
		switch language, body := m[1], m[2]; {
		case language == "yaml":
			if out, err := env.KubectlInput(t.Context(), body, "apply", "-f", "-"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		case strings.Contains(body, "host install"):
			onHost(t, h, dir, body)
		case language == "sh":
			atHome(t, env, dir, body)
		}
	}

	if _, err := env.AddPod(t.Context(), cluster.PodSpec{Name: "web-1", Labels: map[string]string{"app": "web"}}); err != nil {
		t.Fatal(err)
	}
	err = wait.Until(t.Context(), func(ctx context.Context) error {
		svc := new(corev1.Service)
		err := env.Kube.Get(ctx, client.ObjectKey{Namespace: "default", Name: "web"}, svc)
		if err == nil && len(svc.Status.LoadBalancer.Ingress) == 0 {
			err = errors.New("the Service has no address")
		}
		return err
	})
	if err != nil {
		out, _ := env.Kubectl(t.Context(), "get", "events,balancers,pools,services", "-o", "wide") // it says more
		t.Fatalf("%v\n%s", err, out)
	}
	wait.For(t, func(context.Context) error { return env.Ask("http://203.0.113.0/", "web-1") }) // until nodes know of the pod
}

func onHost(t *testing.T, h *cluster.Host, dir, script string) {
	t.Helper()
	for name, from := range map[string]string{"external-lb": "bin/external-lb", "edge-key.pub": "edge-key.pub"} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.WriteFile(t.Context(), "/root/"+name, data); err != nil {
			t.Fatal(err)
		}
	}
	script = "sed -i '/worker_rlimit_nofile/d; s/worker_connections 8192/worker_connections 768/' /etc/nginx/nginx.conf # as Debian has it\n" + script
	script = strings.ReplaceAll(script, "apt-get install ", "dpkg -s >/dev/null ")
	if out, err := h.Shell(t.Context(), "set -ex; cd /root; umount /usr/local/bin/external-lb # the test cluster's own\n"+script); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := h.StartAgent(t.Context()); err != nil { // systemd does it where it runs
		t.Fatal(err)
	}
}

func atHome(t *testing.T, env *lab.Lab, dir, script string) {
	t.Helper()
	var lines []string
	for _, line := range commandLines(script) {
		if !strings.HasPrefix(line, "scp ") && !strings.HasPrefix(line, "make build") {
			lines = append(lines, line)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-exc", strings.Join(lines, "\n"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.Kubeconfig(), "PATH="+filepath.Dir(env.Bin("kubectl"))+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// isStatic holds the program to running on any Linux machine.
func isStatic(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Section(".interp") != nil {
		t.Errorf("%s needs a dynamic linker", path)
	}
}
