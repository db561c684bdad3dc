package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// forged is all that a Service's author can write on it, to look as if it held addresses.
func forged(holder string, addresses ...string) func(*corev1.Service) {
	list := strings.Join(addresses, ",")
	return func(s *corev1.Service) {
		s.Finalizers = []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, "external-lb.dev/held-by", holder)
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, "external-lb.dev/carried-by", holder)
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, "external-lb.dev/held-addresses", list)
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, v1alpha1.AssignedAddressesAnnotation, list)
		for _, a := range addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
		meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{
			Type: "external-lb.dev/Record", Status: metav1.ConditionTrue, Reason: "Held",
			Message: fmt.Sprintf("holders=%s carrier=%s addresses=%s published=%s uid=%s", holder, holder, list, list, s.UID),
		})
	}
}

func exposedOn(balancer string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, v1alpha1.BalancerAnnotation, balancer)
	}
}

func clusterIP(s *corev1.Service) {
	s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
}

func ofAnotherClass(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") }

// edit changes a Service as its author would.
func (w *world) edit(svc *corev1.Service, change ...func(*corev1.Service)) {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		fresh := &corev1.Service{}
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(svc), fresh))
		for _, c := range change {
			c(fresh)
		}
		return kube.Update(ctx, fresh)
	})
}

// judged waits until a Service is told whether it is programmed.
func (w *world) judged(svc *corev1.Service) *metav1.Condition {
	w.t.Helper()
	var c *metav1.Condition
	w.until(svc, "told of its listeners", func(s *corev1.Service) bool {
		c = meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil
	})
	return c
}

// isToldToWait wants a Service to have no address, because of another one.
func (w *world) isToldToWait(svc, holder *corev1.Service) {
	w.t.Helper()
	if c := w.judged(svc); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, w.namespace+"/"+holder.Name) {
		w.t.Errorf("%s is told %s, %s: %s", svc.Name, c.Status, c.Reason, c.Message)
	}
}

// An older Service whose author writes another's address on it takes nothing: neither from
// one of type NodePort, nor from one that is not proved yet.
func TestForgedRecordTakesNoAddress(t *testing.T) {
	for name, c := range map[string]struct{ exposed, unproved bool }{
		"of an exposed Service":                    {exposed: true},
		"of a Service that is not proved":          {unproved: true},
		"of an exposed Service that is not proved": {exposed: true, unproved: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "192.0.2.1")
			asked := func(s *corev1.Service) {
				s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(v1alpha1.DefaultClassPrefix+w.balancer)
			}
			if c.exposed {
				asked = exposedOn(w.balancer)
			}
			thief := w.service("thief", clusterIP)
			if c.unproved {
				w.host.set(func(h *fakeHost) { h.refuse = map[string]string{"victim": "not now"} })
			}
			victim := w.service("victim", asked)
			if is := w.judged(victim); (is.Status == metav1.ConditionTrue) == c.unproved {
				t.Fatalf("the victim is told %+v", is)
			}
			w.edit(thief, asked, forged(w.balancer, "192.0.2.1"))
			w.isToldToWait(thief, victim)
			w.host.set(func(h *fakeHost) { h.refuse = nil })
			w.edit(victim, func(s *corev1.Service) { s.Spec.Ports[0].Port = 8080 })
			w.until(victim, "proved", func(s *corev1.Service) bool {
				return meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
			})
			w.isToldToWait(thief, victim)
		})
	}
}

