package ui

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ui/page"
)

// ours are the events that the controller writes.
var ours = fields.OneTermEqualSelector("source", "external-lb")

const (
	askEvery   = 5 * time.Second        // whether the cluster still answers
	askTimeout = 5 * time.Second        // one such question
	atLeast    = 100 * time.Millisecond // between two looks at what has changed
)

// watch follows a cluster and makes pages of it.
type watch struct {
	config *rest.Config
	scheme *runtime.Scheme
	hub    *hub

	loaded     bool   // something was shown
	unanswered string // why the cluster does not answer now
}

// kinds that are read: those of `status`, and events.
func kinds() []kind { return append(ofManagers(), kind{&corev1.Event{}, &corev1.EventList{}}) }

// ofManagers are the kinds that a manager reads anyhow.
func ofManagers() []kind {
	return []kind{
		{&v1alpha1.Balancer{}, &v1alpha1.BalancerList{}}, {&v1alpha1.AddressPool{}, &v1alpha1.AddressPoolList{}},
		{&v1alpha1.UpstreamPolicy{}, &v1alpha1.UpstreamPolicyList{}},
		{&corev1.Service{}, &corev1.ServiceList{}}, {&corev1.Node{}, &corev1.NodeList{}}, {&corev1.Namespace{}, &corev1.NamespaceList{}},
		{&discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{}},
	}
}

type kind struct {
	object client.Object
	list   client.ObjectList
}

// ask is why what is shown cannot be read, nil if it can.
func ask(ctx context.Context, kube client.Reader, of []kind) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, k := range of {
		err := kube.List(ctx, k.list, client.Limit(1))
		if meta.IsNoMatchError(err) {
			return errors.New("external-lb is not installed in this cluster: kubectl apply -k config/default")
		}
		if err != nil {
			return fmt.Errorf("asking the API server: %w", err)
		}
	}
	return nil
}

// run follows the cluster until the context ends. When the cluster answers again after it
// did not, it begins anew: what follows objects would wait for up to a minute.
func (w *watch) run(ctx context.Context, kube client.Reader) error {
	for ctx.Err() == nil {
		if err := w.session(ctx, kube); err != nil {
			return err
		}
	}
	return nil
}

// session ends when the cluster answers again, or with the context.
func (w *watch) session(ctx context.Context, kube client.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	c, err := w.follow(ctx, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	answers := make(chan error)
	go answer(ctx, func() error { return ask(ctx, kube, kinds()) }, answers)
	next := (<-chan struct{})(changed)
	var pause <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next:
			began := time.Now()
			if err := w.show(ctx, c); err != nil {
				return err
			}
			next, pause = nil, time.After(max(atLeast, 2*time.Since(began)))
		case <-pause:
			next, pause = changed, nil
		case err := <-answers:
			if err != nil {
				w.unanswered = err.Error()
				w.tell()
			} else if w.unanswered != "" {
				w.unanswered = ""
				return nil
			}
		}
	}
}

// answer asks the cluster again and again whether it answers.
func answer(ctx context.Context, ask func() error, answers chan<- error) {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := ask()
		select {
		case answers <- err:
		case <-ctx.Done():
			return
		}
	}
}

// follow calls changed when everything was read, and after every change.
func (w *watch) follow(ctx context.Context, changed func()) (cache.Cache, error) {
	c, err := cache.New(w.config, cache.Options{
		Scheme: w.scheme, ReaderFailOnMissingInformer: true, DefaultTransform: cache.TransformStripManagedFields(),
		ByObject:                     map[client.Object]cache.ByObject{&corev1.Event{}: {Field: ours}},
		DefaultUnsafeDisableDeepCopy: new(true),                                              // nothing changes what is read
		DefaultWatchErrorHandler:     func(context.Context, *toolscache.Reflector, error) {}, // answer tells
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	if err := hear(ctx, c, kinds(), changed); err != nil {
		return nil, err
	}
	go func() {
		_ = c.Start(ctx) // it ends with the context, without an error
	}()
	go func() {
		if c.WaitForCacheSync(ctx) {
			changed()
		}
	}()
	return c, nil
}

// hear calls changed after every change of what there is of some kinds.
func hear(ctx context.Context, c cache.Informers, of []kind, changed func()) error {
	for _, k := range of {
		informer, err := c.GetInformer(ctx, k.object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("following the cluster: %w", err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
		}); err != nil {
			return fmt.Errorf("following the cluster: %w", err)
		}
	}
	return nil
}

// show makes a page of what is read. Before all of it is, it shows what was shown before.
func (w *watch) show(ctx context.Context, c cache.Cache) error {
	for _, k := range kinds() {
		informer, err := c.GetInformer(ctx, k.object, cache.BlockUntilSynced(false))
		if err != nil || !informer.HasSynced() {
			return nil // it is told when all have
		}
	}
	items, err := paint(ctx, c, kinds())
	if err != nil {
		return err
	}
	w.hub.publish(ofObjects, items)
	w.loaded = true
	w.tell()
	return nil
}

func (w *watch) tell() {
	w.hub.tell(connection{Server: w.config.Host, Problem: w.unanswered, Loaded: w.loaded})
}

// paint makes a page of what is read of some kinds. Nothing changes that.
func paint(ctx context.Context, from client.Reader, of []kind) ([]page.Item, error) {
	lists := make([]client.ObjectList, len(of))
	for i, k := range of {
		lists[i] = k.list.DeepCopyObject().(client.ObjectList)
		if err := from.List(ctx, lists[i], client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("reading what was followed: %w", err)
		}
	}
	var o page.Objects
	for _, list := range lists {
		switch l := list.(type) {
		case *v1alpha1.BalancerList:
			o.Balancers = pointers(l.Items)
		case *v1alpha1.AddressPoolList:
			o.Pools = l.Items
		case *v1alpha1.UpstreamPolicyList:
			o.Policies = pointers(l.Items)
		case *corev1.ServiceList:
			o.Services = pointers(l.Items)
		case *corev1.NodeList:
			o.Nodes = pointers(l.Items)
		case *corev1.NamespaceList:
			o.Namespaces = pointers(l.Items)
		case *discoveryv1.EndpointSliceList:
			o.Slices = pointers(l.Items)
		case *corev1.EventList:
			o.Events = pointers(l.Items)
		}
	}
	items, err := page.Of(o)
	if err != nil {
		return nil, fmt.Errorf("making the page: %w", err)
	}
	return items, nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
