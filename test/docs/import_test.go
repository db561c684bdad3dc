package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// elsewhere is a cluster to which somebody comes from elsewhere, as the pages of docs/howto say.
// There are no hosts, so nothing is proved; what is typed is taken, and is what the page says.
type elsewhere struct{ dir, path, kubeconfig string }

func TestComingFromElsewhere(t *testing.T) {
	c := cluster.New(t, cluster.Options{ControlPlaneOnly: true})
	e := &elsewhere{t.TempDir(), filepath.Dir(c.Bin("kubectl")), c.Kubeconfig()}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(e.dir, "external-lb"), "../..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e.run(t, "kubectl apply --server-side -k "+mustAbs(t, filepath.Join(root, "config/default"))+"\nkubectl wait --for=condition=Established crd --all --timeout=60s")
	t.Run("from a configuration that is kept by hand", e.handKept)
	e.run(t, "kubectl delete balancers,addresspools,upstreampolicies,services --all")
	t.Run("from MetalLB", e.metallb)
}

// run a script as the reader does.
func (e *elsewhere) run(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-exc", script)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.kubeconfig, "PATH="+e.dir+":"+e.path+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// apply manifests, as they were before anybody read the page.
func (e *elsewhere) apply(t *testing.T, manifests string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(e.dir, "before.yaml"), []byte(manifests), 0o600))
	e.run(t, "kubectl apply -f before.yaml")
}

// typed is what a page tells to type, after the other.
func (e *elsewhere) typed(t *testing.T, page string) string {
	t.Helper()
	scripts := blocks(t, page, "sh")
	if len(scripts) < 3 {
		t.Fatalf("%s tells to type %q", page, scripts)
	}
	return e.run(t, strings.Join(scripts, "\n"))
}

func (e *elsewhere) want(t *testing.T, query, want string) {
	t.Helper()
	if got := e.run(t, "set +x; "+query); strings.TrimPrefix(got, "+ set +x\n") != want {
		t.Errorf("%s: %q, want %q", query, got, want)
	}
}

