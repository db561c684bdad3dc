package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/bench/report"
)

// times are when something was first seen of each Service.
type times struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (t *times) note(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, seen := t.at[name]; !seen {
		t.at[name] = time.Now()
	}
}

func (t *times) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.at)
}

func (t *times) has(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.at[name]
	return ok
}

// hasAll of so many names. Others may be there, too.
func (t *times) hasAll(name func(int) string, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := 0; len(t.at) >= n && i < n; i++ {
		if t.at[name(i)].IsZero() {
			return false
		}
	}
	return len(t.at) >= n
}

// since when each Service was asked for: what half of them waited, and 99 of 100.
func (t *times) since(asked *times) map[report.Metric]float64 {
	var waited []float64
	for name, at := range asked.at {
		waited = append(waited, max(0, t.at[name].Sub(at).Seconds())) // it may be seen before the answer is
	}
	slices.Sort(waited)
	return map[report.Metric]float64{report.P50: waited[len(waited)/2], report.P99: waited[len(waited)*99/100]}
}

// watcher sees what becomes of Services, as their users would.
type watcher struct {
	published, changed, gone times
	stop                     func()
}

func (b *bench) watch(ctx context.Context) (*watcher, error) {
	kube, err := b.kube()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{stop: cancel}
	for _, t := range []*times{&w.published, &w.changed, &w.gone} {
		t.at = map[string]time.Time{}
	}
	if err := w.start(ctx, kube); err != nil {
		cancel()
		return nil, err
	}
	return w, nil
}

func (w *watcher) start(ctx context.Context, kube kubernetes.Interface) error {
	services := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithNamespace(namespace))
	events := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "reason=" + v1alpha1.EventUpdated }))
	_, err := services.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, obj any) {
			if svc := obj.(*corev1.Service); len(svc.Status.LoadBalancer.Ingress) > 0 {
				w.published.note(svc.Name)
			}
		},
		DeleteFunc: func(obj any) {
			if svc, ok := obj.(*corev1.Service); ok { // else the watch was cut, and a list of all came
				w.gone.note(svc.Name)
			}
		},
	})
	if err != nil {
		return err
	}
	note := func(obj any) { w.changed.note(obj.(*corev1.Event).InvolvedObject.Name) }
	_, err = events.Core().V1().Events().Informer().AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, old bool) {
			if !old { // else it is of another run
				note(obj)
			}
		},
		UpdateFunc: func(_, obj any) { note(obj) },
	})
	if err != nil {
		return err
	}
	for _, f := range []informers.SharedInformerFactory{services, events} {
		f.Start(ctx.Done())
		f.WaitForCacheSync(ctx.Done())
	}
	return nil
}

// each does something to Services by parallel clients, and returns when the API server had answered.
func (b *bench) each(ctx context.Context, first, n int, do func(kubernetes.Interface, string) error) (*times, error) {
	kube, err := b.kube()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var errs []error
	answered := &times{at: map[string]time.Time{}}
	todo := make(chan int)
	var clients sync.WaitGroup
	for range b.options.creators {
		clients.Go(func() {
			for i := range todo {
				if err := do(kube, serviceName(i)); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				answered.note(serviceName(i))
			}
		})
	}
	for i := first; i < first+n && ctx.Err() == nil; i++ {
		todo <- i
	}
	close(todo)
	clients.Wait()
	return answered, errors.Join(errs...)
}

func (b *bench) create(ctx context.Context, first, n int) (*times, error) {
	return b.each(ctx, first, n, func(kube kubernetes.Interface, name string) error {
		_, err := kube.CoreV1().Services(namespace).Create(ctx, b.service(name), metav1.CreateOptions{})
		return err
	})
}

// otherPort is what a Service has after it was changed.
const otherPort = `[{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]`

func (b *bench) change(ctx context.Context, first, n int) (*times, error) {
	defer func() { b.changes += float64(n) }()
	return b.each(ctx, first, n, func(kube kubernetes.Interface, name string) error {
		_, err := kube.CoreV1().Services(namespace).Patch(ctx, name, types.JSONPatchType, []byte(otherPort), metav1.PatchOptions{})
		return err
	})
}

func (b *bench) remove(ctx context.Context, first, n int) (*times, error) {
	return b.each(ctx, first, n, func(kube kubernetes.Interface, name string) error {
		return kube.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	})
}
