package docs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// The ways out, and what happens to who does not read: kubectl is refused, or everything
// hangs until somebody does. Traffic that is to go on does so all the time.
func TestUninstall(t *testing.T) {
	r := startRemoval(t)
	load := r.startLoad(t)
	t.Run("it is refused", r.isRefused)
	t.Run("the hosts go on", r.hostsGoOn)
	t.Run("it hangs and is mended", r.hangsAndIsMended)
	if failed := load(); failed != nil {
		t.Errorf("traffic did not go on: %v", failed)
	}
	t.Run("everything is withdrawn", r.isWithdrawn)
}

// guarded waits until the policy refuses, or no longer does.
func (r *removal) guarded(t *testing.T, want bool) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		_, err := r.Kubectl(ctx, "delete", "crd", "balancers.external-lb.dev", "--dry-run=server")
		if refused := err != nil && strings.Contains(err.Error(), "Balancer edge needs it"); refused != want {
			return fmt.Errorf("refused: %t, %v", refused, err)
		}
		return nil
	})
}

// left are our objects, with when they were deleted. A single one comes without a list.
const left = `kubectl get -k config/default --ignore-not-found -o go-template='
	{{- define "one"}}{{.kind}}/{{.metadata.name}} {{.metadata.deletionTimestamp}}{{"\n"}}{{end -}}
	{{range .items}}{{template "one" .}}{{else}}{{template "one" .}}{{end}}'`

func (r *removal) isRefused(t *testing.T) {
	r.guarded(t, true)
	before := strings.Split(strings.TrimSpace(r.run(t, left)), "\n")
	out, err := r.start(t, "kubectl delete -k config/default")()
	for _, want := range []string{"Balancer edge needs it", "external-lb uninstall --withdraw", "external-lb uninstall --keep-hosts"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: it does not say %q", err, want)
		}
	}
	after := r.run(t, left)
	for _, line := range before {
		if !strings.Contains(line, "external-lb-guard") && !strings.Contains(after, line+"\n") {
			t.Errorf("%s is deleted", line)
		}
	}
	r.run(t, "kubectl apply --server-side -k config/default") // as docs/troubleshooting.md says
	must(t, r.held(t.Context(), true))
}

// openShop makes a namespace with a Service of its own.
func (r *removal) openShop(t *testing.T) {
	t.Helper()
	must(t, r.Kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}))
	other := builder.Service("shop", "other").Class("external-lb.dev/edge").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
	must(t, r.Kube.Create(t.Context(), other))
	r.published(t, "shop", "other")
}

func (r *removal) hostsGoOn(t *testing.T) {
	r.openShop(t)
	end := r.start(t, section(t, "## Remove external-lb", "**The hosts are to go on as they are.**"))
	r.stopManager(t)
	if out, err := end(); err != nil || !strings.Contains(out, "Service default/web ("+address+"): let go\n") {
		t.Fatal(err)
	}
	r.isGone(t)
	must(t, r.held(t.Context(), false))
	r.run(t, "kubectl delete namespace shop --timeout=180s")
	r.comeBack(t)
}

// isGone holds that nothing of external-lb is in the cluster.
func (r *removal) isGone(t *testing.T) {
	t.Helper()
	all := "kubectl get ns,crd,clusterrole,clusterrolebinding,validatingadmissionpolicy -o name"
	if out := r.run(t, all+" | grep external-lb || true"); out != "" {
		t.Error("something is left")
	}
}

// Without the policy, as of older versions or the second time.
func (r *removal) hangsAndIsMended(t *testing.T) {
	r.openShop(t)
	r.guarded(t, true)
	r.run(t, "kubectl delete validatingadmissionpolicybinding external-lb-guard")
	r.guarded(t, false)
	must(t, r.Manager.Stop())
	r.run(t, "kubectl delete -k config/default --wait=false --ignore-not-found")
	wait.For(t, func(ctx context.Context) error {
		edge := &v1alpha1.Balancer{}
		if err := r.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, edge); err != nil {
			return wait.GiveUp(err)
		}
		if edge.DeletionTimestamp == nil {
			return errors.New("the Balancer is not deleted yet")
		}
		return nil
	})
	r.run(t, "kubectl delete namespace shop --wait=false")
	out, err := r.start(t, "external-lb uninstall --withdraw --timeout 20s")()
	if err == nil || !strings.Contains(out, "the controller, which does not work") || !strings.Contains(out, "error: not done after 20s") {
		t.Errorf("without a controller: %v", err)
	}
	must(t, r.held(t.Context(), true))
	r.run(t, "kubectl wait --for=delete namespace/"+lab.Namespace+" --timeout=180s")
	out = r.run(t, left+"; kubectl get namespace shop")
	if !strings.Contains(out, "CustomResourceDefinition/balancers") || !strings.Contains(out, "Terminating") {
		t.Error("it does not hang")
	}
	r.run(t, "external-lb uninstall --keep-hosts")
	r.run(t, "kubectl wait --for=delete crd/balancers.external-lb.dev namespace/shop --timeout=180s")
	r.isGone(t)
	must(t, r.held(t.Context(), false))
	r.comeBack(t)
}

func (r *removal) isWithdrawn(t *testing.T) {
	out := r.run(t, section(t, "## Remove external-lb", "**Nothing is to answer any more.**"))
	if !strings.Contains(out, "Balancer edge: gone\n") {
		t.Error("it does not say what is gone")
	}
	_ = r.Manager.Kill() // there is no kubelet that does it, and its rights are gone
	r.Manager = nil
	r.isGone(t)
	svc := &corev1.Service{}
	must(t, r.Kube.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "web"}, svc))
	if len(svc.Finalizers)+len(svc.Status.LoadBalancer.Ingress)+len(svc.Status.Conditions) > 0 {
		t.Errorf("the Service keeps %v %+v", svc.Finalizers, svc.Status)
	}
	if err := r.ask(t.Context()); err == nil {
		t.Error("it answers still")
	}
}
