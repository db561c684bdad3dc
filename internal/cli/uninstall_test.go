package cli

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// installed is a cluster with external-lb at work: one Balancer, and the Services that
// it holds in every way there is.
func installed() []client.Object {
	ours := []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
	heldBy := func(svc *corev1.Service) {
		svc.Finalizers = ours
		*svc = *holding("edge").Write(svc)
	}
	edge := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2"}).Obj()
	edge.Finalizers = []string{v1alpha1.CleanupFinalizer}
	edge.Status.Hosts = []v1alpha1.HostStatus{
		{Name: "lb1", State: v1alpha1.HostInSync},
		{Name: "lb2", State: v1alpha1.HostUnreachable, Message: "dial tcp 192.0.2.6:22: no route to host"},
	}
	web := builder.Service("default", "web").Class("external-lb.dev/edge").Port(80).With(heldBy).Obj()
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	exposed := builder.Service("default", "exposed").With(heldBy).Annotate(v1alpha1.AssignedAddressesAnnotation, "203.0.113.1").Obj()
	exposed.Spec.Type, exposed.Finalizers = corev1.ServiceTypeNodePort, ours[:1]
	deleted := builder.Service("default", "deleted").Class("external-lb.dev/edge").With(heldBy).Deleting().Obj()
	moved := builder.Service("default", "moved").Class("example.com/other").With(heldBy).Obj()
	stranger := builder.Service("default", "stranger").Class("example.com/other").Obj()
	stranger.Finalizers = ours[1:]
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: leaseName}}
	hold(lease, "manager-1", 15*time.Second, time.Now())
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: deploymentName}}
	deployment.Labels = map[string]string{"app.kubernetes.io/name": deploymentName}
	deployment.Spec.Replicas = ptr.To[int32](2)
	return []client.Object{edge, web, exposed, deleted, moved, stranger, lease, deployment}
}

func holding(balancer string) record.Record {
	addresses := []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	return record.Record{Holders: []string{balancer}, Carrier: balancer, Addresses: addresses, Published: addresses}
}

// uninstalling is the command on such a cluster. Whenever it waits, others do something.
func uninstalling(calls interceptor.Funcs, others func(ctx context.Context, u *uninstall) error) (*uninstall, *bytes.Buffer) {
	var out bytes.Buffer
	var u *uninstall
	objects := installed()
	kube := fake.NewClientBuilder().WithScheme(controllers.Scheme()).WithObjects(objects...).WithStatusSubresource(objects[0])
	calls.SubResourcePatch = func(ctx context.Context, c client.Client, status string, obj client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
		err := u.kube.Patch(ctx, obj.DeepCopyObject().(client.Object), patch) // an API server takes metadata with a status, a fake one does not
		return errors.Join(err, c.SubResource(status).Patch(ctx, obj, patch))
	}
	u = &uninstall{kube: kube.WithInterceptorFuncs(calls).Build(), namespace: "system", timeout: time.Minute, out: &out}
	u.pause = func(ctx context.Context) error { return others(ctx, u) }
	return u, &out
}

func nobodyActs(context.Context, *uninstall) error { return errors.New("it waits") }

// theLease of the controller.
func (u *uninstall) theLease(ctx context.Context) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	return lease, u.kube.Get(ctx, client.ObjectKey{Namespace: u.namespace, Name: leaseName}, lease)
}

// stops is the controller when its Deployment is scaled to 0.
func stops(ctx context.Context, u *uninstall) error {
	d := &appsv1.Deployment{}
	if err := u.kube.Get(ctx, client.ObjectKey{Namespace: u.namespace, Name: deploymentName}, d); err != nil || *d.Spec.Replicas != 0 {
		return errors.Join(err, errors.New("the Deployment is not scaled to 0"))
	}
	lease, err := u.theLease(ctx)
	if err != nil {
		return err
	}
	lease.Spec.HolderIdentity = ptr.To("")
	return u.kube.Update(ctx, lease)
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:]+Z`)

func same(t *testing.T, out *bytes.Buffer, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), times.ReplaceAllString(out.String(), "TIME")); diff != "" {
		t.Error(diff)
	}
}

func TestUninstall_KeepsHosts(t *testing.T) {
	led := true
	calls := interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
		if _, ok := obj.(*appsv1.Deployment); !ok {
			lease := &coordinationv1.Lease{}
			err := c.Get(ctx, client.ObjectKey{Namespace: "system", Name: leaseName}, lease)
			led = led && err == nil && strings.HasPrefix(holder(lease), "external-lb uninstall on ")
		}
		return c.Patch(ctx, obj, patch, opts...)
	}}
	u, out := uninstalling(calls, stops)
	u.keep = true
	if err := u.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, out, `
