package chart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// image is the chart's, of which the test cluster has the program.
const image = "ghcr.io/external-lb/external-lb"

// reader types what docs/howto/helm.md says.
type reader struct {
	t    *testing.T
	dir  string
	env  []string
	page string
}

func newReader(t *testing.T, c *cluster.Cluster) *reader {
	t.Helper()
	text, err := os.ReadFile(root + "/docs/howto/helm.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &reader{t: t, dir: dir, page: string(text), env: append(helmEnv(dir), "KUBECONFIG="+c.Kubeconfig(),
		"PATH="+dir+":"+filepath.Dir(c.Bin("kubectl"))+":"+os.Getenv("PATH"))}
	r.link(tool(t, "helm"), "helm")
	if err := os.Mkdir(filepath.Join(dir, "charts"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.link(chart, "charts/external-lb")
	return r
}

// link shows a file or directory in the reader's own, in place of what was there.
func (r *reader) link(from, name string) {
	r.t.Helper()
	from, err := filepath.Abs(from)
	if err != nil {
		r.t.Fatal(err)
	}
	to := filepath.Join(r.dir, name)
	if err := errors.Join(os.RemoveAll(to), os.Symlink(from, to)); err != nil {
		r.t.Fatal(err)
	}
}

// blocks are those of one language below a heading of the page.
func (r *reader) blocks(heading, language string) []string {
	r.t.Helper()
	_, section, _ := strings.Cut(r.page, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		r.t.Fatalf("nothing to type below %q", heading)
	}
	return out
}

// types runs commands.
func (r *reader) types(commands string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "bash", "-exc", commands)
	cmd.Dir, cmd.Env = r.dir, r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

// older is the chart as a version before had it, with another short name of AddressPools.
func older(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "external-lb")
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "files/crds/external-lb.dev_addresspools.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var crd object
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	crd["spec"].(object)["names"].(object)["shortNames"] = []any{"older"}
	if text, err = yaml.Marshal(crd); err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "external-lb")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Hosts: 1, Binary: binary},
		Root:    root, Balancer: "edge", WithoutOperator: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- env.RunKubelet(ctx, map[string]string{image: binary}) }()
	t.Cleanup(func() {
		if t.Failed() {
			env.Keep(errors.New(t.Name() + " failed"))
			for _, name := range []string{"kubelet", "pods"} {
				log, _ := os.ReadFile(filepath.Join(filepath.Dir(env.Kubeconfig()), "logs", name+".log"))
				t.Logf("the end of %s.log:\n%s", name, log[max(0, len(log)-3000):])
			}
		}
		cancel()
		if err := errors.Join(<-ended, env.Stop()); err != nil {
			t.Error(err)
		}
	})
	return env
}