func (e *elsewhere) handKept(t *testing.T) {
	page := filepath.Join(root, "docs/howto/from-a-hand-kept-configuration.md")
	e.apply(t, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
`)
	must(t, os.WriteFile(filepath.Join(e.dir, "nginx.conf"), []byte(strings.Join(blocks(t, page, "nginx"), "")), 0o600))
	out := e.typed(t, page)
	for _, said := range blocks(t, page, "text") {
		if !strings.Contains(out, said) {
			t.Errorf("it does not say %q:\n%s", said, out)
		}
	}
	e.want(t, `kubectl get service web -o jsonpath='{.spec.type} {.spec.loadBalancerClass} {.spec.ports[0].nodePort} {.metadata.annotations.external-lb\.dev/addresses}'`,
		"LoadBalancer external-lb.dev/edge 30080 203.0.113.10")
	e.want(t, `kubectl get addresspool,upstreampolicy -o jsonpath='{range .items[*]}{.spec.addresses[*]}{.spec.algorithm} {.spec.healthCheck.interval} {end}'`,
		"203.0.113.10  LeastConnections 5s ")
	e.want(t, `kubectl get balancer edge -o jsonpath='{.spec.hosts[*].name}'`, "lb1 lb2")
}

// metallbBefore are MetalLB's kinds, as far as they matter, and a Service that it serves.
const metallbBefore = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ipaddresspools.metallb.io}
spec:
  group: metallb.io
  names: {kind: IPAddressPool, listKind: IPAddressPoolList, plural: ipaddresspools, singular: ipaddresspool}
  scope: Namespaced
  versions:
  - {name: v1beta1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: controller, namespace: metallb-system}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: example.net/a}]}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: metallb-system}
spec: {selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: example.net/a}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`

func (e *elsewhere) metallb(t *testing.T) {
	e.apply(t, metallbBefore)
	e.run(t, "kubectl wait --for=condition=Established crd/ipaddresspools.metallb.io --timeout=60s")
	e.apply(t, `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec: {addresses: [203.0.113.0/28]}
`)
	e.run(t, `kubectl patch service web --subresource=status --type=merge -p '{"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}'`)
	e.typed(t, filepath.Join(root, "docs/howto/from-metallb.md"))
	e.want(t, `kubectl get service web -o jsonpath='{.metadata.annotations.external-lb\.dev/addresses} {.status.loadBalancer.ingress[0].ip}'`, "203.0.113.7 203.0.113.7")
	e.want(t, `kubectl get addresspool public -o jsonpath='{.spec.balancer} {.spec.addresses[*]}'`, "edge 203.0.113.0/28")
	e.want(t, `kubectl get balancer edge -o jsonpath='{.spec.default}'`, "true")
	e.want(t, `kubectl -n metallb-system get deployment controller -o jsonpath='{.spec.replicas}'`, "0")
}

// The cut-over from a configuration that is kept by hand, with traffic: both carry it, and then the
// new hosts alone do.
func TestCutOver_FromAHandKeptConfiguration(t *testing.T) {
	r := startCutOver(t)
	page := filepath.Join(root, "docs/howto/from-a-hand-kept-configuration.md")
	hosts := make([]string, 0, 6)
	for name, written := range map[string]string{"lb1": "192.0.2.5", "lb2": "192.0.2.6", "node1": "10.0.0.1", "node2": "10.0.0.2"} {
		hosts = append(hosts, written, r.Addrs(name)[0].String())
	}
	as := strings.NewReplacer(append(hosts, "203.0.113.10", address)...)
	configuration := as.Replace(strings.Join(blocks(t, page, "nginx"), ""))
	must(t, os.WriteFile(filepath.Join(r.dir, "nginx.conf"), []byte(configuration), 0o600))
	old, err := r.Host("lb3")
	must(t, err)
	must(t, old.WriteFile(t.Context(), "/root/nginx.conf", []byte(configuration)))
	_, err = old.Shell(t.Context(), `nginx -c /root/nginx.conf -g 'load_module /usr/lib/nginx/modules/ngx_stream_module.so; pid /run/by-hand.pid;'`)
	must(t, err)
	must(t, r.RouteVia(t.Context(), "lb3"))
	wait.For(t, r.ask)

	load := r.startLoad(t)
	r.run(t, as.Replace(strings.Join(blocks(t, page, "sh"), "\n")))
	r.published(t, "default", "web")
	if failed := load(); failed != nil {
		t.Errorf("while both carry it: %v", failed)
	}
	must(t, r.RouteVia(t.Context(), "lb1", "lb2"))
	load = r.startLoad(t)
	_, err = old.Shell(t.Context(), "kill $(cat /run/by-hand.pid)")
	must(t, err)
	wait.For(t, func(ctx context.Context) error {
		_, err := old.Shell(ctx, "! test -e /run/by-hand.pid")
		return err
	})
	if failed := load(); failed != nil {
		t.Errorf("when the old one ends: %v", failed)
	}
	must(t, r.held(t.Context(), true))
}

// startCutOver makes a cluster with two hosts of a Balancer, and a third that carries by hand.
func startCutOver(t *testing.T) *removal {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "external-lb")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env, err := lab.Start(t.Context(), lab.Options{
		Cluster: cluster.Options{Dir: filepath.Join(dir, "cluster"), Nodes: 2, Hosts: 3, Binary: binary}, Root: root, Balancer: "edge",
		Change: func(b *v1alpha1.Balancer) { b.Spec.Hosts = b.Spec.Hosts[:2] },
	})
	must(t, err)
	t.Cleanup(func() { must(t, env.Stop()) })
	_, err = env.AddPod(t.Context(), cluster.PodSpec{Name: "web-1", Labels: map[string]string{"app": "web"}})
	must(t, err)
	web := builder.Service("default", "web").App("web").PortOf(corev1.ProtocolTCP, 80, 30080).Manifest()
	web.Spec.Type, web.Spec.Ports[0].TargetPort.IntVal = corev1.ServiceTypeNodePort, 8080
	must(t, env.Kube.Create(t.Context(), web))
	return &removal{Lab: env, dir: dir}
}
