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
	copy    *podCopy  // nil: none
	since   time.Time // from when on they are not known
}

// podCopy is what is read of all Pods.
type podCopy struct {
	informer toolscache.SharedIndexInformer
	stop     context.CancelFunc
	why      error // it cannot be read, as far as that is known
}

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
		p.begin(nil)
	}
}

// begin a copy.
func (p *pods) begin(why error) {
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
	go c.informer.RunWithContext(ctx)
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), c.informer.HasSynced) {
			p.readable()
		}
	}()
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
			return w, nil
		},
	}
}

// failed notes why a copy cannot be kept, and begins another if it was complete.
func (p *pods) failed(c *podCopy, err error) error {
	if err == nil || p.running.Err() != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.copy != c {
		return err // somebody has thrown it away
	}
	news := c.why == nil || c.why.Error() != err.Error()
	if c.why = err; c.informer.HasSynced() {
		p.since = time.Now()
		c.stop()
		p.begin(err)
	}
	if news {
		go p.readable()
	}
	return err
}

// patience is how long nobody is told that Pods cannot be read: they are read anew whenever
// an API server was away.
const patience = 10 * time.Second

// unread is why the Pods are not known, "" if they are. soon: they may be in a moment.
func (p *pods) unread() (why string, soon bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	soon = p.running == nil || time.Since(p.since) < patience
	switch c := p.copy; {
	case c == nil:
		return "nobody has asked for them yet", soon
	case c.informer.HasSynced():
		return "", false
	case apierrors.IsForbidden(c.why):
		return "the controller lacks the right to list and watch Pods, which config/components/pods gives, and pods.enabled of the chart", false
	case c.why != nil:
		return fmt.Sprintf("%.300v", c.why), soon
	default:
		return "they have not been read yet", soon
	}
}

// in finds the Pods of a namespace by name.
func (p *pods) in(namespace string) func(name string) *translate.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.copy == nil {
		return func(string) *translate.Pod { return nil }
	}
	store := p.copy.informer.GetStore()
	return func(name string) *translate.Pod {
		obj, there, err := store.GetByKey(namespace + "/" + name)
		if pod, ok := obj.(*storedPod); ok && there && err == nil {
			return pod.Pod
		}
		return nil
	}
}
