package controllers

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// kindWrites counts what a manager writes, by the kind of the object.
type kindWrites struct {
	mu sync.Mutex
	of map[string]int
}

// count the requests of a client.
func (w *kindWrites) count(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		parts := strings.Split(r.URL.Path, "/")
		for _, kind := range []string{"services", "events", "balancers", "addresspools"} {
			if r.Method != http.MethodGet && slices.Contains(parts, kind) {
				w.mu.Lock()
				w.of[kind]++
				w.mu.Unlock()
			}
		}
		return next.RoundTrip(r)
	})
}

func (w *kindWrites) take() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.of
	w.of = map[string]int{}
	return out
}

// What one Service's life costs the API server: its record, its address, its end, and what
// people are told. Nothing is written again for what was written.
func TestWritesOfAllKinds(t *testing.T) {
	w := newWorld(t)
	counted := &kindWrites{of: map[string]int{}}
	w.stop()
	w.api = rest.CopyConfig(api)
	w.api.Wrap(counted.count)
	w.start()
	w.inSync()
	total := map[string]int{}
	step := func(what string, most map[string]int) {
		t.Helper()
		w.inSync()
		got := counted.take()
		t.Logf("%s: %v", what, got)
		for kind, n := range got {
			total[kind] += n
			if n > most[kind] {
				t.Errorf("%s: %d writes of %s, more than %d", what, n, kind, most[kind])
			}
		}
	}
	step("start", map[string]int{"balancers": 9, "addresspools": 9, "events": 9})
	svc := w.service("web")
	w.published(svc)
	w.event(svc, v1alpha1.EventEnsured, "answers")
	step("created", map[string]int{"services": 2, "events": 2, "balancers": 2, "addresspools": 1})
	digest := w.digest()
	fresh := w.until(svc, "there", func(*corev1.Service) bool { return true })
	bare := fresh.DeepCopy()
	fresh.Spec.Ports[0].Port = 81
	w.check(kube.Patch(t.Context(), fresh, client.MergeFrom(bare)))
	wait.For(t, func(context.Context) error {
		if w.digest() == digest {
			return fmt.Errorf("not delivered")
		}
		return nil
	})
	w.event(svc, v1alpha1.EventUpdated, "live")
	step("changed", map[string]int{"events": 1, "balancers": 2})
	w.check(kube.Delete(t.Context(), svc))
	w.gone(svc)
	w.event(svc, v1alpha1.EventDeleted, "withdrawn")
	step("deleted", map[string]int{"services": 1, "events": 2, "balancers": 2, "addresspools": 1})
	t.Logf("in all: %v of %v", total, slices.Sorted(maps.Keys(total)))
}

// inSync waits until the world's Balancer says that its host has what it should, and of
// how many Services.
func (w *world) inSync() {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		var b v1alpha1.Balancer
		var services corev1.ServiceList
		w.check(kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b))
		w.check(kube.List(ctx, &services, client.InNamespace(w.namespace)))
		if !meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionReady) || b.Status.HostsInSync != "1/1" ||
			int(b.Status.Services) != len(services.Items) || b.Status.Hosts[0].Digest != b.Status.Hosts[0].DesiredDigest {
			return fmt.Errorf("%+v", b.Status)
		}
		return nil
	})
}

// digest of what the world's host has live.
func (w *world) digest() (digest string) {
	w.host.set(func(h *fakeHost) { digest = string(h.live.Manifest().Digest()) })
	return digest
}
