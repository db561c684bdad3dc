package controllers

import (
	"context"
	"errors"
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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	clientrecord "k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/internal/text"
)

// events writes what happened to whom, behind the writes that users wait for and
// in the order in which it happened to each object: see docs/design/0015-events.md.
type events struct {
	client client.Client
	scheme *runtime.Scheme
	queues [eventWriters]*eventQueue
	same   *clientrecord.EventCorrelator // counts what is told again, and bounds what one object tells
	last   atomic.Int64                  // time of the newest event, in nanoseconds
	busy   chan struct{}                 // full while somebody writes what users wait for
}

const (
	// eventWriters is how many events are written at a time.
	eventWriters = 4
	// queuedEvents of each writer at most: those of some ten thousand Services that
	// get their addresses at once.
	queuedEvents = 10_000

	// Of one object and reason, more events than similarEvents in ten minutes become
	// one; burstEvents may follow each other, and then one in each half minute.
	similarEvents  = 20
	burstEvents    = 50
	steadyEventQPS = 1. / 30

	lastEvents  = 5 * time.Second  // how long events may still be written when the process ends
	eventAnswer = 10 * time.Second // how long the API server may take for one
	eventTries  = 8                // of one that the API server fails on
	eventPause  = 10 * time.Second // between two tries, at most
)

func newEvents(c client.Client, scheme *runtime.Scheme) *events {
	e := &events{client: c, scheme: scheme, busy: make(chan struct{}, 1)}
	e.same = clientrecord.NewEventCorrelatorWithOptions(clientrecord.CorrelatorOptions{
		MaxEvents: similarEvents, BurstSize: burstEvents, QPS: steadyEventQPS, SpamKeyFunc: objectAndReason,
	})
	for i := range e.queues {
		e.queues[i] = &eventQueue{more: make(chan struct{}, 1)}
	}
	return e
}

// objectAndReason share a bound: what somebody brings about again and again hides nothing else of the same object.
func objectAndReason(event *corev1.Event) string {
	return string(event.InvolvedObject.UID) + event.InvolvedObject.Name + " " + event.Reason
}

// eventQueue holds the events of some objects that are not written yet.
type eventQueue struct {
	mu     sync.Mutex
	events []*corev1.Event
	more   chan struct{} // holds one token when there may be events
}

// add is false where the queue is full.
func (q *eventQueue) add(event *corev1.Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) >= queuedEvents {
		return false
	}
	q.events = append(q.events, event)
	select {
	case q.more <- struct{}{}:
	default:
	}
	return true
}

// take returns the oldest event, nil if there is none.
func (q *eventQueue) take() *corev1.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return nil
	}
	event := q.events[0]
	q.events[0] = nil
	q.events = q.events[1:]
	return event
}

// Start implements manager.Runnable: it writes until the context ends, and then
// what is left, for a while.
func (e *events) Start(ctx context.Context) error {
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastEvents, cancel) })()
	var writers sync.WaitGroup
	for _, q := range e.queues {
		writers.Go(func() { e.work(ctx, last, q) })
	}
	writers.Wait()
	return nil
}

// work writes one queue's events until ctx ends and nothing is left, or last ends.
func (e *events) work(ctx, last context.Context, q *eventQueue) {
	for e.idle(last) {
		event := q.take()
		if event != nil {
			e.send(last, event)
			continue
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			if e.idle(last) && len(q.more) == 0 {
				return
			}
		}
	}
}

// hold keeps events from being written until release is called.
func (e *events) hold() (release func()) {
	e.busy <- struct{}{}
	return func() { <-e.busy }
}

// idle waits until nobody holds events; false: the context ended.
func (e *events) idle(ctx context.Context) bool {
	select {
	case e.busy <- struct{}{}:
		<-e.busy
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// send writes one event, and tries again where that may help.
func (e *events) send(ctx context.Context, event *corev1.Event) {
	result, err := e.same.EventCorrelate(event)
	if err != nil || result.Skip {
		return // this object has told enough
	}
	pause := eventPause / 64
	for try := 1; ; try++ {
		if err = e.try(ctx, result); err == nil {
			e.same.UpdateState(result.Event)
			return
		}
		if neverTaken(err) || apierrors.IsInternalError(err) && try == eventTries || ctx.Err() != nil {
			if !gone(err) {
				log.FromContext(ctx).Error(err, "Event not written", "reason", event.Reason, "message", event.Message)
			}
			return
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, eventPause)
		case <-ctx.Done():
		}
	}
}

func (e *events) try(ctx context.Context, result *clientrecord.EventCorrelateResult) error {
	ctx, cancel := context.WithTimeout(ctx, eventAnswer)
	defer cancel()
	event := result.Event
	if result.Patch != nil {
		err := e.client.Patch(ctx, event, client.RawPatch(types.StrategicMergePatchType, result.Patch))
		if !apierrors.IsNotFound(err) {
			return err
		}
		event.ResourceVersion = "" // events are kept for an hour
	}
	err := e.client.Create(ctx, event)
	if apierrors.IsAlreadyExists(err) {
		return nil // the answer to the last try was lost
	}
	return err
}

// neverTaken reports whether the API server would refuse the same again.
func neverTaken(err error) bool {
	status, answered := errors.AsType[*apierrors.StatusError](err)
	return answered && status.ErrStatus.Code/100 == 4 && !apierrors.IsTooManyRequests(err)
}

// gone reports whether an event was too late: its namespace is deleted.
func gone(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err)
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
		Message:             text.Cut(message, maxEventMessage),
		Source:              corev1.EventSource{Component: eventSource},
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
		ReportingController: eventSource,
	}
	if !e.queues[crc32.ChecksumIEEE([]byte(ref.UID))%eventWriters].add(event) {
		log.FromContext(ctx).Info("Event not written: too many wait", "reason", reason, "message", message)
	}
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
