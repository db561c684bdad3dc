package controllers

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// watches know whether the API server tells at the moment what owners want of Services. Each kind has a watch of
// its own, which breaks and comes back by itself: after an outage Services come seconds before the policies that
// were made before them.
type watches struct {
	mu   sync.Mutex
	lost map[string]time.Time // by kind: since when
	back map[string]time.Time // by kind: when it came back
}

const (
	gap     = 100 * time.Millisecond // an API server ends each watch now and then: the next one begins at once
	catchUp = time.Second            // to hear what there was in a longer one
)

func newWatches() *watches {
	return &watches{lost: map[string]time.Time{}, back: map[string]time.Time{}}
}

// informer is a cache.Options.NewInformer.
func (w *watches) informer(from toolscache.ListerWatcher, of runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
	switch of.(type) {
	case *v1alpha1.UpstreamPolicy:
		from = watched{toolscache.ToListerWatcherWithContext(from), from, w, "UpstreamPolicies"}
	case *v1alpha1.AddressPool:
		from = watched{toolscache.ToListerWatcherWithContext(from), from, w, "AddressPools"}
	}
	return toolscache.NewSharedIndexInformer(from, of, resync, by)
}

// watched tells of the watches of one kind.
type watched struct {
	toolscache.ListerWatcherWithContext
	toolscache.ListerWatcher
	of   *watches
	kind string
}

func (w watched) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	began, err := w.ListerWatcherWithContext.WatchWithContext(ctx, options)
	if err != nil {
		return nil, err
	}
	w.of.began(w.kind)
	return ending{began, sync.OnceFunc(func() { w.of.ended(w.kind) })}, nil
}

// ending is a watch that says when nobody listens to it any more.
type ending struct {
	watch.Interface
	ended func()
}

func (e ending) Stop() {
	e.ended()
	e.Interface.Stop()
}

func (w *watches) began(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if since, lost := w.lost[kind]; lost && time.Since(since) > gap {
		w.back[kind] = time.Now()
	}
	delete(w.lost, kind)
}

func (w *watches) ended(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost[kind] = time.Now()
}

// unheard is a kind of which the API server does not tell, of several always the same; "" if it tells of all.
func (w *watches) unheard() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	kinds := slices.Collect(maps.Keys(w.lost))
	for kind, at := range w.back {
		if time.Since(at) < catchUp {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	return slices.Min(kinds)
}