// What is written on Services that a pool excludes, or that nobody serves, keeps nobody
// else out of the pool; and nothing holds them up.
func TestForgedRecordBlocksNoPool(t *testing.T) {
	w := newWorld(t, "192.0.2.0/28")
	p := &v1alpha1.AddressPool{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, p))
	before := p.DeepCopy()
	p.Spec.ServiceSelector.MatchLabels = map[string]v1alpha1.LabelValue{"tier": "gold"}
	w.check(kube.Patch(t.Context(), p, client.MergeFrom(before)))
	var all []string
	for i := range 16 {
		all = append(all, fmt.Sprintf("192.0.2.%d", i))
	}
	inside := w.service("cluster-ip", clusterIP, forged(w.balancer, all...))
	foreign := w.service("foreign", forged(w.balancer, all...), ofAnotherClass)
	exposed := w.service("exposed", exposedOn(w.balancer))
	w.judged(exposed)
	w.edit(exposed, forged(w.balancer, all...)) // it has our condition by now
	unread := w.service("unread", forged(w.balancer, all...), func(s *corev1.Service) { s.Annotations[v1alpha1.AddressesAnnotation] = "x" })
	w.judged(unread)
	gold := w.service("gold", func(s *corev1.Service) {
		s.Labels = map[string]string{"tier": "gold"}
		s.Annotations = map[string]string{v1alpha1.AddressesAnnotation: "192.0.2.5"}
	})
	if c := w.judged(gold); c.Status != metav1.ConditionTrue {
		t.Errorf("gold is told %s: %s", c.Reason, c.Message)
	}
	wait.For(t, func(ctx context.Context) error {
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(p), p))
		if p.Status.IPv4 == nil || p.Status.IPv4.Assigned != 1 {
			return fmt.Errorf("%+v", p.Status)
		}
		return nil
	})
	for svc, want := range map[*corev1.Service][]string{inside: nil, foreign: {v1alpha1.SharedFinalizer}} {
		w.until(svc, "without our finalizer", func(s *corev1.Service) bool { return slices.Equal(s.Finalizers, want) })
	}
	w.edit(foreign, func(s *corev1.Service) { s.Finalizers = nil })
}

// copied is a Service made of a manifest that was read from the API server, as
// `kubectl get -o yaml`, edited and applied.
func (w *world) copied(of *corev1.Service, name string) *corev1.Service {
	w.t.Helper()
	svc := of.DeepCopy()
	svc.ObjectMeta = metav1.ObjectMeta{
		Namespace: of.Namespace, Name: name, Labels: of.Labels, Annotations: of.Annotations, Finalizers: of.Finalizers,
	}
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.HealthCheckNodePort = "", nil, 0
	for i := range svc.Spec.Ports {
		svc.Spec.Ports[i].NodePort = 0
	}
	w.create(svc)
	return svc
}

// restored is one that a backup tool makes, which may write its status, too.
func (w *world) restored(of *corev1.Service, name string) *corev1.Service {
	w.t.Helper()
	svc := w.copied(of, name)
	wait.For(w.t, func(ctx context.Context) error {
		fresh := &corev1.Service{}
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(svc), fresh))
		fresh.Status = *of.Status.DeepCopy()
		return kube.Status().Update(ctx, fresh)
	})
	return svc
}

// Manifests that are copied, and backups that are restored, with or without their status,
// take no address that somebody has, and are Services as any other.
func TestCopiesAndBackupsChangeNothing(t *testing.T) {
	w := newWorld(t, "192.0.2.0/28")
	w.service("first")
	victim := w.service("victim")
	address := w.published(victim)
	one := w.service("exposed", exposedOn(w.balancer))
	w.until(one, "assigned", func(s *corev1.Service) bool { return s.Annotations[v1alpha1.AssignedAddressesAnnotation] != "" })
	keeps := func(svc *corev1.Service) func() {
		was := w.until(svc, "there", func(*corev1.Service) bool { return true })
		item := w.host.item(svc)
		return func() {
			t.Helper()
			now := w.until(svc, "there", func(*corev1.Service) bool { return true })
			if now.ResourceVersion != was.ResourceVersion || w.host.item(svc) != item {
				t.Errorf("%s was changed: %+v %+v", svc.Name, now.ObjectMeta, now.Status)
			}
		}
	}
	before, exposedBefore := keeps(victim), keeps(one)
	backup := w.until(victim, "there", func(*corev1.Service) bool { return true })
	has := map[string]string{address: "victim"}
	for _, svc := range []*corev1.Service{w.copied(backup, "copy"), w.restored(backup, "restored")} {
		other := ""
		w.until(svc, "published elsewhere", func(s *corev1.Service) bool {
			if len(s.Status.LoadBalancer.Ingress) == 1 {
				other = s.Status.LoadBalancer.Ingress[0].IP
			}
			return other != "" && other != address && meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		})
		if has[other] != "" {
			t.Errorf("%s has %s, which is of %s", svc.Name, other, has[other])
		}
		has[other] = svc.Name
	}
	copied := w.copied(w.until(one, "there", func(*corev1.Service) bool { return true }), "exposed-copy")
	w.judged(copied)
	w.restart()
	w.published(w.service("probe"))
	before()
	exposedBefore()

	// Whose address somebody else has by now does not get it back with a backup.
	w.check(kube.Delete(t.Context(), victim))
	heir := w.service("heir", func(s *corev1.Service) { s.Annotations = map[string]string{v1alpha1.AddressesAnnotation: address} })
	if got := w.published(heir); got != address {
		t.Fatalf("the heir got %s", got)
	}
	inherits := keeps(heir)
	again := w.restored(backup, "victim")
	w.until(again, "published elsewhere", func(s *corev1.Service) bool {
		return len(s.Status.LoadBalancer.Ingress) == 1 && s.Status.LoadBalancer.Ingress[0].IP != address
	})
	inherits()
}

