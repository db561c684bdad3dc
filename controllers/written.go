package controllers

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// written remembers the Services that this process wrote until the cache has
// seen them, so that a reconcile never repeats a write, nor acts on a state
// from before it.
type written struct {
	mu       sync.Mutex
	services map[types.UID]*corev1.Service
}

func newWritten() *written { return &written{services: map[types.UID]*corev1.Service{}} }

// add remembers a Service as the API server answered it.
func (w *written) add(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.services[svc.UID] = svc
}

// newest is the newer of a Service from the cache and what was written since.
func (w *written) newest(cached *corev1.Service) *corev1.Service {
	w.mu.Lock()
	defer w.mu.Unlock()
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

// forget drops a Service that is gone.
func (w *written) forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.services, uid)
}