Deployment system/external-lb: scaled to 0
waiting for the controller to stop: manager-1 renews the Lease system/external-lb
Service default/deleted: let go
Service default/exposed (203.0.113.1): let go
Service default/moved: let go
Service default/web (203.0.113.1): let go
Balancer edge: deleted; its hosts (lb1, lb2) go on as they are
Done. The rest: kubectl delete -k config/default
`)
	if !led {
		t.Error("something was let go of while a controller could work")
	}
	if lease, err := u.theLease(t.Context()); err != nil || holder(lease) != "" || *lease.Spec.LeaseTransitions != 2 {
		t.Errorf("the Lease is not given back: %+v, %v", lease.Spec, err)
	}
	var services corev1.ServiceList
	if err := u.kube.List(t.Context(), &services); err != nil {
		t.Fatal(err)
	}
	finalizers := map[string][]string{}
	for _, svc := range services.Items {
		finalizers[svc.Name] = svc.Finalizers
		for key := range svc.Annotations {
			if key != v1alpha1.AssignedAddressesAnnotation {
				t.Errorf("Service %s keeps %s", svc.Name, key)
			}
		}
		lost := svc.Name == "web" && len(svc.Status.LoadBalancer.Ingress) == 0 ||
			svc.Name == "exposed" && svc.Annotations[v1alpha1.AssignedAddressesAnnotation] == ""
		if lost {
			t.Errorf("Service %s lost its address", svc.Name)
		}
	}
	shared := []string{v1alpha1.SharedFinalizer}
	if diff := cmp.Diff(map[string][]string{"web": nil, "exposed": nil, "moved": shared, "stranger": shared}, finalizers); diff != "" {
		t.Error("finalizers:", diff)
	}
	out.Reset()
	if err := u.run(t.Context()); err != nil {
		t.Error("again:", err)
	}
	same(t, out, "No Balancer is left, and no Service has a finalizer of ours. The rest: kubectl delete -k config/default\n")
}

// What Helm has installed, Helm takes away, and leaves the kinds.
func TestUninstall_SaysWhatIsLeftToHelm(t *testing.T) {
	u, out := uninstalling(interceptor.Funcs{}, stops)
	u.keep = true
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: deploymentName}}
	helm := []byte(`{"metadata":{"annotations":{"meta.helm.sh/release-name":"edge","meta.helm.sh/release-namespace":"system"}}}`)
	if err := u.kube.Patch(t.Context(), d, client.RawPatch(types.MergePatchType, helm)); err != nil {
		t.Fatal(err)
	}
	const rest = "The rest: helm uninstall edge --namespace system, and then kubectl delete crd balancers.external-lb.dev addresspools.external-lb.dev upstreampolicies.external-lb.dev\n"
	for _, said := range []string{"Done. ", "No Balancer is left, and no Service has a finalizer of ours. "} {
		if err := u.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), said+rest) {
			t.Errorf("it says:\n%s", out)
		}
		out.Reset()
	}
}

// A run that was killed is no reason to wait; a controller that runs elsewhere is one to stop.
func TestUninstall_KeepsHostsWhateverWasBefore(t *testing.T) {
	u, out := uninstalling(interceptor.Funcs{}, nobodyActs)
	u.keep = true
	lease, err := u.theLease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hold(lease, uninstaller+"on another machine, process 1", time.Hour, time.Now())
	if err := u.kube.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	u.namespace = "elsewhere"
	if err := u.run(t.Context()); err == nil || !strings.Contains(err.Error(), "run this with --namespace system") {
		t.Errorf("in another namespace: %v\n%s", err, out)
	}
	u.namespace = "system"
	if err := u.run(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// withdraws is a controller that cannot reach one host at first.
func withdraws(after int) func(ctx context.Context, u *uninstall) error {
	return func(ctx context.Context, u *uninstall) error {
		edge := &v1alpha1.Balancer{}
		if err := u.kube.Get(ctx, client.ObjectKey{Name: "edge"}, edge); err != nil || edge.DeletionTimestamp == nil {
			return errors.Join(err, errors.New("the Balancer is not deleted"))
		}
		if after--; after > 0 {
			return nil
		}
		var services corev1.ServiceList
		if err := u.kube.List(ctx, &services); err != nil {
			return err
		}
		for _, svc := range services.Items {
			if !record.Held(&svc) {
				continue
			}
			svc.Status = corev1.ServiceStatus{}
			if err := u.kube.Status().Update(ctx, &svc); err != nil {
				return err
			}
			svc.Finalizers = nil
			if err := u.kube.Update(ctx, &svc); err != nil {
				return err
			}
		}
		edge.Finalizers = nil
		return u.kube.Update(ctx, edge)
	}
}

func TestUninstall_Withdraws(t *testing.T) {
	u, out := uninstalling(interceptor.Funcs{}, withdraws(3))
	if err := u.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	same(t, out, `
