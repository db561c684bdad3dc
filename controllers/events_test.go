package controllers

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/builder"
)

// eventServer takes events, but for the errors that a test asks for.
type eventServer struct {
	client.Client
	fails func(e *corev1.Event, try int) error // a try of this event, from 1; nil: all pass

	mu      sync.Mutex
	tries   map[string]int
	created []string
	counts  map[string]int32 // by message
}

func (s *eventServer) Create(ctx context.Context, obj client.Object, _ ...client.CreateOption) error {
	return s.take(ctx, obj.(*corev1.Event), true)
}

func (s *eventServer) Patch(ctx context.Context, obj client.Object, _ client.Patch, _ ...client.PatchOption) error {
	return s.take(ctx, obj.(*corev1.Event), false)
}

func (s *eventServer) take(ctx context.Context, e *corev1.Event, creates bool) error {
	s.mu.Lock()
	s.tries[e.Message]++
	try := s.tries[e.Message]
	s.mu.Unlock()
	if s.fails != nil {
		if err := s.fails(e, try); err != nil {
			if errors.Is(err, errHangs) {
				<-ctx.Done()
			}
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if creates {
		s.created = append(s.created, e.Message)
	}
	s.counts[e.Message] = e.Count
	return nil
}

// errHangs is that of an API server that never answers.
var errHangs = errors.New("no answer")

// tell writes events of one Service until all that can be written are, and returns what
// was created and how long it took to end.
func (s *eventServer) tell(t *testing.T, messages ...string) (created []string, ending time.Duration) {
	t.Helper()
	s.tries, s.counts = map[string]int{}, map[string]int32{}
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(s, Scheme())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Start(ctx) }()
		svc := builder.Service("default", "web").Obj()
		for _, message := range messages {
			e.warning(ctx, svc, "Reason", "%s", message)
		}
		time.Sleep(time.Hour) // of the bubble
		cancel()
		ended := time.Now()
		if err := <-done; err != nil {
			t.Error(err)
		}
		ending = time.Since(ended)
	})
	return s.created, ending
}

// An event is written though the API server did not take it at first, in its order. One
// that it will never take holds up no other.
func TestEventsAreWrittenAgain(t *testing.T) {
	events := schema.GroupResource{Resource: "events"}
	for name, c := range map[string]struct {
		fails error
		times int // how often the first event fails
		lost  bool
	}{
		"no connection":             {errors.New("connection refused"), 20, false},
		"too many requests":         {apierrors.NewTooManyRequests("later", 1), 20, false},
		"not available":             {apierrors.NewServiceUnavailable("etcd"), 20, false},
		"an error of the server's":  {apierrors.NewInternalError(errors.New("etcdserver: leader changed")), 3, false},
		"an error that never ends":  {apierrors.NewInternalError(errors.New("webhook")), 1000, true},
		"denied":                    {apierrors.NewForbidden(events, "e", errors.New("policy")), 1000, true},
		"written, the answer lost":  {apierrors.NewAlreadyExists(events, "e"), 1000, true},
		"it takes longer than ever": {errHangs, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &eventServer{fails: func(e *corev1.Event, try int) error {
				if e.Message == "first" && try <= c.times {
					return c.fails
				}
				return nil
			}}
			want := []string{"first", "second"}
			if c.lost {
				want = want[1:]
			}
			if got, _ := s.tell(t, "first", "second"); !slices.Equal(got, want) {
				t.Errorf("created %q, want %q", got, want)
			}
		})
	}
}

// The same again is counted, not written anew; and what is nearly the same ends up in one.
func TestEventsAreCounted(t *testing.T) {
	s := &eventServer{}
	if got, _ := s.tell(t, "same", "same", "other", "same"); !slices.Equal(got, []string{"same", "other"}) || s.counts["same"] != 3 {
		t.Errorf("created %q, counted %v", got, s.counts)
	}
	s = &eventServer{}
	var many []string
	for i := range 1000 {
		many = append(many, time.Duration(i).String())
	}
	if got, _ := s.tell(t, many...); len(got) > 2*similarEvents {
		t.Errorf("%d events of %d that are alike", len(got), len(many))
	}
}

// Whoever brings something about again and again hides nothing else of the same object.
func TestEventsOfAnotherReasonAreWritten(t *testing.T) {
	s := &eventServer{}
	s.tries, s.counts = map[string]int{}, map[string]int32{}
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(s, Scheme())
		edge := builder.Balancer("edge").Obj()
		for i := range 3 * burstEvents {
			e.warning(t.Context(), edge, "ServicesRefused", "%d", i)
		}
		e.warning(t.Context(), edge, "HostRemoved", "lb2")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := e.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	if !slices.Contains(s.created, "lb2") {
		t.Errorf("created %q", s.created)
	}
}

// The end of the process waits a little for events that are not written, and no longer.
func TestEventsEnd(t *testing.T) {
	s := &eventServer{fails: func(*corev1.Event, int) error { return errHangs }}
	if _, took := s.tell(t, "first", "second"); took > lastEvents {
		t.Errorf("it took %v to end", took)
	}
}
