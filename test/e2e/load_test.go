package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// load asks an address all the time, each time over a new connection.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	asked  int          // requests
	open   map[int]bool // of them, which have no answer yet
	sent   int          // and ended
	errors []error
	lastOf map[string]int // how many answers there were when a pod gave its last one
	pods   int            // answers
}

// perSecond requests are sent, as many as upstream sends.
const perSecond = 100

// startLoad asks until the test stops it; judge sees every answer.
func (s *scene) startLoad(address string, port int32, judge func(cluster.Answer) error) *load {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	l := &load{stop: stop, open: map[int]bool{}, lastOf: map[string]int{}}
	s.t.Cleanup(func() { stop(); l.done.Wait() })
	l.done.Go(func() {
		ticker := time.NewTicker(time.Second / perSecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				l.done.Go(func() { l.one(context.WithoutCancel(ctx), s, address, port, judge) })
			}
		}
	})
	return l
}

// lostAfter is when a request has failed, and is not slow because the machine is busy.
const lostAfter = 30 * time.Second

func (l *load) one(ctx context.Context, s *scene, address string, port int32, judge func(cluster.Answer) error) {
	l.mu.Lock()
	l.asked++
	n := l.asked
	l.open[n] = true
	began := time.Now()
	l.mu.Unlock()
	answer, err := s.webWithin(ctx, lostAfter, "client", address, port)
	if err == nil && judge != nil {
		err = judge(answer)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, n)
	l.sent++
	if err != nil {
		l.errors = append(l.errors, fmt.Errorf("%s, in %s: %w", began.Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), err))
		return
	}
	l.pods++
	l.lastOf[answer.Pod] = l.pods
}

// answered waits for so many more answers.
func (l *load) answered(t *testing.T, more int) {
	t.Helper()
	l.mu.Lock()
	want := l.pods + more
	l.mu.Unlock()
	wait.For(t, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.pods < want {
			return fmt.Errorf("%d answers, want %d; %d errors", l.pods, want, len(l.errors))
		}
		return nil
	})
}

// from waits for an answer of a pod: then it is in use.
func (l *load) from(t *testing.T, pod string) {
	t.Helper()
	wait.For(t, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lastOf[pod] == 0 {
			return fmt.Errorf("none of %d answers is by %s", l.pods, pod)
		}
		return nil
	})
}

// quiet waits until a pod gives none of so many answers, from now on, and has none of the
// requests that were made until then: then it has drained.
func (l *load) quiet(t *testing.T, pod string, answers int) {
	t.Helper()
	l.mu.Lock()
	began, until := l.pods, 0
	l.mu.Unlock()
	wait.For(t, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if last := max(l.lastOf[pod], began); l.pods < last+answers {
			until = 0
			return fmt.Errorf("%s still answers: %d of %d", pod, last, l.pods)
		}
		if until == 0 {
			until = l.asked
		}
		return l.ended(until) // the pod may be at it, however slowly
	})
}

// onTheirWayEnd waits until all requests have ended that were made until now.
func (l *load) onTheirWayEnd(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	until := l.asked
	l.mu.Unlock()
	wait.For(t, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.ended(until)
	})
}

// ended are the first requests, so many; else it says which is not.
func (l *load) ended(until int) error {
	for n := range l.open {
		if n <= until {
			return fmt.Errorf("request %d of %d is not answered yet", n, until)
		}
	}
	return nil
}

// stopped stops the load and says how many requests have failed.
func (l *load) stopped() (lost int) {
	l.stop()
	l.done.Wait()
	return len(l.errors)
}

// end stops the load and fails the test if a request did.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stopped()
	if len(l.errors) > 0 {
		t.Errorf("%d of %d requests failed, the first: %v, the last: %v", len(l.errors), l.sent, l.errors[0], l.errors[len(l.errors)-1])
	}
	t.Logf("%d requests, %d failed", l.sent, len(l.errors))
}

// follow asks an address, one request after the other, until it is told to end; then it
// says which apps have answered, in their order, each as often as it took over.
func (s *scene) follow(address string, port int32) (end func() []string) {
	ctx, stop := context.WithCancel(s.t.Context())
	var apps []string
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			asked, cancel := context.WithTimeout(ctx, time.Second)
			answer, err := s.web(asked, address, port)
			cancel()
			if app := answer.Labels["app"]; err == nil && (len(apps) == 0 || apps[len(apps)-1] != app) {
				apps = append(apps, app)
			}
		}
	})
	end = func() []string { stop(); done.Wait(); return apps }
	s.t.Cleanup(func() { end() })
	return end
}
