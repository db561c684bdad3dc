package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/internal/translate"
)

// pods are the Pods of the cluster: they are read only while a Balancer sends to pods, since that
// takes a right which others need not give. A copy that has missed something must not be
// taken for the truth: an endpoint whose Pod is not in it would get nothing, and after a roll-out no
// endpoint's would be. So what fails is thrown away, and read anew.
type pods struct {
	client corev1client.PodsGetter
	// changed is told of a Pod, and readable that all of them can be read, or not.
	changed  func(namespace, name string)
	readable func()

	mu      sync.Mutex
	running context.Context // nil: not yet
	wanted  bool
	copy    *podCopy      // nil: none
	since   time.Time     // from when on they are not known
	pause   time.Duration // before another copy is begun: see lost
}

// podCopy is what is read of all Pods.
type podCopy struct {
	informer toolscache.SharedIndexInformer
	stop     context.CancelFunc
	why      error     // it cannot be read, as far as that is known
	watched  time.Time // from when on it is told of changes; zero: it is not
}

// whole reports whether a copy has all Pods, and is told of changes: only then is it read.
func (c *podCopy) whole() bool { return c.informer.HasSynced() && !c.watched.IsZero() }

// storedPod is what the copy has of one.
type storedPod struct {
	metav1.ObjectMeta // namespace, name and version
	*translate.Pod
}

// Start implements manager.Runnable.
func (p *pods) Start(ctx context.Context) error {
	p.mu.Lock()
	p.running = ctx
	wanted := p.wanted
	p.mu.Unlock()
	p.want(wanted)
	<-ctx.Done()
	return nil
}

// want begins to read Pods, or ends it.
func (p *pods) want(wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.wanted = wanted; {
	case p.running == nil:
	case !wanted && p.copy != nil:
		p.copy.stop()
		p.copy = nil
	case wanted && p.copy == nil:
		p.since = time.Now()
		p.begin(nil, 0)
	}
}

// begin a copy, after a while.
func (p *pods) begin(why error, after time.Duration) {
	ctx, stop := context.WithCancel(p.running)
	c := &podCopy{stop: stop, why: why}
	c.informer = toolscache.NewSharedIndexInformer(p.listWatch(c), &corev1.Pod{}, 0, toolscache.Indexers{})
	p.copy = c
	told := toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, first bool) {
			if !first { // of those that were there, all Services are told at once
				p.tell(obj)
			}
		},
		UpdateFunc: func(before, after any) {
			if !samePod(before.(*storedPod), after.(*storedPod)) {
				p.tell(after)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			p.tell(obj)
		},
	}
	if _, err := c.informer.AddEventHandler(told); err != nil {
		c.why = err
		return
	}
	if err := c.informer.SetTransform(storePod); err != nil {
		c.why = err
		return
	}
	if err := c.informer.SetWatchErrorHandlerWithContext(logUnread); err != nil {
		c.why = err
		return
	}
	go func() {
		select {
		case <-time.After(after):
			c.informer.RunWithContext(ctx)
		case <-ctx.Done():
		}
	}()
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), func() bool { return p.holds(c) }) {
			p.readable()
		}
	}()
}

// logUnread is for who looks into it: Balancers say in their conditions that Pods cannot be read.
func logUnread(ctx context.Context, _ *toolscache.Reflector, err error) {
	if !errors.Is(err, errAnew) {
		log.FromContext(ctx).Info("Pods not read", "reason", err.Error())
	}
}

func (p *pods) tell(obj any) {
	if pod, ok := obj.(*storedPod); ok {
		p.changed(pod.Namespace, pod.Name)
	}
}

func samePod(a, b *storedPod) bool {
	return a.UID == b.UID && a.HostNetwork == b.HostNetwork && a.Finished == b.Finished && slices.Equal(a.Addresses, b.Addresses)
}

// storePod keeps of a Pod what is read.
func storePod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	meta := metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
	return &storedPod{meta, translate.ReadPod(pod)}, nil
}

// unfinished Pods are those of which an address may be their own.
const unfinished = "status.phase!=Succeeded,status.phase!=Failed"

// errAnew is a copy that would be filled again behind the back of those who read it.
var errAnew = errors.New("they are being read anew")

func (p *pods) listWatch(c *podCopy) *toolscache.ListWatch {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if c.informer.HasSynced() {
				return nil, p.failed(c, errAnew)
			}
			p.follows(c, false)
			o.FieldSelector = unfinished
			list, err := p.client.Pods(metav1.NamespaceAll).List(ctx, o)
			return list, p.failed(c, err)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if o.SendInitialEvents != nil && *o.SendInitialEvents && c.informer.HasSynced() {
				return nil, p.failed(c, errAnew)
			}
			o.FieldSelector = unfinished
			w, err := p.client.Pods(metav1.NamespaceAll).Watch(ctx, o)
			if p.failed(c, err) != nil {
				return nil, err
			}
			p.follows(c, true)
			return w, nil
		},
	}
}

// follows notes whether a copy is told of changes.
func (p *pods) follows(c *podCopy, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !is:
		c.watched = time.Time{}
	case c.watched.IsZero():
		c.watched, c.why = time.Now(), nil
	}
}

// failed notes why a copy cannot be kept, and begins another if it was filled.
func (p *pods) failed(c *podCopy, err error) error {
	if err == nil || p.running.Err() != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.copy != c {
		return err // somebody has thrown it away
	}
	was := c.why
	if was == nil || !errors.Is(err, errAnew) {
		c.why = err
	}
	if c.informer.HasSynced() {
		c.stop()
		p.lost(c)
		p.begin(c.why, p.pause)
	}
	if was == nil || was.Error() != c.why.Error() {
		go p.readable()
	}
	return err
}

// A copy that did not live for long may be one of many: each costs the API server a list of all Pods.
const (
	longLife     = time.Minute
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// lost notes how long a copy lived.
func (p *pods) lost(c *podCopy) {
	if now := time.Now(); c.whole() && now.Sub(c.watched) >= longLife {
		p.since, p.pause = now, 0
		return
	}
	p.pause = min(max(2*p.pause, firstPause), longestPause)
}

// patience is how long nobody is told that Pods cannot be read: they are read anew whenever
// an API server was away.
const patience = 10 * time.Second

// read returns a copy to look all Pods up in, which another may replace at any time: see holds.
// unread is why there is none, "" if there is. soon: there may be one in a moment.
func (p *pods) read() (c *podCopy, unread string, soon bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	soon = p.running == nil || time.Since(p.since) < patience
	switch c = p.copy; {
	case c == nil:
		return nil, "nobody has asked for them yet", soon
	case c.whole():
		return c, "", false
	case apierrors.IsForbidden(c.why):
		return nil, "the controller lacks the right to list and watch Pods, which config/components/pods gives, and pods.enabled of the chart", false
	case c.why != nil:
		return nil, fmt.Sprintf("%.300v", c.why), soon
	default:
		return nil, "they have not been read yet", soon
	}
}

// holds reports whether a copy is still the one to read.
func (p *pods) holds(c *podCopy) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.copy == c && c.whole()
}

// in finds the Pods of a namespace by name.
func (c *podCopy) in(namespace string) func(name string) *translate.Pod {
	store := c.informer.GetStore()
	return func(name string) *translate.Pod {
		obj, there, err := store.GetByKey(namespace + "/" + name)
		if pod, ok := obj.(*storedPod); ok && there && err == nil {
			return pod.Pod
		}
		return nil
	}
}
