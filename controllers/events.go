package controllers

import (
	"context"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/reference"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/internal/conditions"
)

// events writes what happened to whom, behind the writes that users wait for and
// in the order in which it happened to each object. client-go's recorder drops
// what does not fit into its queue; this one keeps it. Only changes are told, so
// there is nothing to aggregate.
type events struct {
	client client.Client
	scheme *runtime.Scheme
	queues [eventWriters]*eventQueue
	last   atomic.Int64 // time of the newest event, in nanoseconds
	busy   sync.RWMutex // held by those who write what users wait for
}

// eventWriters is how many events are written at a time.
const eventWriters = 4

func newEvents(c client.Client, scheme *runtime.Scheme) *events {
	e := &events{client: c, scheme: scheme}
	for i := range e.queues {
		e.queues[i] = &eventQueue{more: make(chan struct{}, 1)}
	}
	return e
}

// eventQueue holds the events of some objects that are not written yet.
type eventQueue struct {
	mu     sync.Mutex
	events []*corev1.Event
	more   chan struct{} // holds one token when there may be events
}

func (q *eventQueue) add(event *corev1.Event) {
	q.mu.Lock()
	q.events = append(q.events, event)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *eventQueue) take() []*corev1.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}

// lastEvents is how long events may still be written when the process ends.
const lastEvents = 5 * time.Second

// Start implements manager.Runnable: it writes until the context ends, and then
// what is left.
func (e *events) Start(ctx context.Context) error {
	var writers sync.WaitGroup
	for _, q := range e.queues {
		writers.Go(func() {
			for {
				select {
				case <-q.more:
					e.flush(ctx, q)
				case <-ctx.Done():
					last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastEvents)
					defer cancel()
					e.flush(last, q)
					return
				}
			}
		})
	}
	writers.Wait()
	return nil
}

func (e *events) flush(ctx context.Context, q *eventQueue) {
	for _, event := range q.take() {
		e.wait()
		// An ending context must not lose those that were taken.
		ctx := context.WithoutCancel(ctx)
		err := e.client.Create(ctx, event)
		if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			log.FromContext(ctx).Error(err, "Event not written", "reason", event.Reason, "message", event.Message)
		}
	}
}

// wait until nobody is busy.
func (e *events) wait() {
	e.busy.Lock()
	defer e.busy.Unlock()
}

const eventSource = "external-lb"

func (e *events) normal(ctx context.Context, obj client.Object, reason, format string, args ...any) {
	e.write(ctx, obj, corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...))
}

func (e *events) warning(ctx context.Context, obj client.Object, reason, format string, args ...any) {
	e.write(ctx, obj, corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...))
}

// maxEventMessage is what the API server accepts.
const maxEventMessage = 1024

func (e *events) write(ctx context.Context, obj client.Object, kind, reason, message string) {
	ref, err := reference.GetReference(e.scheme, obj)
	if err != nil {
		log.FromContext(ctx).Error(err, "Event not written", "reason", reason, "message", message)
		return
	}
	ref.ResourceVersion = ""
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	at := e.now()
	now := metav1.NewTime(time.Unix(0, at))
	event := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: eventName(obj.GetName(), at)},
		InvolvedObject:      *ref,
		Type:                kind,
		Reason:              reason,
		Message:             conditions.Cut(message, maxEventMessage),
		Source:              corev1.EventSource{Component: eventSource},
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
		ReportingController: eventSource,
	}
	e.queues[crc32.ChecksumIEEE([]byte(ref.UID))%eventWriters].add(event)
}

// now is later than any time that it returned before.
func (e *events) now() int64 {
	for {
		last := e.last.Load()
		now := max(time.Now().UnixNano(), last+1)
		if e.last.CompareAndSwap(last, now) {
			return now
		}
	}
}

// eventName sorts by time: the timestamps of events have seconds only, and
// kubectl lists those of one second by name.
func eventName(object string, at int64) string {
	suffix := fmt.Sprintf(".%016x", at)
	return strings.TrimRight(object[:min(len(object), validation.DNS1123SubdomainMaxLength-len(suffix))], "-.") + suffix
}
