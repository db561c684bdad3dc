package controllers

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// written remembers the Services that this process wrote until the cache has
// seen them, so that a reconcile never repeats a write, nor acts on a state
// from before it.
type written struct {
	mu       sync.Mutex
	services map[types.UID]*corev1.Service
	by       string        // the Balancer whose reconcile writes
	echoes   map[echo]bool // versions from which nothing follows for whoever wrote them
	// touched are the Services that a Balancer wrote since it looked at them last.
	touched  map[string]map[types.UID]types.NamespacedName
	statuses map[types.UID]client.Object // Balancers and pools, as services
}

// echo is what a Balancer wrote, and what comes back as an event.
type echo struct {
	balancer string
	uid      types.UID
	version  string
}

func newWritten() *written {
	return &written{
		services: map[types.UID]*corev1.Service{}, echoes: map[echo]bool{},
		touched: map[string]map[types.UID]types.NamespacedName{}, statuses: map[types.UID]client.Object{},
	}
}

// mostEchoes that are waited for. One that is forgotten costs a look.
const mostEchoes = 100_000

// begin the reconcile of a Balancer: one runs at a time.
func (w *written) begin(balancer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by = balancer
	if len(w.echoes) > mostEchoes { // not each version comes
		clear(w.echoes)
	}
}

// final notes that nothing follows from what was written.
func (w *written) final(answer client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.echoes[echo{w.by, answer.GetUID(), answer.GetResourceVersion()}] = true
}

// isEcho reports whether a version of an object is one from which nothing follows, once.
func (w *written) isEcho(balancer string, uid types.UID, version string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := echo{balancer, uid, version}
	is := w.echoes[key]
	delete(w.echoes, key)
	return is
}

// add remembers a Service as the API server answered it.
func (w *written) add(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.services[svc.UID] = svc
	if w.touched[w.by] == nil {
		w.touched[w.by] = map[types.UID]types.NamespacedName{}
	}
	w.touched[w.by][svc.UID] = client.ObjectKeyFromObject(svc)
}

// newest is the newer of a Service from the cache and what was written since.
func (w *written) newest(cached *corev1.Service) *corev1.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newer(cached)
}

// replace Services by the newest.
func (w *written) replace(cached []*corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 0; i < len(cached) && len(w.services) > 0; i++ {
		cached[i] = w.newer(cached[i])
	}
}

func (w *written) newer(cached *corev1.Service) *corev1.Service {
	ours, ok := w.services[cached.UID]
	if !ok {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, ours.ResourceVersion); err == nil && order < 0 {
		return ours
	}
	delete(w.services, cached.UID)
	return cached
}

// touch adds to some Services those that a Balancer wrote since it looked at them last, once.
func (w *written) touch(balancer string, some map[types.UID]types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(some, w.touched[balancer])
	delete(w.touched, balancer)
}

// leave forgets what was touched in the name of a Balancer that there is not: nobody looks at it.
func (w *written) leave(balancer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.touched, balancer)
}

// only keeps the statuses of Balancers and pools that there are.
func (w *written) only(balancers []*v1alpha1.Balancer, pools []v1alpha1.AddressPool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.statuses, func(uid types.UID, _ client.Object) bool {
		return !slices.ContainsFunc(balancers, func(b *v1alpha1.Balancer) bool { return b.UID == uid }) &&
			!slices.ContainsFunc(pools, func(p v1alpha1.AddressPool) bool { return p.UID == uid })
	})
}

// keep a Balancer or a pool as the API server answered its status.
func (w *written) keep(answer client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statuses[answer.GetUID()] = answer
}

// newestStatus is the newer of a Balancer or a pool from the cache and what was written since.
func newestStatus[T client.Object](w *written, cached T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours, ok := w.statuses[cached.GetUID()].(T)
	if !ok {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(cached.GetResourceVersion(), ours.GetResourceVersion()); err == nil && order < 0 {
		return ours
	}
	delete(w.statuses, cached.GetUID())
	return cached
}

// forget drops a Service that is gone.
func (w *written) forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.services, uid)
}

// foreseen reports whether an answer to a patch of a Service has nothing but what was known
// of it, and what was written: else somebody else has changed it meanwhile.
func foreseen(before, answer *corev1.Service, metadata, status object) bool {
	_, annotated := metadata["annotations"]
	_, published := status["loadBalancer"]
	wrote := map[string]bool{}
	patch, _ := status["conditions"].([]any)
	for _, c := range patch {
		switch c := c.(type) {
		case metav1.Condition:
			wrote[c.Type] = true
		case object:
			wrote[c["type"].(string)] = true
		}
	}
	others := func(svc *corev1.Service) []metav1.Condition {
		return slices.DeleteFunc(slices.Clone(svc.Status.Conditions), func(c metav1.Condition) bool { return wrote[c.Type] })
	}
	return !annotated && maps.Equal(before.Annotations, answer.Annotations) && maps.Equal(before.Labels, answer.Labels) &&
		(before.DeletionTimestamp == nil) == (answer.DeletionTimestamp == nil) &&
		!slices.ContainsFunc(before.Finalizers, func(f string) bool { return !slices.Contains(answer.Finalizers, f) }) &&
		equality.Semantic.DeepEqual(before.Spec, answer.Spec) &&
		(published || equality.Semantic.DeepEqual(before.Status.LoadBalancer, answer.Status.LoadBalancer)) &&
		equality.Semantic.DeepEqual(others(before), others(answer))
}
