package docs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

const address = "203.0.113.0"

// removal is a cluster from which external-lb is removed, as docs/howto.md says, and
// which gets it again.
type removal struct {
	*lab.Lab
	dir    string          // with the program, and config/
	config []client.Object // to come back with
}

func startRemoval(t *testing.T) *removal {
	dir := t.TempDir()
	binary := filepath.Join(dir, "external-lb")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Hosts: 1, Binary: binary}, Root: root, Balancer: "edge",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	r := &removal{Lab: env, dir: dir}
	must(t, os.Symlink(filepath.Join(mustAbs(t, root), "config"), filepath.Join(dir, "config")))
	must(t, env.Kube.Create(t.Context(), builder.AddressPool("public", address+"/28").Manifest()))
	_, err = env.AddPod(t.Context(), cluster.PodSpec{Name: "web-1", Labels: map[string]string{"app": "web"}})
	must(t, err)
	web := builder.Service("default", "web").Class("external-lb.dev/edge").App("web").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
	web.Spec.Ports[0].TargetPort.IntVal = 8080
	must(t, env.Kube.Create(t.Context(), web))
	r.published(t, "default", "web")
	r.remember(t)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// remember what an administrator has in files.
func (r *removal) remember(t *testing.T) {
	secret, pool, edge := &corev1.Secret{}, &v1alpha1.AddressPool{}, &v1alpha1.Balancer{}
	secret.Namespace, secret.Name, pool.Name, edge.Name = lab.Namespace, lab.SecretName, "public", "edge"
	for _, obj := range []client.Object{secret, pool, edge} {
		must(t, r.Kube.Get(t.Context(), client.ObjectKeyFromObject(obj), obj))
		obj.SetResourceVersion("")
		obj.SetUID("")
		obj.SetFinalizers(nil)
		obj.SetManagedFields(nil)
		r.config = append(r.config, obj)
	}
}

// comeBack installs external-lb again.
func (r *removal) comeBack(t *testing.T) {
	t.Helper()
	r.run(t, "kubectl apply --server-side -k config/default")
	r.run(t, "kubectl wait --for=condition=Established crd --all --timeout=60s")
	for _, obj := range r.config {
		must(t, r.Kube.Create(t.Context(), obj.DeepCopyObject().(client.Object)))
	}
	must(t, r.StartManager(t.Context()))
	wait.For(t, func(ctx context.Context) error { return r.held(ctx, true) })
}

// held looks whether the Service has our finalizer, and whether it still has its address.
func (r *removal) held(ctx context.Context, want bool) error {
	svc := &corev1.Service{}
	if err := r.Kube.Get(ctx, client.ObjectKey{Namespace: "default", Name: "web"}, svc); err != nil {
		return err
	}
	ingress := svc.Status.LoadBalancer.Ingress
	if got := len(svc.Finalizers) > 0; got != want || len(ingress) != 1 || ingress[0].IP != address {
		return fmt.Errorf("finalizers %v, status %+v", svc.Finalizers, svc.Status.LoadBalancer)
	}
	return nil
}

func (r *removal) published(t *testing.T, namespace, name string) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		svc := &corev1.Service{}
		err := r.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, svc)
		if err == nil && len(svc.Status.LoadBalancer.Ingress) == 0 {
			err = fmt.Errorf("no address: %+v", svc.Status.Conditions)
		}
		return err
	})
}

// start a script as the reader of a page does.
func (r *removal) start(t *testing.T, script string) (end func() (string, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait.Patience)
	cmd := exec.CommandContext(ctx, "bash", "-ec", script)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.Kubeconfig(), "PATH="+r.dir+":"+filepath.Dir(r.Bin("kubectl"))+":"+os.Getenv("PATH"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	return func() (string, error) {
		defer cancel()
		err := cmd.Wait()
		t.Logf("%s\n%s", script, &out)
		return out.String(), err
	}
}

func (r *removal) run(t *testing.T, script string) string {
	t.Helper()
	out, err := r.start(t, script)()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// section is the shell of a part of the page, block by block.
func section(t *testing.T, title, begins string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "howto.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n"+title+"\n")
	part, _, _ = strings.Cut(part, "\n## ")
	_, part, _ = strings.Cut(part, begins)
	m := fence.FindStringSubmatch(part)
	if m == nil {
		t.Fatalf("docs/howto.md has no commands behind %q", begins)
	}
	return m[2]
}

// stopManager is what a kubelet does with a Deployment that is scaled to 0.
func (r *removal) stopManager(t *testing.T) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		d := &appsv1.Deployment{}
		if err := r.Kube.Get(ctx, client.ObjectKey{Namespace: lab.Namespace, Name: "external-lb"}, d); err != nil {
			return err
		}
		if *d.Spec.Replicas != 0 {
			return errors.New("the controller's Deployment is not scaled to 0")
		}
		return nil
	})
	must(t, r.Manager.Stop())
}

// startLoad asks all the time, until it is ended, and says what failed first.
func (r *removal) startLoad(t *testing.T) (end func() error) {
	wait.For(t, r.ask) // until nodes know of the pod
	ctx, cancel := context.WithCancel(t.Context())
	var failed error
	var asked atomic.Int64
	var done sync.WaitGroup
	done.Go(func() {
		pace := time.NewTicker(10 * time.Millisecond) // a client has 28,000 ports, and each is closed for a minute
		defer pace.Stop()
		for ; ctx.Err() == nil && failed == nil; <-pace.C {
			if err := r.ask(ctx); ctx.Err() == nil {
				failed = err
				asked.Add(1)
			}
		}
	})
	return func() error {
		cancel()
		done.Wait()
		t.Logf("%d requests", asked.Load())
		return failed
	}
}

// ask over a connection of its own.
func (r *removal) ask(ctx context.Context) error {
	c := r.HTTPClientFrom("client")
	defer c.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return errors.Join(err, response.Body.Close())
}