// What the roles view, edit and admin are made of gives no right to write what is on record.
func TestTenantsCannotWriteTheRecord(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	w.published(svc)
	for _, role := range []string{"view", "edit", "admin"} {
		w.create(&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:aggregate-to-" + role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "tenant"}},
		})
	}
	config := rest.CopyConfig(api)
	config.Impersonate.UserName = "tenant"
	tenant, err := client.New(config, client.Options{Scheme: Scheme()})
	w.check(err)
	labelled := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))
	wait.For(t, func(ctx context.Context) error { return tenant.Patch(ctx, svc, labelled) })
	forged := client.RawPatch(types.MergePatchType, []byte(`{"status":{"conditions":null}}`))
	if err := tenant.Status().Patch(t.Context(), svc, forged); !apierrors.IsForbidden(err) {
		t.Errorf("a tenant writes a status: %v", err)
	}
}

// writes counts requests that change Services.
type writes struct {
	mu   sync.Mutex
	made []string
	next http.RoundTripper
}

func (c *writes) RoundTrip(r *http.Request) (*http.Response, error) {
	if path := r.URL.Path; r.Method != http.MethodGet && strings.Contains(path, "/services/") {
		c.mu.Lock()
		c.made = append(c.made, r.Method+" "+path[strings.Index(path, "/services/"):])
		c.mu.Unlock()
	}
	return c.next.RoundTrip(r)
}

func (c *writes) since() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.made
	c.made = nil
	return made
}

// A Service costs the API server one write to come, one when it answers, and one to go.
func TestWritesOfAServicesLife(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("first"))
	w.stop()
	count := &writes{}
	w.api = rest.CopyConfig(api)
	w.api.Wrap(func(next http.RoundTripper) http.RoundTripper { count.next = next; return count })
	w.start()
	for name, change := range map[string]func(*corev1.Service){"lb": func(*corev1.Service) {}, "np": exposedOn(w.balancer)} {
		came := w.service(name, change)
		if c := w.judged(came); c.Status != metav1.ConditionTrue {
			t.Errorf("%+v", c)
		}
		w.published(w.service("probe-of-" + name))
		coming := count.since()
		w.edit(came, clusterIP, func(s *corev1.Service) { delete(s.Annotations, v1alpha1.BalancerAnnotation) })
		w.until(came, "let go", func(s *corev1.Service) bool { return len(s.Finalizers) == 0 })
		going := count.since()
		w.check(kube.Delete(t.Context(), came))
		only := func(made []string) []string {
			return slices.DeleteFunc(made, func(m string) bool { return !strings.Contains(m, "/services/"+name) })
		}
		coming, going = only(coming), only(going)
		t.Logf("%s: %q, then %q", name, coming, going)
		if len(coming) != 2 || len(going) != 1 {
			t.Errorf("%s: %d writes until it answers, %d until it is gone", name, len(coming), len(going))
		}
	}
	gone := w.service("gone")
	w.published(gone)
	count.since()
	w.check(kube.Delete(t.Context(), gone))
	w.gone(gone)
	if made := count.since(); len(made) != 1 {
		t.Errorf("deleted, it costs %q", made)
	}
}

// Others' conditions stay, whatever we write beside them.
func TestConditionsOfOthersStay(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web", ofAnotherClass)
	theirs := metav1.Condition{
		Type: "example.com/Announced", Status: metav1.ConditionTrue, Reason: "Told", LastTransitionTime: metav1.Now(),
	}
	before := svc.DeepCopy()
	svc.Status.Conditions = []metav1.Condition{theirs}
	w.check(kube.Status().Patch(t.Context(), svc, client.MergeFrom(before)))
	w.edit(svc, exposedOn(w.balancer))
	if c := w.judged(svc); c.Status != metav1.ConditionTrue {
		t.Errorf("%+v", c)
	}
	w.edit(svc, clusterIP)
	fresh := w.until(svc, "let go", func(s *corev1.Service) bool { return len(s.Finalizers) == 0 })
	if len(fresh.Status.Conditions) != 1 || fresh.Status.Conditions[0].Type != theirs.Type {
		t.Errorf("left: %+v", fresh.Status.Conditions)
	}
}