Balancer edge: deleted; its hosts (lb1, lb2) withdraw what they carry
waiting for host lb2 of Balancer edge, since TIME. It is Unreachable: dial tcp 192.0.2.6:22: no route to host. `+
		`It is to withdraw 4 Services: default/deleted, default/exposed, default/moved, default/web
Service default/deleted: let go
Service default/exposed (203.0.113.1): let go
Service default/moved: let go
Service default/web (203.0.113.1): let go
Balancer edge: gone
Done. The rest: kubectl delete -k config/default
`)
}

// However long a host is away, the command ends, says so, and goes on the next time.
func TestUninstall_GivesUpInTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	u, out := uninstalling(interceptor.Funcs{}, askedInVain)
	err := u.run(ctx)
	e, ok := errors.AsType[exit](err)
	if !ok || e.code != 2 || !strings.Contains(err.Error(), "left are 1 Balancer, and with our finalizer 4 Services") {
		t.Errorf("got %v", err)
	}
	others := withdraws(1)
	u.pause = func(ctx context.Context) error { return others(ctx, u) }
	out.Reset()
	if err := u.run(t.Context()); err != nil || !strings.HasPrefix(out.String(), "Balancer edge: is being deleted since ") {
		t.Errorf("again: %v\n%s", err, out)
	}
}

func askedInVain(ctx context.Context, _ *uninstall) error { return ctx.Err() }

func TestUninstall_DryRun(t *testing.T) {
	written := errors.New("it writes")
	calls := interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return written
		},
		Update: func(context.Context, client.WithWatch, client.Object, ...client.UpdateOption) error { return written },
		Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error { return written },
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return written },
	}
	u, out := uninstalling(calls, nobodyActs)
	u.dryRun = true
	if err := u.run(t.Context()); err != nil {
		t.Error(err)
	}
	same(t, out, `
Balancer edge: deleted; its hosts (lb1, lb2) withdraw what they carry (dry run)
Service default/deleted: withdrawn (dry run)
Service default/exposed (203.0.113.1): withdrawn (dry run)
Service default/moved: withdrawn (dry run)
Service default/web (203.0.113.1): withdrawn (dry run)
`)
	out.Reset()
	u.keep = true
	if err := u.run(t.Context()); err != nil {
		t.Error(err)
	}
	same(t, out, `
Deployment system/external-lb: scaled to 0 (dry run)
Service default/deleted: let go (dry run)
Service default/exposed (203.0.113.1): let go (dry run)
Service default/moved: let go (dry run)
Service default/web (203.0.113.1): let go (dry run)
Balancer edge: deleted; its hosts (lb1, lb2) go on as they are (dry run)
`)
}

// Somebody has deleted our kinds and our namespace before: what hangs is let go all the same.
func TestUninstall_AfterTheKindsAreGone(t *testing.T) {
	gone := schema.GroupResource{Resource: "namespaces"}
	calls := interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			switch list.(type) {
			case *v1alpha1.BalancerList:
				return &meta.NoKindMatchError{}
			case *appsv1.DeploymentList:
				return nil
			}
			return c.List(ctx, list, opts...)
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if key.Namespace == "system" {
				return apierrors.NewNotFound(gone, key.Name)
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
			return apierrors.NewNotFound(gone, "system")
		},
	}
	u, out := uninstalling(calls, nobodyActs)
	idle := "waiting for the controller, which does not work: there is no Lease system/external-lb"
	if err := u.run(t.Context()); err == nil || !strings.Contains(out.String(), idle) {
		t.Errorf("nobody can withdraw: %v\n%s", err, out)
	}
	out.Reset()
	u.keep = true
	if err := u.run(t.Context()); err != nil || strings.Count(out.String(), "let go\n") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
}

// A controller that works without the Lease would withdraw what it sees deleted.
func TestUninstall_ASecondWriterIsNoticed(t *testing.T) {
	calls := interceptor.Funcs{Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
		edge := &v1alpha1.Balancer{}
		if err := c.Get(ctx, client.ObjectKeyFromObject(obj), edge); err != nil {
			return err
		}
		edge.Finalizers = []string{v1alpha1.CleanupFinalizer}
		return errors.Join(c.Update(ctx, edge), c.Delete(ctx, obj, opts...))
	}}
	u, out := uninstalling(calls, stops)
	u.keep = true
	err := u.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "stop every controller") {
		t.Errorf("%v\n%s", err, out)
	}
	edge := &v1alpha1.Balancer{}
	if err := u.kube.Get(t.Context(), client.ObjectKey{Name: "edge"}, edge); err != nil || edge.DeletionTimestamp != nil {
		t.Errorf("the Balancer is deleted: %v", err)
	}
}
