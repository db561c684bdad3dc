package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// podGate is on the way to an API server: shut, Pods are forbidden, also to who reads them already.
type podGate struct {
	http.RoundTripper
	mu   sync.Mutex
	shut bool
	open []io.Closer // watches
}

func (g *podGate) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/api/v1/pods" {
		return g.RoundTripper.RoundTrip(r)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		status := `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"pods is forbidden"}`
		return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(status)), Request: r}, nil
	}
	response, err := g.RoundTripper.RoundTrip(r)
	if err == nil {
		g.open = append(g.open, response.Body)
	}
	return response, err
}

func (g *podGate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = shut; shut {
		for _, body := range g.open {
			body.Close() // of the test
		}
		g.open = nil
	}
}

// pod is one with an address, ready behind a Service.
func (w *world) pod(service, name, address string) {
	w.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "c"}}}}
	w.create(pod)
	pod.Status.Phase, pod.Status.PodIP, pod.Status.PodIPs = corev1.PodRunning, address, []corev1.PodIP{{IP: address}}
	w.check(kube.Status().Update(context.Background(), pod))
	w.create(builder.EndpointSlice(w.namespace, name, discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, service).
		Port("p80", 8080).Pod(name, address).Manifest())
}

func (w *world) unpod(name string) {
	w.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	for _, obj := range []client.Object{pod, builder.EndpointSlice(w.namespace, name, "").Manifest()} {
		w.check(kube.Delete(context.Background(), obj, client.GracePeriodSeconds(0)))
	}
}

// sends waits until the host is to send a Service to these.
func (w *world) sends(svc *corev1.Service, want string) {
	w.t.Helper()
	wait.For(w.t, func(context.Context) error {
		if got := w.sent(svc); got != want {
			return fmt.Errorf("sends to %q, want %q", got, want)
		}
		return nil
	})
}

func (w *world) sent(svc *corev1.Service) string {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	for it := range w.host.wanted.All() {
		part, err := lb.Decode(it)
		s, ok := part.(*lb.Service)
		if err != nil || !ok || s.ID.Name != svc.Name {
			continue
		}
		var all []string
		for _, e := range s.Frontends[0].Endpoints {
			all = append(all, e.Address.String())
		}
		return strings.Join(all, " ")
	}
	return "nothing: it is not carried"
}

func (w *world) change(change func(*v1alpha1.Balancer)) {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		b := w.look(ctx)
		change(b)
		return kube.Update(ctx, b)
	})
}

func (w *world) look(ctx context.Context) *v1alpha1.Balancer {
	b := &v1alpha1.Balancer{}
	w.check(kube.Get(ctx, client.ObjectKey{Name: w.balancer}, b))
	return b
}

func (w *world) accepted(reason string) {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		c := meta.FindStatusCondition(w.look(ctx).Status.Conditions, v1alpha1.ConditionAccepted)
		if c == nil || c.Reason != reason {
			return fmt.Errorf("want %s: %+v", reason, c)
		}
		return nil
	})
}

// The right to read Pods goes, and comes again, whatever rolls out meanwhile: what is live stays.
func TestPods_WithoutTheRightNothingIsTakenAway(t *testing.T) {
	w := newWorld(t)
	w.stop()
	g := &podGate{}
	w.api = rest.CopyConfig(api)
	w.api.Wrap(func(rt http.RoundTripper) http.RoundTripper { g.RoundTripper = rt; return g })
	w.start()
	svc := w.service("web", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false) })
	w.pod("web", "web-1", "10.244.0.1")
	w.change(func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backends = v1alpha1.BackendsPods })
	w.sends(svc, "10.244.0.1:8080")
	w.published(svc)

	g.set(true)
	w.accepted(v1alpha1.ReasonPodsUnreadable)
	w.pod("web", "web-2", "10.244.0.2")
	w.unpod("web-1")
	w.restart()
	w.accepted(v1alpha1.ReasonPodsUnreadable)
	w.change(func(b *v1alpha1.Balancer) { b.Spec.Reload.MinInterval = "2ms" }) // which is looked at
	wait.For(t, func(ctx context.Context) error {
		if b := w.look(ctx); b.Status.ObservedGeneration < b.Generation {
			return errors.New("it was not looked at yet")
		}
		return nil
	})
	if got := w.sent(svc); got != "10.244.0.1:8080" {
		t.Errorf("it sends to %q", got)
	}
	g.set(false)
	w.accepted(v1alpha1.ReasonAccepted)
	w.sends(svc, "10.244.0.2:8080")
	w.published(svc)
}

// A pod that comes or goes is followed, and so are those that its EndpointSlice names too early.
func TestPods_AreFollowed(t *testing.T) {
	w := newWorld(t)
	w.change(func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backends = v1alpha1.BackendsPods })
	svc := w.service("web")
	w.sends(svc, "")
	w.until(svc, "told", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Reason == v1alpha1.ReasonNoEndpoints
	})
	w.pod("web", "web-1", "10.244.0.1")
	w.sends(svc, "10.244.0.1:8080")
	w.pod("web", "web-2", "10.244.0.2")
	w.sends(svc, "10.244.0.1:8080 10.244.0.2:8080")
	w.unpod("web-1")
	w.sends(svc, "10.244.0.2:8080")
	pod := &corev1.Pod{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "web-2"}, pod))
	pod.Status.PodIP, pod.Status.PodIPs = "10.244.0.9", []corev1.PodIP{{IP: "10.244.0.9"}}
	w.check(kube.Status().Update(t.Context(), pod))
	w.sends(svc, "") // its slice names an address that it no longer has
	w.change(func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backends = v1alpha1.BackendsNodes })
	wait.True(t, "it sends to nodes", func() bool { return w.toNodes(svc) })
	w.unpod("web-2")
}

// toNodes reports whether the host is to send a Service to nodes.
func (w *world) toNodes(svc *corev1.Service) bool {
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	for it := range w.host.wanted.All() {
		if part, err := lb.Decode(it); err == nil {
			if s, ok := part.(*lb.Service); ok && s.ID.Name == svc.Name {
				return !s.Pods && s.IPv4.Targets.All
			}
		}
	}
	return false
}