// The page's commands, one after the other, with Services that carry traffic all the time.
func TestHelm_InstallsUpgradesAndUninstalls(t *testing.T) {
	env := startLab(t)
	r := newReader(t, env.Cluster)

	r.link(older(t), "charts/external-lb")
	r.types(r.blocks("Install", "sh")[0])
	if err := env.CreateBalancer(t.Context()); err != nil {
		t.Fatal(err)
	}
	pool := builder.AddressPool("public", "203.0.113.0/28").Balancer("edge").Manifest()
	if err := env.Create(t.Context(), pool, service("web")); err != nil {
		t.Fatal(err)
	}
	if _, err := env.AddPod(t.Context(), cluster.PodSpec{Name: "web-1", Labels: map[string]string{"app": "web"}}); err != nil {
		t.Fatal(err)
	}
	address := hasAddress(t, env, "web")
	wait.For(t, func(context.Context) error { return env.Ask("http://"+address+"/", "web-1") }) // until nodes know of the pod

	r.link(chart, "charts/external-lb")
	if err := os.WriteFile(filepath.Join(r.dir, "values.yaml"), []byte(r.blocks("Set values", "yaml")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	r.types(r.blocks("Upgrade", "sh")[0])
	if got := says(t, env, "crd", "addresspools.external-lb.dev", "{.spec.names.shortNames}"); strings.Contains(got, "older") {
		t.Errorf("the upgrade left the kinds as they were: short names %s", got)
	}
	if got := says(t, env, "deployment", "external-lb", "{.spec.template.spec.containers[0].args}"); !strings.Contains(got, "--tls-secrets") {
		t.Errorf("the upgrade did not take the values: %s", got)
	}
	if again := hasAddress(t, env, "web"); again != address {
		t.Errorf("the upgrade changed address %s into %s", address, again)
	}
	answers(t, env, address)

	ways := r.blocks("Uninstall", "sh")
	r.types(ways[0])
	wait.For(t, func(context.Context) error { // Pods end after their Deployment
		if got := says(t, env, "deployments,pods,serviceaccounts", "", "{.items[*].metadata.name}"); strings.Contains(got, "external-lb") {
			return fmt.Errorf("left behind: %s", got)
		}
		return nil
	})
	if again := hasAddress(t, env, "web"); again != address {
		t.Errorf("address %s became %s", address, again)
	}
	answers(t, env, address)

	lines := strings.Split(strings.TrimSpace(r.blocks("Install", "sh")[0]), "\n")
	r.types(lines[len(lines)-1])
	if err := env.Create(t.Context(), service("another")); err != nil {
		t.Fatal(err)
	}
	hasAddress(t, env, "another")
	if again := hasAddress(t, env, "web"); again != address {
		t.Errorf("address %s became %s", address, again)
	}

	r.types(ways[1])
	if got := says(t, env, "crds", "", "{.items[*].metadata.name}"); strings.Contains(got, "external-lb.dev") {
		t.Errorf("left behind: %s", got)
	}
	for _, name := range []string{"web", "another"} {
		svc := new(corev1.Service)
		if err := env.Kube.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, svc); err != nil {
			t.Fatal(err)
		}
		if len(svc.Finalizers) > 0 || len(svc.Status.LoadBalancer.Ingress) > 0 {
			t.Errorf("Service %s has finalizers %v and addresses %v", name, svc.Finalizers, svc.Status.LoadBalancer.Ingress)
		}
	}
}

func service(name string) *corev1.Service {
	return builder.Service("default", name).App("web").Class("external-lb.dev/edge").With(func(svc *corev1.Service) {
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}
	}).Manifest()
}

// hasAddress waits until a Service has one.
func hasAddress(t *testing.T, env *lab.Lab, name string) (address string) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		svc := new(corev1.Service)
		if err := env.Kube.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, svc); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("Service %s has no address", name)
		}
		address = svc.Status.LoadBalancer.Ingress[0].IP
		return nil
	})
	return address
}

// answers asks the pod through the balancer host, once.
func answers(t *testing.T, env *lab.Lab, address string) {
	t.Helper()
	if err := env.Ask("http://"+address+"/", "web-1"); err != nil {
		t.Fatal(err)
	}
}

// says reads from objects of the namespace of the manager, or from those of a cluster.
func says(t *testing.T, env *lab.Lab, kind, name, path string) string {
	t.Helper()
	args := []string{"get", kind, "--namespace", lab.Namespace, "--output", "jsonpath=" + path}
	if name != "" {
		args = append(args, name)
	}
	out, err := env.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The chart takes over what kustomize has made, as the page says.
func TestHelm_TakesOverWhatKustomizeMade(t *testing.T) {
	c := cluster.New(t, cluster.Options{ControlPlaneOnly: true})
	r := newReader(t, c)
	r.link(root+"/config", "config")
	r.types("kubectl apply -k config/default")
	r.types(r.blocks("Change from kustomize to the chart", "sh")[0])
	r.types(`for kind in deployment serviceaccount poddisruptionbudget role; do
  kubectl -n external-lb-system get $kind external-lb --output jsonpath='{.metadata.labels.app\.kubernetes\.io/managed-by}' | grep -x Helm
done`)
	r.types(`helm upgrade external-lb charts/external-lb --namespace external-lb-system`)
}
