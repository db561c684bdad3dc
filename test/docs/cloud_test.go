package docs

import (
	"context"
	"fmt"
	"net/netip"
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

// The page on clouds, typed as it is written: the example provider runs on a machine without
// any balancer, and carries requests of clients to pods.
func TestTheCloudServes(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin")+"/", "../..", "../../examples/provider")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Hosts: 1, Binary: filepath.Join(dir, "bin", "external-lb")},
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
	text, err := os.ReadFile(filepath.Join(root, "docs", "howto", "cloud.md"))
	if err != nil {
		t.Fatal(err)
	}
	nodes := netip.PrefixFrom(h.Addr(), 20).Masked().String()
	here := strings.NewReplacer("192.0.2.5", h.Addr().String(), "198.51.100.0/24", nodes).Replace(string(text))
	for _, m := range fence.FindAllStringSubmatch(here, -1) {
		switch language, body := m[1], m[2]; {
		case language == "yaml" && !strings.Contains(body, "apiVersion:"): // values, which the chart's test renders
		case language == "yaml":
			if out, err := env.KubectlInput(t.Context(), body, "apply", "-f", "-"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		case strings.Contains(body, "bin/provider"):
			runProvider(t, h, dir, body)
		default:
			atHome(t, env, dir, strings.ReplaceAll(body, "\n$ ", "\n"))
		}
	}
	pod := cluster.PodSpec{Name: "web-1", Node: env.Nodes()[0], Labels: map[string]string{"app": "web"}}
	if _, err := env.AddPod(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	web := client.ObjectKey{Namespace: "default", Name: "web"}
	wait.For(t, func(ctx context.Context) error {
		svc := new(corev1.Service)
		if err := env.Kube.Get(ctx, web, svc); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			out, _ := env.Kubectl(ctx, "get", "events,balancers,pools,services", "-o", "wide")
			return fmt.Errorf("the Service has no address: %s", out)
		}
		return nil
	})
	wait.For(t, func(ctx context.Context) error { return env.Ask("http://203.0.113.0/", "web-1") })
	if err := env.RemoveNode(t.Context(), env.Nodes()[1]); err != nil { // it is no member any more
		t.Fatal(err)
	}
	wait.For(t, func(ctx context.Context) error { return env.Ask("http://203.0.113.0/", "web-1") })
	if _, err := env.Kubectl(t.Context(), "delete", "service", "web"); err != nil {
		t.Fatal(err)
	}
	if err := env.Ask("http://203.0.113.0/", ""); err == nil {
		t.Error("the Service is gone, and it answers")
	}
	if _, err := env.Kubectl(t.Context(), "delete", "balancer", "cloud"); err != nil {
		t.Fatal(err)
	}
}

// runProvider types what the page says on a host, and takes the files home that it makes.
func runProvider(t *testing.T, h *cluster.Host, dir, script string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "bin", "provider"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), "/root/bin/provider", data); err != nil {
		t.Fatal(err)
	}
	make, run, _ := strings.Cut(script, "bin/provider -listen")
	_, make, _ = strings.Cut(make, "\n") // it is built
	if out, err := h.Shell(t.Context(), "set -ex; cd /root; chmod 755 bin/provider\n"+make); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"token", "provider.crt"} {
		data, err := h.ReadFile(t.Context(), "/root/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run = "cd /root; setsid bin/provider -listen " + strings.TrimSpace(run) + " </dev/null >/var/log/provider.log 2>&1 &"
	if out, err := h.Shell(t.Context(), run); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
